"""The link against the real media server: registered, dispatched, answered in time, and found again."""

from __future__ import annotations

import asyncio
import contextlib
import math
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from livekit.api import LiveKitAPI
from yarl import URL

from greenroom.embedded.mediaserver import MediaServer
from greenroom.errors import Rejected
from greenroom.server.dispatch import create_dispatch, mint_user_token
from greenroom.server.events import Acceptance, Assignment
from greenroom.server.link import Link, LinkState, Registration
from greenroom.settings import ServerSettings
from tests.server.signalling import settings_of, signal_server

pytestmark = pytest.mark.e2e

RECEPTION = Registration("reception", "", "room")
PATIENCE = 30.0


@pytest.fixture
async def server() -> AsyncIterator[MediaServer]:
    async with MediaServer() as server:
        yield server


class Relay:
    """Carries one connection between worker and server, from threads of its own, and notes when bytes pass by."""

    def __init__(self, port: int) -> None:
        self.passed: list[tuple[float, str, int]] = []
        """(seconds, "down" from the server or "up" to it, bytes)"""
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"ws://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            near, _ = self._listener.accept()
            with near, socket.create_connection(("127.0.0.1", self._target)) as far:
                up = threading.Thread(target=self._copy, args=(near, far, "up"))
                up.start()
                self._copy(far, near, "down")
                up.join()

    def _copy(self, source: socket.socket, sink: socket.socket, direction: str) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                self.passed.append((time.monotonic(), direction, len(data)))
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def answer_times(self, *, larger_than: int) -> list[float]:
        """Seconds from each large message of the server to whatever the worker sends next."""
        passed = list(self.passed)
        return [
            next((later for later, way, _ in passed[index:] if way == "up"), math.inf) - at
            for index, (at, direction, size) in enumerate(passed)
            if direction == "down" and size > larger_than
        ]


class Daemon:
    def __init__(self) -> None:
        self.started: asyncio.Queue[Assignment] = asyncio.Queue()
        self.ended: asyncio.Queue[str] = asyncio.Queue()
        self.states: asyncio.Queue[tuple[float, LinkState]] = asyncio.Queue()

    def link(self, settings: ServerSettings) -> Link:
        return Link(
            settings,
            RECEPTION,
            decide=lambda offer: Acceptance(f"agent-{offer.id}"),
            start=self.started.put_nowait,
            end=lambda job_id, reason: self.ended.put_nowait(job_id),
            give_up=lambda job_id: None,
            on_state=lambda state: self.states.put_nowait((time.monotonic(), state)),
        )

    async def until(self, state: LinkState) -> float:
        """Wait for a state; return when it came."""
        while (change := await self.states.get())[1] is not state:
            pass
        return change[0]


@asynccontextmanager
async def running(link: Link) -> AsyncIterator[None]:
    link.set_capacity(4, 4)
    task = asyncio.create_task(link.run())
    try:
        async with asyncio.timeout(PATIENCE):
            yield
    finally:
        async with asyncio.timeout(PATIENCE):
            await link.aclose()
            await task


@pytest.fixture
def relayed(server: MediaServer) -> Iterator[Relay]:
    relay = Relay(server.ports.signal)
    yield relay
    relay.close()


async def test_a_dispatch_is_answered_within_50_ms_and_assigned(server: MediaServer, relayed: Relay) -> None:
    daemon = Daemon()
    async with running(daemon.link(settings_of(server, url=relayed.url))):
        await daemon.until(LinkState.REGISTERED)
        relayed.passed.clear()
        settings = settings_of(server)
        for number in range(10):
            room = f"room-{number}"
            dispatch = await create_dispatch(settings, room=room, agent_name="reception", metadata="m" * 200)
            assignment = await daemon.started.get()
            assert (assignment.offer.dispatch_id, assignment.offer.room) == (dispatch, room)
            assert assignment.offer.room_sid.startswith("RM_")
            assert assignment.token
    # Each job makes two messages with its 200 bytes of metadata: the offer, and the assignment, which has no answer.
    offered = relayed.answer_times(larger_than=200)[::2]
    assert len(offered) == 10
    assert max(offered) < 0.05


async def test_a_users_token_brings_the_agent_with_its_metadata(server: MediaServer) -> None:
    daemon = Daemon()
    settings = settings_of(server)
    async with running(daemon.link(settings)):
        await daemon.until(LinkState.REGISTERED)
        token = mint_user_token(settings, room="lobby", identity="ann", agent_name="reception", metadata="hello")
        address = URL(settings.url) / "rtc" % {"access_token": token, "protocol": "15", "sdk": "python"}
        async with aiohttp.ClientSession() as session, session.ws_connect(address):
            assignment = await daemon.started.get()
    assert (assignment.offer.room, assignment.offer.metadata) == ("lobby", "hello")


async def test_load_is_heeded_and_a_deleted_dispatch_ends_its_job(server: MediaServer) -> None:
    daemon = Daemon()
    settings = settings_of(server)
    link = daemon.link(settings)
    async with running(link), LiveKitAPI(settings.url, settings.api_key, settings.api_secret) as api:
        await daemon.until(LinkState.REGISTERED)
        link.set_capacity(1, 100)  # As busy as it gets with a slot free: still offered.
        dispatch = await create_dispatch(settings, room="lobby", agent_name="reception")
        assignment = await daemon.started.get()
        link.set_capacity(0, 100)
        await create_dispatch(settings, room="elsewhere", agent_name="reception")
        await api.agent_dispatch.delete_dispatch(dispatch, "lobby")
        assert await daemon.ended.get() == assignment.offer.id
        # By now the other dispatch would have been offered, had a full worker been asked.
        assert daemon.started.empty()


async def test_a_server_that_was_killed_gets_its_worker_back_within_5_s(server: MediaServer) -> None:
    daemon = Daemon()
    async with running(daemon.link(settings_of(server))):
        await daemon.until(LinkState.REGISTERED)
        await server.kill()
        await daemon.until(LinkState.OPENING)
        await asyncio.sleep(3.0)  # Long enough for the delays to have grown.
        await server.start()
        back = time.monotonic()
        assert await daemon.until(LinkState.REGISTERED) - back < 5.0
        await create_dispatch(settings_of(server), room="lobby", agent_name="reception")
        await daemon.started.get()


async def test_a_frozen_server_is_noticed(server: MediaServer) -> None:
    daemon = Daemon()
    async with running(daemon.link(settings_of(server, ping_interval=0.2, ping_timeout=0.5))):
        await daemon.until(LinkState.REGISTERED)
        signal_server(server, signal.SIGSTOP)
        frozen = time.monotonic()
        try:
            assert await daemon.until(LinkState.OPENING) - frozen < 2.0
        finally:
            signal_server(server, signal.SIGCONT)
        await daemon.until(LinkState.REGISTERED)


async def test_a_wrong_secret_is_refused(server: MediaServer) -> None:
    settings = settings_of(server, api_secret="another" * 6)
    with pytest.raises(Rejected, match="HTTP 401"):
        await Daemon().link(settings).run()
    with pytest.raises(Rejected, match="HTTP 401"):
        await create_dispatch(settings, room="lobby", agent_name="reception")


async def test_a_wrong_path_is_refused(server: MediaServer) -> None:
    with pytest.raises(Rejected, match="HTTP 404"):
        await Daemon().link(settings_of(server, url=f"{server.url}/elsewhere")).run()
