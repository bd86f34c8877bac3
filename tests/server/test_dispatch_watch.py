"""The watch on dispatches against the API in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from greenroom.server.api import ServerApi
from greenroom.server.dispatches import DispatchWatch, Pace, Watched
from greenroom.server.watching import Standing
from tests.server.rooms_server import RoomsServer

QUICK = Pace(first=0.01, interval=0.01, slow=0.02, grace=0.05, most=1000.0)
PATIENCE = 10.0


class Daemon:
    """Hears what ends. ``watch`` is closed with the test."""

    def __init__(self, api: ServerApi) -> None:
        self.ended: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self.watch = DispatchWatch(api, end=lambda job_id, reason: self.ended.put_nowait((job_id, reason)), pace=QUICK)


@pytest.fixture
async def server() -> AsyncIterator[RoomsServer]:
    async with RoomsServer() as server, asyncio.timeout(PATIENCE):
        yield server


@pytest.fixture
async def daemon(server: RoomsServer) -> AsyncIterator[Daemon]:
    async with ServerApi(server.settings(), timeout=2.0) as api:
        daemon = Daemon(api)
        yield daemon
        await daemon.watch.aclose()


async def looks(server: RoomsServer, number: int) -> None:
    """Wait for so many more looks to begin: all but the last have ended then."""
    await server.asked("ListRooms", number)


def job(dispatch_id: str) -> Watched:
    return Watched(job_id="AJ_1", room="lobby", dispatch_id=dispatch_id, identity="agent-1")


async def test_a_deleted_dispatch_ends_the_job_that_no_termination_reaches(server: RoomsServer, daemon: Daemon) -> None:
    server.room("lobby", **{"agent-1": "PA_1"})
    dispatch = server.dispatch("lobby", jobs=1)
    daemon.watch.add(job(dispatch), reachable=True)
    await looks(server, 1)
    before = len(server.calls)
    daemon.watch.unreachable("AJ_1")
    await looks(server, 3)
    assert daemon.ended.empty()
    del server.rooms["lobby"].dispatches[dispatch]
    assert await daemon.ended.get() == ("AJ_1", "its dispatch was deleted")
    assert daemon.watch.standing("AJ_1") is None
    assert set(server.calls[before:]) == {"ListRooms", "ListDispatch", "ListParticipants"}


async def test_a_room_that_is_gone_ends_its_job(server: RoomsServer, daemon: Daemon) -> None:
    server.room("lobby", **{"agent-1": "PA_1"})
    daemon.watch.add(job(server.dispatch("lobby")), reachable=False)
    await looks(server, 2)
    del server.rooms["lobby"]
    assert await daemon.ended.get() == ("AJ_1", "its room is gone")
    # Of a room that is gone no more is asked: the server would need seconds to say so.
    assert server.calls[-1] == "ListRooms"


async def test_a_server_in_trouble_ends_nothing(server: RoomsServer, daemon: Daemon) -> None:
    server.room("lobby", **{"agent-1": "PA_1"})
    dispatch = server.dispatch("lobby")
    daemon.watch.add(job(dispatch), reachable=False)
    await looks(server, 2)
    for status in (503, 401):
        server.before = lambda method, status=status: web.json_response({}, status=status)  # type: ignore[misc]
        await looks(server, 3)
    assert daemon.watch.standing("AJ_1") is Standing.WATCHED
    server.before = lambda method: None
    del server.rooms["lobby"].dispatches[dispatch]
    assert await daemon.ended.get() == ("AJ_1", "its dispatch was deleted")


async def test_a_restarted_server_ends_nothing(server: RoomsServer, daemon: Daemon) -> None:
    server.room("lobby", ann="PA_0", **{"agent-1": "PA_1"})
    daemon.watch.add(job(server.dispatch("lobby")), reachable=False)
    await looks(server, 2)
    daemon.watch.away("AJ_1")
    server.rooms.clear()
    server.room("lobby", ann="PA_2")
    await looks(server, 3)
    server.rooms["lobby"].people["agent-1"] = "PA_3"
    daemon.watch.back("AJ_1")
    await looks(server, 4)
    assert daemon.watch.standing("AJ_1") is Standing.FORGOTTEN
    assert daemon.ended.empty()


async def test_a_job_that_is_over_is_not_asked_for(server: RoomsServer, daemon: Daemon) -> None:
    server.room("lobby", **{"agent-1": "PA_1"})
    daemon.watch.add(job(server.dispatch("lobby")), reachable=False)
    await looks(server, 1)
    daemon.watch.remove("AJ_1")
    daemon.watch.remove("AJ_1")
    assert daemon.watch.standing("AJ_1") is None


async def test_a_closed_watch_leaves_nothing_behind(server: RoomsServer) -> None:
    held = asyncio.Event()
    async with ServerApi(server.settings(), timeout=5.0) as api:
        watch = DispatchWatch(api, end=lambda job_id, reason: held.set(), pace=QUICK)
        for number in range(20):
            name = f"room-{number}"
            watch.add(Watched(job_id=name, room=name, dispatch_id="AD", identity="agent"), reachable=False)
        await watch.aclose()
        watch.unreachable("room-1")
        assert not [task for task in asyncio.all_tasks() if "_look" in str(task.get_coro())]
    assert not held.is_set()
