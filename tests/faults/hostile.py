"""A media server that sends what no media server should: the codec and the protocol neither crash nor hang."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack

from tests.faults.house import ROOT
from tests.faults.scenario import Scenario, Trial

__all__ = ["HostileServer"]


class HostileServer(Scenario):
    """One trial is a run of ``tests.server.hostile``, which has a program of its own."""

    name = "hostile-server"
    fault = "100,000 malformed and hostile messages of the server"
    times = 1
    calls = 0

    async def open(self, stack: AsyncExitStack) -> None:
        pass

    async def run(self) -> Trial:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.server.hostile"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=ROOT,
        )
        said, _ = await process.communicate()
        last = said.decode(errors="replace").splitlines()[-20:]
        return Trial(wrong=("\n".join(last),) if process.returncode else ())
