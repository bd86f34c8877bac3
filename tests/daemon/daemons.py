"""A whole daemon as a process of its own, with jobs that do what the tests say, before a fake media server.

Run as ``python -m tests.daemon.daemons FILE [--takeover]`` it is ``greenroom start`` with the jobs of
``tests.jobs.runners``.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias

import tests
from greenroom.daemon import daemon
from greenroom.jobs import pool
from greenroom.ops import logs
from greenroom.ops.asking import Door, ask_status
from greenroom.ops.facts import Status
from greenroom.settings_file import load
from greenroom.testing.fake_server import FakeServer, FakeWorker, job
from tests.jobs.greenrooms import PATIENCE, RUNNER

__all__ = ["Entry", "House", "RunningDaemon"]

Entry: TypeAlias = dict[str, Any]


class RunningDaemon:
    """One process. Its log, and that of its jobs and of daemons that it starts, is ``log``."""

    def __init__(self, house: House, process: asyncio.subprocess.Process, log: asyncio.StreamReader) -> None:
        self.process = process
        self.log: list[Entry] = []
        self._house = house
        self._reading = asyncio.ensure_future(self._read(log))

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        self.process.send_signal(number)

    async def end_now(self) -> None:
        """The two signals that end the calls, too. Sent at once they would be one."""
        asked = len(self.entries("asked to stop"))
        self.kill(signal.SIGTERM)
        await self.said("asked to stop", asked + 1)
        self.kill(signal.SIGTERM)

    async def exit(self) -> int:
        """The code that it ends with."""
        async with asyncio.timeout(PATIENCE):
            return await self.process.wait()

    async def said(self, event: str, count: int = 1, **fields: object) -> Entry:
        """The ``count``-th log entry of this event that has these fields."""
        found: list[Entry] = []

        def met() -> bool:
            found[:] = self.entries(event, **fields)
            return len(found) >= count

        await self._house.until(met)
        return found[count - 1]

    def entries(self, event: str, **fields: object) -> list[Entry]:
        return [entry for entry in self.log if entry["event"] == event and fields.items() <= entry.items()]

    async def close(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        self._reading.cancel()
        with suppress(asyncio.CancelledError):
            await self._reading

    async def _read(self, log: asyncio.StreamReader) -> None:
        while line := await log.readline():
            with suppress(ValueError):
                self.log.append(json.loads(line))
            self._house.news.set()


class House:
    """A fake server, a run directory, and as many daemons as are started in it, one after the other or at once."""

    def __init__(self, folder: Path, server: FakeServer) -> None:
        self.server = server
        self.file = folder / "worker.yaml"
        self.run_dir = folder / "run"
        self.daemons: list[RunningDaemon] = []
        self.workers: list[FakeWorker] = []
        self.news = asyncio.Event()
        self._folder = folder
        self._transports: list[asyncio.ReadTransport] = []

    def write(self, worker: str = "", agents: str = "[{name: host, llm: {plugin: script}, instructions: x}]") -> None:
        """The settings. ``worker``: more of its keys, as YAML's inner text."""
        settings = self.server.settings()
        self.file.write_text(
            f"server: {{url: '{settings.url}', api_key: {settings.api_key}, api_secret: {settings.api_secret}}}\n"
            f"agents: {agents}\n"
            f"worker: {{warm: 1, run_dir: run, state_dir: state, admin: {{enabled: false}}, {worker}}}\n"
        )

    async def start(self, *options: str, environment: Mapping[str, str] | None = None) -> RunningDaemon:
        """Start one; it is not ready yet."""
        log, kept = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.daemon.daemons", str(self.file), *options),
                stdin=asyncio.subprocess.DEVNULL,
                stderr=kept,
                env=os.environ | {"PYTHONPATH": str(Path(tests.__file__).parent.parent)} | dict(environment or {}),
                start_new_session=True,
            )
        finally:
            os.close(kept)
        reader = asyncio.StreamReader(limit=1 << 20)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(log, "rb", buffering=0)
        )
        self._transports.append(transport)
        started = RunningDaemon(self, process, reader)
        self.daemons.append(started)
        return started

    async def open(self, *options: str, **more: Any) -> tuple[RunningDaemon, FakeWorker]:
        """Start one and wait until it is registered."""
        started = await self.start(*options, **more)
        return started, await self.worker()

    async def worker(self) -> FakeWorker:
        """The next that registers."""
        async with asyncio.timeout(PATIENCE):
            worker = await self.server.worker()
        self.workers.append(worker)
        return worker

    async def call(self, worker: FakeWorker, job_id: str, **fields: Any) -> None:
        """A job that is offered, accepted, assigned, and in its room."""
        described = job(job_id, **{"agent_name": "host", "room": f"room-{job_id}", **fields})
        async with asyncio.timeout(PATIENCE):
            answer = await worker.offer(described)
            assert answer.available
            await worker.assign(described)
            assert (await worker.job_updates.get()).job_id == job_id
        await self.until(lambda: self.entries("job joined", job=job_id))

    async def until(self, met: Callable[[], object]) -> None:
        """Looked at after each line of a log, and now and then."""
        async with asyncio.timeout(PATIENCE):
            while not met():
                self.news.clear()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self.news.wait(), 0.05)

    def entries(self, event: str, **fields: object) -> list[Entry]:
        """Of all logs."""
        return [entry for one in self.daemons for entry in one.entries(event, **fields)]

    @property
    def door(self) -> Door:
        """Where the daemon that holds the place is asked."""
        return Door(self.run_dir / "admin.sock")

    async def status(self) -> Status:
        return await ask_status(self.door)

    async def until_status(self, met: Callable[[Status], object]) -> Status:
        async with asyncio.timeout(PATIENCE):
            while not met(status := await self.status()):
                with suppress(TimeoutError):
                    await asyncio.wait_for(self.news.wait(), 0.05)
        return status

    async def close(self) -> None:
        pids = {int(entry["pid"]) for entry in self.entries("job joined") + self.entries("starting")}
        for one in self.daemons:
            await one.close()
        for pid in pids:
            if _is_ours(pid):
                os.kill(pid, signal.SIGKILL)
        for transport in self._transports:
            transport.close()
        await self.server.stop()


def _is_ours(pid: int) -> bool:
    """Whether this process was started by these tests: pids are used again."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return b"greenroom.jobs.forkserver" in words or b"tests.daemon.daemons" in words


@asynccontextmanager
async def open_house(folder: Path, worker: str = "", **more: str) -> AsyncIterator[House]:
    async with FakeServer() as server:
        house = House(folder, server)
        house.write(worker, **more)
        try:
            yield house
        finally:
            await house.close()


def main(file: Path, *, takeover: bool) -> int:
    pool.RUNNER = RUNNER
    pool.preload_items = lambda settings: settings.worker.preload
    settings = load(file)
    logs.configure("debug", "json")
    logs.hide(settings.server.api_secret)
    return daemon.run(settings, takeover=takeover)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), takeover="--takeover" in sys.argv))
