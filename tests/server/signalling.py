"""What tests put opposite the real media server: someone in a room, a worker that does not answer."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import psutil
from livekit.protocol import agent
from yarl import URL

from greenroom.embedded.mediaserver import MediaServer
from greenroom.server.link import agent_url, mint_worker_token
from greenroom.settings import ServerSettings

__all__ = ["in_room", "settings_of", "signal_server", "silent_worker"]


def settings_of(server: MediaServer, **overrides: Any) -> ServerSettings:
    known = {"url": server.url, "api_key": server.api_key, "api_secret": server.api_secret}
    return ServerSettings(**{**known, **overrides})


def signal_server(server: MediaServer, number: signal.Signals) -> None:
    """To the process that listens on this server's port: one that the test started, and nobody else's."""
    port = server.ports.signal
    for process in psutil.Process().children(recursive=True):
        if any(getattr(each.laddr, "port", 0) == port for each in process.net_connections("tcp4")):
            process.send_signal(number)
            return
    raise AssertionError(f"no child listens on port {port}")


@asynccontextmanager
async def in_room(settings: ServerSettings, token: str) -> AsyncIterator[None]:
    """Somebody in a room, as far as the server's signalling goes. The connection ends with the block."""
    address = URL(settings.url) / "rtc" % {"access_token": token, "protocol": "15", "sdk": "python"}
    async with aiohttp.ClientSession() as session, session.ws_connect(address, autoping=True) as socket:
        await socket.receive_bytes()

        async def read() -> None:
            async for _ in socket:
                pass

        reading = asyncio.create_task(read())
        try:
            yield
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)


@asynccontextmanager
async def silent_worker(settings: ServerSettings) -> AsyncIterator[asyncio.Queue[str]]:
    """A worker that registers and never answers, as one that was stopped; the dispatches that were offered to it."""
    headers = {"Authorization": f"Bearer {mint_worker_token(settings)}"}
    offered: asyncio.Queue[str] = asyncio.Queue()
    request = agent.RegisterWorkerRequest(type=agent.JobType.JT_ROOM, agent_name="reception")
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.ws_connect(agent_url(settings.url)) as socket,
    ):
        await socket.send_bytes(agent.WorkerMessage(register=request).SerializeToString())
        await socket.receive_bytes()

        async def read() -> None:
            async for frame in socket:
                message = agent.ServerMessage.FromString(frame.data)
                if message.WhichOneof("message") == "availability":
                    offered.put_nowait(message.availability.job.dispatch_id)

        reading = asyncio.create_task(read())
        try:
            yield offered
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
