"""The shipped server double behaves as the real one was seen to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
from livekit.api.access_token import AccessToken, VideoGrants
from livekit.protocol import agent

from greenroom.server.link import agent_url, mint_worker_token
from greenroom.testing.fake_server import FakeServer, job

REGISTER = agent.WorkerMessage(register=agent.RegisterWorkerRequest(agent_name="reception")).SerializeToString()
PING = agent.WorkerMessage(ping=agent.WorkerPing(timestamp=7)).SerializeToString()
STATUS = agent.WorkerMessage(update_worker=agent.UpdateWorkerStatus(load=0.5)).SerializeToString()


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    async with FakeServer() as server, asyncio.timeout(10):
        yield server


@pytest.fixture
async def socket(server: FakeServer) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    headers = {"Authorization": f"Bearer {mint_worker_token(server.settings())}"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.ws_connect(agent_url(server.url)) as socket,
    ):
        yield socket


async def message(socket: aiohttp.ClientWebSocketResponse) -> agent.ServerMessage:
    return agent.ServerMessage.FromString(await socket.receive_bytes())


async def test_it_registers_and_counts(server: FakeServer, socket: aiohttp.ClientWebSocketResponse) -> None:
    await socket.send_bytes(PING)
    assert (await message(socket)).pong.last_timestamp == 7
    await socket.send_bytes(REGISTER)
    assert (await message(socket)).register.worker_id == "AW_1"
    await socket.send_bytes(STATUS)
    worker = await server.worker()
    assert (await worker.statuses.get()).load == 0.5
    assert worker.registration.agent_name == "reception"
    assert worker.received == {"ping": 1, "register": 1, "update_worker": 1}
    assert (server.requests, server.registrations) == (1, 1)


@pytest.mark.parametrize(
    "frames",
    [[REGISTER, REGISTER], [STATUS], [b""], [b"\xff\xff"], [REGISTER, b"\xff\xff"], [REGISTER, b"\x7a\x00"]],
    ids=["second register", "status first", "empty", "noise", "noise later", "unknown message"],
)
async def test_it_cuts_on_what_the_real_server_cuts_on(
    socket: aiohttp.ClientWebSocketResponse, frames: list[bytes]
) -> None:
    for data in frames:
        await socket.send_bytes(data)
    types = [message.type async for message in socket]
    assert aiohttp.WSMsgType.CLOSE not in types
    assert socket.close_code == aiohttp.WSCloseCode.ABNORMAL_CLOSURE


async def test_it_checks_the_token(server: FakeServer) -> None:
    wrong = AccessToken("devkey", "another" * 6).with_grants(VideoGrants(agent=True)).to_jwt()
    idle = AccessToken("devkey", server.settings().api_secret).with_grants(VideoGrants(room_join=False)).to_jwt()
    async with aiohttp.ClientSession() as session:
        for authorization in ("", "Bearer", f"Bearer {wrong}", f"Bearer {idle}"):
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                await session.ws_connect(agent_url(server.url), headers={"Authorization": authorization})
            assert caught.value.status == 401


async def test_a_silent_worker_hears_nothing_more(server: FakeServer, socket: aiohttp.ClientWebSocketResponse) -> None:
    await socket.send_bytes(REGISTER)
    worker = await server.worker()
    worker.go_silent()
    await socket.send_bytes(PING)
    await socket.send_bytes(STATUS)
    await worker.statuses.get()
    assert (await message(socket)).WhichOneof("message") == "register"
    await worker.terminate("AJ_1")
    # The pong would have come before.
    assert (await message(socket)).termination.job_id == "AJ_1"


async def test_a_job_carries_what_must_not_be_shown() -> None:
    described = job("AJ_1", room="kitchen", metadata="m")
    assert (described.id, described.room.name, described.metadata) == ("AJ_1", "kitchen", "m")
    assert described.room.turn_password
