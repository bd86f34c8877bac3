"""The whole daemon with a model host: it is there, told of, taken over, and gone."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil

import tests
from greenroom.ops.facts import Status
from greenroom.ops.wording import overview
from tests.daemon.daemons import House, open_house
from tests.models.conftest import Notes, until
from tests.models.fakes import NAME, install

AGENTS = "[{{name: host, llm: {{plugin: script}}, instructions: x, tts: {{plugin: {name}, notes: '{notes}'}}}}]"


def ready(status: Status) -> bool:
    return status.model_host is not None and status.model_host.ready


async def until_ready(house: House, *, other_than: int = 0) -> int:
    """The pid of the host that is ready."""
    status = await house.until_status(
        lambda status: ready(status) and status.model_host is not None and status.model_host.pid != other_than
    )
    assert status.model_host is not None
    return status.model_host.pid or 0


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def test_a_host_comes_and_goes_with_its_daemon(folder: Path, notes: Notes) -> None:
    root = Path(tests.__file__).parent.parent
    path = os.pathsep.join((str(install(folder / "more")), str(root)))
    async with open_house(folder, agents=AGENTS.format(name=NAME, notes=notes)) as house:
        first, _ = await house.open(environment={"PYTHONPATH": path})
        old = await until_ready(house)
        status = await house.until_status(ready)
        assert status.model_host is not None
        assert [(one.kind, one.provider) for one in status.model_host.models] == [("tts", NAME)]
        assert f"tts {NAME}" in overview(status)
        assert (house.run_dir / "models.sock").is_socket()

        # Killed, it is there again.
        os.kill(old, signal.SIGKILL)
        newer = await until_ready(house, other_than=old)
        assert first.entries("model host died", exit="SIGKILL")

        # A daemon that takes over has one of its own; the old one ends, as nobody uses it.
        second, _ = await house.open("--takeover", environment={"PYTHONPATH": path})
        assert await first.exit() == 0
        newest = await until_ready(house, other_than=newer)
        await until(lambda: gone(newer))
        assert not gone(newest)

        # A daemon that is killed leaves it behind, and the next one makes another in its place.
        second.kill()
        await second.exit()
        third, _ = await house.open(environment={"PYTHONPATH": path})
        last = await until_ready(house, other_than=newest)
        await until(lambda: gone(newest))
        third.kill(signal.SIGTERM)
        assert await third.exit() == 0
        assert gone(last)
        assert list(house.run_dir.glob("models*")) == []
