"""The reconciler against the API in this process: the faults that the real server cannot be asked for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from greenroom.errors import LinkLost, ServerError
from greenroom.server.api import ServerApi
from greenroom.server.dispatches import Reconciler
from greenroom.settings import ReconcileSettings
from tests.server.rooms_server import RoomsServer

SETTINGS = ReconcileSettings(enabled=True, interval=5.0, after=9.0)
OLD = 12.0
PATIENCE = 20.0


@pytest.fixture
async def server() -> AsyncIterator[RoomsServer]:
    async with RoomsServer() as server, asyncio.timeout(PATIENCE):
        yield server


@pytest.fixture
async def api(server: RoomsServer) -> AsyncIterator[ServerApi]:
    async with ServerApi(server.settings(), timeout=2.0) as api:
        yield api


class Worker:
    """One worker's reconciler, and what it heard."""

    def __init__(self, api: ServerApi, *, able: bool = True, settings: ReconcileSettings = SETTINGS) -> None:
        self.able = able
        self.remade: list[tuple[str, str]] = []
        self.reconciler = Reconciler(
            api,
            settings,
            agents=lambda: {"reception"},
            able=lambda name: self.able,
            on_remade=lambda name, room: self.remade.append((name, room)),
        )


def fail(status: int = 503) -> web.Response:
    return web.json_response({"code": "unavailable", "msg": "no"}, status=status)


async def test_a_lost_dispatch_is_made_again_for_this_worker(server: RoomsServer, api: ServerApi) -> None:
    server.room("lobby", ann="PA_1")
    lost = server.dispatch("lobby", age=OLD, metadata="{}", attributes={"floor": "2"}, restart_policy=1)
    served = server.dispatch("lobby", age=OLD, jobs=1)
    server.rooms["lobby"].people["agent-1"] = "PA_2"
    worker = Worker(api)
    with capture_logs() as logs:
        assert await worker.reconciler.look() == 5.0
    made = set(server.rooms["lobby"].dispatches) - {served}
    assert lost not in made
    (dispatch,) = (server.rooms["lobby"].dispatches[each] for each in made)
    assert dispatch.deployment == worker.reconciler.deployment
    assert "_" not in worker.reconciler.deployment, "the server takes none with it"
    assert (dispatch.agent_name, dispatch.metadata, dict(dispatch.attributes)) == ("reception", "{}", {"floor": "2"})
    assert dispatch.restart_policy == 1
    assert worker.remade == [("reception", "lobby")]
    assert (worker.reconciler.remade, worker.reconciler.failures) == (1, 0)
    (entry,) = logs
    assert (entry["event"], entry["lost"], entry["made"]) == ("lost dispatch made again", lost, dispatch.id)


async def test_what_may_still_be_served_is_looked_at_when_it_would_be_lost(server: RoomsServer, api: ServerApi) -> None:
    server.room("lobby", ann="PA_1")
    young = server.dispatch("lobby", age=7.0)
    worker = Worker(api)
    assert 0.5 <= await worker.reconciler.look() <= 3.1
    assert set(server.rooms["lobby"].dispatches) == {young}
    assert "ListParticipants" not in server.calls


async def test_nothing_is_asked_about_rooms_where_nobody_is(server: RoomsServer, api: ServerApi) -> None:
    server.room("empty")
    server.room("agents", **{"agent-1": "PA_1"})
    for name in ("empty", "agents"):
        server.dispatch(name, age=OLD)
    await Worker(api).reconciler.look()
    assert server.calls == ["ListRooms"]


async def test_a_worker_that_would_not_take_it_leaves_it_to_others(server: RoomsServer, api: ServerApi) -> None:
    server.room("lobby", ann="PA_1")
    lost = server.dispatch("lobby", age=OLD)
    worker = Worker(api, able=False)
    assert await worker.reconciler.look() == 5.0
    assert set(server.rooms["lobby"].dispatches) == {lost}
    worker.able = True
    await worker.reconciler.look()
    assert worker.remade == [("reception", "lobby")]


async def test_of_two_workers_one_makes_it_again(server: RoomsServer, api: ServerApi) -> None:
    workers = [Worker(api), Worker(api)]
    rooms = [f"room-{number}" for number in range(8)]
    for name in rooms:
        server.room(name, ann="PA_1")
        server.dispatch(name, age=OLD)
    await asyncio.gather(*(worker.reconciler.look() for worker in workers))
    assert sorted(room for worker in workers for _, room in worker.remade) == rooms
    assert all(len(room.dispatches) == 1 for room in server.rooms.values())


async def test_only_so_many_are_made_again_in_one_pass(server: RoomsServer, api: ServerApi) -> None:
    for number in range(13):
        server.room(f"room-{number}", ann="PA_1")
        server.dispatch(f"room-{number}", age=OLD)
    worker = Worker(api)
    await worker.reconciler.look()
    assert worker.reconciler.remade == 10
    await worker.reconciler.look()
    assert worker.reconciler.remade == 13


async def test_what_was_deleted_and_could_not_be_made_is_made_as_soon_as_it_can_be(
    server: RoomsServer, api: ServerApi
) -> None:
    server.room("lobby", ann="PA_1")
    server.dispatch("lobby", age=OLD)
    worker = Worker(api)
    server.before = lambda method: fail() if method == "CreateDispatch" else None
    for _ in range(2):
        with pytest.raises(ServerError):
            await worker.reconciler.look()
    assert not server.rooms["lobby"].dispatches
    server.before = lambda method: None
    await worker.reconciler.look()
    assert [each.deployment for each in server.rooms["lobby"].dispatches.values()] == [worker.reconciler.deployment]
    assert worker.remade == [("reception", "lobby")]


async def test_what_was_made_though_nobody_said_so_is_not_made_twice(server: RoomsServer, api: ServerApi) -> None:
    server.room("lobby", ann="PA_1")
    server.dispatch("lobby", age=OLD)
    worker = Worker(api)
    server.after = lambda method: fail() if method == "CreateDispatch" else None
    with pytest.raises(ServerError):
        await worker.reconciler.look()
    server.after = lambda method: None
    await worker.reconciler.look()
    assert len(server.rooms["lobby"].dispatches) == 1
    assert worker.remade == [("reception", "lobby")]


@pytest.mark.parametrize("empty", [True, False], ids=["nobody is left", "the room is gone"])
async def test_a_room_that_ended_meanwhile_is_not_brought_back(
    server: RoomsServer, api: ServerApi, empty: bool
) -> None:
    server.room("lobby", ann="PA_1")
    server.dispatch("lobby", age=OLD)
    worker = Worker(api)
    server.before = lambda method: fail() if method == "CreateDispatch" else None
    with pytest.raises(ServerError):
        await worker.reconciler.look()
    server.before = lambda method: None
    server.rooms.clear()
    if empty:
        server.room("lobby")
    await worker.reconciler.look()
    assert worker.remade == []
    assert not any(room.dispatches for room in server.rooms.values())


async def test_a_room_that_is_gone_since_it_was_listed_is_passed_over(server: RoomsServer, api: ServerApi) -> None:
    for name in ("lobby", "kitchen"):
        server.room(name, ann="PA_1")
        server.dispatch(name, age=OLD)
    asked = iter((fail(),))
    server.before = lambda method: next(asked, None) if method == "ListDispatch" else None
    worker = Worker(api)
    await worker.reconciler.look()
    assert worker.remade == [("reception", "kitchen")]


async def test_it_goes_on_for_as_long_as_it_is_wanted(server: RoomsServer, api: ServerApi) -> None:
    server.room("lobby", ann="PA_1")
    worker = Worker(api, settings=ReconcileSettings(enabled=True, interval=0.01, after=9.0))
    server.before = lambda method: fail(401)
    with capture_logs() as logs:
        task = asyncio.create_task(worker.reconciler.run())
        await server.asked("ListRooms", 4)
        server.before = lambda method: None
        server.dispatch("lobby", age=OLD)
        await server.asked("CreateDispatch", 1)
        await server.asked("ListRooms", 2)
        await worker.reconciler.aclose()
        await task
    assert worker.remade == [("reception", "lobby")]
    assert [entry["retry"] for entry in logs[:3]] == [0.02, 0.04, 0.08]
    assert "s" * 32 not in repr(logs)


async def test_a_server_that_is_away_is_said_to_be(server: RoomsServer) -> None:
    settings = server.settings()
    nowhere = type(settings)(url="ws://127.0.0.1:9", api_key=settings.api_key, api_secret=settings.api_secret)
    async with ServerApi(nowhere, timeout=1.0) as api:
        with pytest.raises(LinkLost):
            await Worker(api).reconciler.look()
