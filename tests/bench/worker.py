"""A worker under test: an opaque command, its process tree, its output. What it costs is read from /proc."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import psutil

from tests.bench.contract import AGENT, REGISTERED
from tests.bench.user import now

__all__ = ["Contender", "Memory", "Worker", "WorkerFailed"]

HERE = Path(__file__).parent
START = 60.0
"""Seconds that a worker may take to register."""
LOOK = 0.1
CALM_STRETCH = 0.5
CALM_STRETCHES = 3
"""A tree has settled when it was calm in so many stretches in a row."""
SETTLE = 30.0
STOP = 5.0
TAIL = 2000


class WorkerFailed(RuntimeError):
    """The worker did not do what the contract asks; the message ends with what its log said last."""


@dataclass(frozen=True, slots=True)
class Contender:
    """``command``: run without a shell; ``{here}`` is this folder, ``{python}`` the driver's interpreter."""

    name: str
    command: str

    @staticmethod
    def parse(text: str) -> Contender:
        name, _, command = text.partition("=")
        if not name or not command:
            raise ValueError(f"{text!r} is no contender; expected NAME=COMMAND")
        return Contender(name, command)

    @property
    def argv(self) -> list[str]:
        return [part.format(python=sys.executable, here=HERE) for part in shlex.split(self.command)]


@dataclass(frozen=True, slots=True)
class Memory:
    """Of a process tree, MB."""

    pss: float
    rss: float
    processes: int


class Worker:
    """One run of a contender. ``idle``: warm slots for jobs."""

    def __init__(self, contender: Contender, *, server: tuple[str, str, str], idle: int) -> None:
        url, key, secret = server
        self.name = contender.name
        self._port = int(url.rsplit(":", 1)[1].strip("/"))
        self._folder = tempfile.TemporaryDirectory(prefix="bench-")
        self.log = Path(self._folder.name, "log")
        output: BinaryIO
        with self.log.open("wb") as output:
            self._process = subprocess.Popen(
                contender.argv,
                env={
                    **os.environ,
                    "LIVEKIT_URL": url,
                    "LIVEKIT_API_KEY": key,
                    "LIVEKIT_API_SECRET": secret,
                    "BENCH_AGENT_NAME": AGENT,
                    "BENCH_IDLE": str(idle),
                    "BENCH_STATE": self._folder.name,
                    "PYTHONUNBUFFERED": "1",
                },
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._root = psutil.Process(self._process.pid)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """``None`` while it runs."""
        return self._process.poll()

    def tree(self) -> list[psutil.Process]:
        with suppress(psutil.Error):
            return [self._root, *self._root.children(recursive=True)]
        return []

    def cpu(self) -> float:
        """Seconds of processor time of the tree so far, of children that are gone and were waited for too."""
        total = 0.0
        for process in self.tree():
            with suppress(psutil.Error):
                total += sum(process.cpu_times()[:4])
        return total

    def memory(self) -> Memory:
        kb, processes = {"Pss:": 0, "Rss:": 0}, self.tree()
        for process in processes:
            with suppress(OSError):
                for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines():
                    key, *rest = line.split()
                    if key in kb:
                        kb[key] += int(rest[0])
        return Memory(kb["Pss:"] / 1024, kb["Rss:"] / 1024, len(processes))

    def job_processes(self) -> list[int]:
        """Those with a connection to the media server of their own, the root apart; the root where there are none."""
        found = []
        for process in self.tree()[1:]:
            with suppress(psutil.Error):
                if any(_leads_to(connection, self._port) for connection in process.net_connections("tcp")):
                    found.append(process.pid)
        return found or [self.pid]

    async def registered(self) -> None:
        """Raises ``WorkerFailed``."""
        start = now()
        while REGISTERED not in self.log.read_text(errors="replace"):
            if self.exit_code is not None or now() - start > START:
                raise WorkerFailed(f"{self.name} did not register; its log:\n{self.tail()}")
            await asyncio.sleep(LOOK)

    async def settle(self, cores: float = 0.1) -> bool:
        """Wait until the tree has the processes that it has and uses less than ``cores``; ``False``: it does not."""
        start, calm = now(), 0
        while calm < CALM_STRETCHES:
            if now() - start > SETTLE:
                return False
            before, cpu, at = {process.pid for process in self.tree()}, self.cpu(), now()
            await asyncio.sleep(CALM_STRETCH)
            same = before == {process.pid for process in self.tree()}
            calm = calm + 1 if same and self.cpu() - cpu < cores * (now() - at) else 0
        return True

    def terminate(self) -> None:
        """SIGTERM to the root, as an operator would."""
        self._process.send_signal(signal.SIGTERM)

    async def exited(self, timeout: float) -> float | None:
        """After how many seconds it was gone; ``None`` when it stayed."""
        start = now()
        with suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(self._process.wait, timeout)
        return None if self.exit_code is None else now() - start

    async def stop(self) -> None:
        if self.exit_code is None:
            self.terminate()
            await self.exited(STOP)
        with suppress(ProcessLookupError):  # the process group is this worker's own
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        self._folder.cleanup()

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-TAIL:]


def _leads_to(connection: Any, port: int) -> bool:
    """``connection``: psutil's, whose far end is empty while it listens."""
    return bool(connection.raddr) and connection.raddr.port == port and connection.status == psutil.CONN_ESTABLISHED
