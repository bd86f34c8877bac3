"""The server's HTTP API: what is read out of its answers, and what becomes of those that are none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web

from greenroom.clock import wall
from greenroom.errors import LinkLost, Rejected, ServerError
from greenroom.server.api import ServerApi
from greenroom.server.dispatches import listed
from greenroom.server.sightings import DispatchSeen, PersonSeen, RoomSeen
from tests.server.rooms_server import RoomsServer


@pytest.fixture
async def server() -> AsyncIterator[RoomsServer]:
    async with RoomsServer() as server:
        yield server


@pytest.fixture
async def api(server: RoomsServer) -> AsyncIterator[ServerApi]:
    async with ServerApi(server.settings(), timeout=2.0) as api:
        yield api


def every_request(api: ServerApi) -> list[Callable[[], Any]]:
    dispatch = DispatchSeen(id="AD_1", agent_name="reception", room="lobby")
    return [
        api.rooms,
        lambda: api.people("lobby"),
        lambda: api.dispatches("lobby"),
        lambda: api.create_dispatch(dispatch),
        lambda: api.delete_dispatch("AD_1", room_name="lobby"),
    ]


async def test_rooms_and_people_are_read(server: RoomsServer, api: ServerApi) -> None:
    server.room("lobby", ann="PA_1", **{"agent-1": "PA_2"})
    server.room("kitchen")
    assert await api.rooms(["lobby"]) == [RoomSeen(name="lobby", sid="RM_lobby", people=1)]
    assert len(await api.rooms()) == 2
    assert await api.people("lobby") == [
        PersonSeen(identity="ann", sid="PA_1"),
        PersonSeen(identity="agent-1", sid="PA_2", is_agent=True, agent_name="reception"),
    ]
    assert await api.people("nowhere") == []


async def test_a_dispatch_is_made_as_another_one_was_and_deleted_once(server: RoomsServer, api: ServerApi) -> None:
    server.room("lobby", ann="PA_1")
    wanted = DispatchSeen(
        id="", agent_name="reception", room="lobby", restart_policy=1, metadata="{}", attributes={"floor": "2"}
    )
    made = await api.create_dispatch(wanted, deployment="canary")
    (seen,) = await api.dispatches("lobby")
    assert (seen.id, seen.agent_name, seen.room, seen.metadata) == (made, "reception", "lobby", "{}")
    assert (seen.deployment, seen.restart_policy, seen.jobs) == ("canary", 1, 0)
    assert seen.attributes == {"floor": "2"}
    assert abs(seen.created - wall()) < 5
    assert "floor" not in repr(seen)
    assert await api.delete_dispatch(made, room_name="lobby")
    assert not await api.delete_dispatch(made, room_name="lobby")


async def test_the_servers_clock_is_known_from_its_answers(server: RoomsServer, api: ServerApi) -> None:
    assert api.skew is None
    await api.rooms()
    assert api.skew is not None
    assert -1.5 < api.skew < 1.5
    ahead = web.Response(body=b"", headers={"Date": "Fri, 01 Jan 2100 00:00:00 GMT"})
    server.before = lambda method: ahead
    await api.rooms()
    assert api.skew > 1e9


async def test_a_date_that_is_none_is_not_taken(server: RoomsServer, api: ServerApi) -> None:
    await api.rooms()
    before = api.skew
    for date in ("yesterday", "Fri, 99 Jan 2100 00:00:00 GMT", "Fri, 01 Jan 99999 00:00:00 GMT"):
        answer = web.Response(body=b"", headers={"Date": date})
        server.before = lambda method, answer=answer: answer  # type: ignore[misc]
        assert await api.rooms() == []
    assert api.skew == before


ANSWERS: list[tuple[Callable[[], web.Response], type[ServerError]]] = [
    (lambda: web.json_response({"code": "unauthenticated", "msg": "no"}, status=401), Rejected),
    (lambda: web.json_response({"code": "permission_denied", "msg": "no"}, status=403), Rejected),
    (lambda: web.json_response({"code": "internal", "msg": "x" * 5000 + "\n"}, status=500), ServerError),
    (lambda: web.json_response({"code": 7, "msg": ["odd"]}, status=503), ServerError),
    (lambda: web.json_response(["no", "object"], status=502), ServerError),
    (lambda: web.json_response("no object", status=400), ServerError),
    (lambda: web.Response(text="<html>Bad gateway</html>", status=502), ServerError),
    (lambda: web.Response(body=b"\xff\xff\xff", content_type="application/protobuf"), ServerError),
    (lambda: web.Response(text="<html>Welcome</html>", content_type="text/html"), ServerError),
]


@pytest.mark.parametrize(("answer", "error"), ANSWERS)
async def test_whatever_is_answered_becomes_one_of_our_errors(
    server: RoomsServer, api: ServerApi, answer: Callable[[], web.Response], error: type[ServerError]
) -> None:
    server.before = lambda method: answer()
    for request in every_request(api):
        with pytest.raises(ServerError) as caught:
            await request()
        assert type(caught.value) is error
        said = str(caught.value)
        assert len(said) < 300
        assert "\n" not in said
        assert "s" * 32 not in said
        assert caught.value.__cause__ is None


async def test_a_server_that_is_away_or_slow_is_a_lost_link(server: RoomsServer) -> None:
    held = asyncio.Event()

    async def hold(request: web.Request) -> web.Response:
        await held.wait()
        return web.Response()

    app = web.Application()
    app.router.add_post("/{path:.*}", hold)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    settings = type(server.settings())(
        url=f"ws://127.0.0.1:{runner.addresses[0][1]}", api_key="devkey", api_secret="s" * 32
    )
    try:
        async with ServerApi(settings, timeout=0.05) as api:
            for request in every_request(api):
                with pytest.raises(LinkLost):
                    await request()
            assert await listed(api, "lobby") is None
    finally:
        held.set()
        await runner.cleanup()
    async with ServerApi(settings, timeout=2.0) as api:
        for request in every_request(api):
            with pytest.raises(LinkLost):
                await request()


async def test_the_dispatches_of_a_room_are_listed_or_it_is_said_that_nobody_knows(
    server: RoomsServer, api: ServerApi
) -> None:
    first, second = server.dispatch("lobby"), server.dispatch("lobby")
    assert await listed(api, "lobby") == frozenset({first, second})
    assert await listed(api, "nowhere") is None
