"""A media server and a worker for the tests of a module, and callers who ring them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio

from greenroom.embedded.caller import Caller
from greenroom.embedded.console import open_room
from greenroom.embedded.loglines import LogLine
from greenroom.embedded.mediaserver import MediaServer
from greenroom.embedded.microphone import SAMPLE_RATE, Spoken
from greenroom.embedded.utterance import spoken
from greenroom.embedded.workerprocess import WorkerProcess
from greenroom.settings import ServerSettings

AGENTS = Path(__file__).with_name("agents.yaml")


@dataclass
class House:
    """The running whole. ``server_log``: the media server's; ``log``: the worker's lines with when they were read."""

    media: MediaServer
    worker: WorkerProcess
    server_log: Path
    log: list[tuple[float, LogLine]] = field(default_factory=list)

    @property
    def server(self) -> ServerSettings:
        return ServerSettings(url=self.media.url, api_key=self.media.api_key, api_secret=self.media.api_secret)

    def lines(self, event: str, *, since: float = 0.0) -> list[LogLine]:
        return [line for when, line in self.log if line.event == event and when >= since]

    async def wait_line(self, event: str, *, since: float, timeout: float) -> tuple[float, LogLine]:
        """The first line of this event after ``since`` (``time.monotonic``), and when it came."""
        async with asyncio.timeout(timeout):
            while True:
                for when, line in self.log:
                    if line.event == event and when >= since:
                        return when, line
                await asyncio.sleep(0.02)

    @asynccontextmanager
    async def call(self, agent: str = "e2e") -> AsyncIterator[Caller]:
        """A caller in a new room, once the agent has come and its greeting is over."""
        entrance = open_room(self.server, agent=agent, prefix="e2e", identity="caller")
        async with Caller(entrance, said=lambda speaker, text: None) as caller:
            joined = await caller.wait_for_agent(timeout=15.0)
            await caller.wait_for_voice(after=joined, timeout=15.0)
            await caller.wait_for_pause(since=joined, timeout=30.0)
            try:
                yield caller
            except Exception as error:
                error.add_note(self._account(caller, since=joined))
                raise

    def _account(self, caller: Caller, *, since: float) -> str:
        """What there is to know of a call that went wrong."""
        log = [f"{when - since:7.2f} {line.event} {dict(line.fields)}" for when, line in self.log if when >= since]
        said = [f"{side}: {caller.transcript.text(side, since=since)}" for side in ("user", "agent")]
        return "\n".join(["since the agent joined:", *log, *said])

    def pid_of(self, caller: Caller) -> int:
        """The process that serves this caller."""
        job = caller.agent_identity.removeprefix("agent-")
        return next(int(line.fields["pid"]) for line in self.lines("joined") if line.fields.get("job") == job)


async def speak(caller: Caller, text: str) -> Spoken:
    return await caller.speak((await spoken(text, sample_rate=SAMPLE_RATE)).pcm)


async def ask(caller: Caller, text: str) -> str:
    """Say something and wait for the end of the answer; its text."""
    began = time.monotonic()
    words = await speak(caller, text)
    answered = await caller.wait_for_voice(after=words.ended, timeout=20.0)
    await caller.wait_for_pause(since=answered, timeout=60.0)
    return caller.transcript.text("agent", since=began)


@asynccontextmanager
async def open_house(folder: Path, config: Path, *, registrations: int = 1) -> AsyncIterator[House]:
    """A media server, and a worker with these settings, of so many agents. Its files are in ``folder``; modules are
    found beside both."""
    settings = _settled(folder, config)
    async with MediaServer(log_file=folder / "server.log") as media:
        server = {"LIVEKIT_URL": media.url, "LIVEKIT_API_KEY": media.api_key, "LIVEKIT_API_SECRET": media.api_secret}
        log: list[tuple[float, LogLine]] = []
        worker = WorkerProcess(settings, environment=server, observe=lambda line: log.append((time.monotonic(), line)))
        try:
            await worker.start(registrations=registrations)
            await worker.wait_ready()
            yield House(media, worker, folder / "server.log", log)
        finally:
            await worker.stop()


def _settled(folder: Path, config: Path) -> Path:
    settings = folder / "agents.yaml"
    settings.write_text(config.read_text() + f"  run_dir: {folder / 'run'}\n  state_dir: {folder / 'state'}\n")
    return settings


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    async with open_house(tmp_path_factory.mktemp("house"), AGENTS) as house:
        yield house
