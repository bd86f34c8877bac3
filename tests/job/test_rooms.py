"""Whether a room is still there: asked on the real server, and where nobody answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from greenroom.embedded.mediaserver import MediaServer
from greenroom.errors import LinkLost
from greenroom.job.rooms import RoomFound, _found, find_room
from greenroom.settings import ServerSettings
from tests.room.people import House

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house() -> AsyncIterator[House]:
    async with MediaServer() as server, House(server) as house:
        yield house


def settings(house: House, *, url: str = "", secret: str = "") -> ServerSettings:
    server = house.server
    return ServerSettings(url=url or server.url, api_key=server.api_key, api_secret=secret or server.api_secret)


async def test_a_room_with_somebody_in_it_is_found(house: House) -> None:
    await house.enter("ann")
    sid = await house.sid()
    found = await asyncio.to_thread(find_room, settings(house), house.room)
    assert found is not None
    assert found.sid == sid
    assert await asyncio.to_thread(find_room, settings(house), "another") is None


async def test_a_server_that_does_not_answer_is_told_from_a_room_that_is_gone(house: House) -> None:
    with pytest.raises(LinkLost, match="asked for its rooms"):
        await asyncio.to_thread(find_room, settings(house, url="ws://127.0.0.1:1"), house.room)
    with pytest.raises(LinkLost, match="answered 401"):
        await asyncio.to_thread(find_room, settings(house, secret="x" * 32), house.room)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"rooms": [{}]}', b'{"rooms": [{"name": "hall", "num_participants": "x"}]}']
)
async def test_an_answer_that_is_none_is_no_answer(body: bytes) -> None:
    with pytest.raises(LinkLost, match="something else"):
        _found(body, "hall")


async def test_both_spellings_of_the_servers_answers_are_read() -> None:
    assert _found(b'{"rooms": [{"name": "hall", "sid": "RM_1", "numParticipants": 2}]}', "hall") == RoomFound("RM_1", 2)
    assert _found(b'{"rooms": [{"name": "hall", "num_participants": 1}]}', "hall") == RoomFound("", 1)
    assert _found(b"{}", "hall") is None
