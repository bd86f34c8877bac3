"""One run: a caller speaks from the moment of capture, the agent is called later, and what it heard comes back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from livekit import api
from playwright.async_api import Browser

from greenroom.embedded.loglines import LogLine
from greenroom.embedded.mediaserver import MediaServer
from greenroom.embedded.workerprocess import WorkerProcess
from greenroom.server.dispatch import create_dispatch
from greenroom.settings import ServerSettings
from tests.instant.clients import Call, Client, Front, chromium, front
from tests.instant.relay import Relay, relay
from tests.instant.tap import FOLDER, Tapped
from tests.instant.words import Source, speech

__all__ = ["AFTER", "House", "Run", "house"]

CONFIG = Path(__file__).with_name("agents.yaml")
AFTER = 2.0
"""Seconds of live audio after the agent has joined."""
LONGEST = 4.0
PATIENCE = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """``dispatch``: seconds from the beginning of capture until the agent is called. ``notice``: how long the news
    that the track is listened to is held back."""

    client: Client
    dispatch: float
    notice: float


@dataclass
class House:
    """What all runs share."""

    server: ServerSettings
    relay: Relay
    front: Front
    browser: Browser
    source: Source
    folder: Path
    log: list[tuple[float, LogLine]]

    async def run(self, run: Run) -> Tapped:
        """What the agent's process wrote down. Raises ``TimeoutError`` when no agent comes or nothing is written."""
        self.relay.delay = run.notice
        call = await self.front.call(self.browser, run.client, self.source)
        try:
            await self.dispatch(call, "tap", after=run.dispatch)
            await self.joined(call)
            await asyncio.sleep(AFTER)
            await self.end(call)
            return await self.tapped(call)
        finally:
            await call.end()

    async def dispatch(self, call: Call, agent: str, *, after: float) -> float:
        """Call the agent so long after capture began; when that was."""
        await asyncio.sleep(max(0.0, call.began + after - time.monotonic()))
        called = time.monotonic()
        await create_dispatch(self.server, room=call.room, agent_name=agent)
        return called

    async def joined(self, call: Call) -> float:
        """When the agent's process said that it is in the room."""
        async with asyncio.timeout(PATIENCE):
            while True:
                for when, line in self.log:
                    if line.event == "joined" and line.fields.get("room") == call.room:
                        return when
                await asyncio.sleep(0.02)

    async def end(self, call: Call) -> None:
        """Delete the room, which ends the call for both."""
        async with api.LiveKitAPI(self.server.url, self.server.api_key, self.server.api_secret) as server:
            await server.room.delete_room(api.DeleteRoomRequest(room=call.room))

    async def tapped(self, call: Call) -> Tapped:
        path = self.folder / f"{call.room}.npz"
        async with asyncio.timeout(PATIENCE):
            while not path.exists():  # noqa: ASYNC110  # another process writes it
                await asyncio.sleep(0.05)
        return await asyncio.to_thread(Tapped.read, path)


@asynccontextmanager
async def house(folder: Path, *, agents: int = 2) -> AsyncIterator[House]:
    """A media server, a worker, a relay, a browser and the speech. ``folder``: a new one of the caller's."""
    source = await speech(LONGEST + AFTER + 2.0)
    config, taps = folder / "agents.yaml", folder / "taps"
    taps.mkdir()
    config.write_text(CONFIG.read_text() + f"  run_dir: {folder / 'run'}\n  state_dir: {folder / 'state'}\n")
    log: list[tuple[float, LogLine]] = []
    async with AsyncExitStack() as stack:
        media = await stack.enter_async_context(MediaServer())
        server = ServerSettings(url=media.url, api_key=media.api_key, api_secret=media.api_secret)
        environment = {
            "LIVEKIT_URL": media.url,
            "LIVEKIT_API_KEY": media.api_key,
            "LIVEKIT_API_SECRET": media.api_secret,
            FOLDER: str(taps),
        }
        worker = WorkerProcess(
            config, environment=environment, observe=lambda line: log.append((time.monotonic(), line))
        )
        stack.push_async_callback(worker.stop)
        await worker.start(registrations=agents)
        await worker.wait_ready()
        passing = await stack.enter_async_context(relay(media.url))
        outside = ServerSettings(url=passing.url, api_key=media.api_key, api_secret=media.api_secret)
        served = await stack.enter_async_context(front(outside))
        browser = await stack.enter_async_context(chromium())
        yield House(server, passing, served, browser, source, taps, log)
