"""Tokens for callers, and what becomes of a dispatch that the server does not take."""

from __future__ import annotations

import socket

import pytest
from aiohttp import web
from livekit.api.access_token import Claims, TokenVerifier

from greenroom.errors import LinkLost, Rejected, ServerError
from greenroom.server.dispatch import create_dispatch, mint_user_token
from greenroom.settings import ServerSettings


def settings(port: int = 7880) -> ServerSettings:
    return ServerSettings(url=f"ws://127.0.0.1:{port}", api_key="devkey", api_secret="s" * 32)


def claims(token: str) -> Claims:
    return TokenVerifier("devkey", "s" * 32).verify(token)


def test_a_users_token_opens_one_room_and_nothing_else() -> None:
    read = claims(mint_user_token(settings(), room="lobby", identity="ann", name="Ann", attributes={"language": "de"}))
    assert read.video is not None
    assert (read.video.room_join, read.video.room) == (True, "lobby")
    assert not any((read.video.room_admin, read.video.room_create, read.video.agent))
    assert (read.identity, read.name, read.attributes) == ("ann", "Ann", {"language": "de"})
    assert read.room_config is None


@pytest.mark.parametrize("agent_name", ["reception", ""])
def test_a_users_token_may_ask_for_an_agent(agent_name: str) -> None:
    token = mint_user_token(settings(), room="lobby", identity="ann", agent_name=agent_name, metadata="{}")
    config = claims(token).room_config
    assert config is not None
    assert [(asked.agent_name, asked.metadata) for asked in config.agents] == [(agent_name, "{}")]


async def test_an_unreachable_server_is_a_lost_link() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # Bound and not listening: connections are refused.
        with pytest.raises(LinkLost, match="no dispatch of 'reception'"):
            await create_dispatch(settings(taken.getsockname()[1]), room="lobby", agent_name="reception")


@pytest.mark.parametrize(
    ("status", "error"), [(401, Rejected), (403, Rejected), (503, ServerError), (502, ServerError)]
)
async def test_an_answer_of_the_server_becomes_one_of_our_errors(status: int, error: type[ServerError]) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.json_response({"code": "unavailable", "msg": "no"}, status=status)

    app = web.Application()
    app.router.add_post("/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        with pytest.raises(ServerError) as caught:
            await create_dispatch(settings(runner.addresses[0][1]), room="lobby", agent_name="reception")
    finally:
        await runner.cleanup()
    assert type(caught.value) is error
    assert str(status) in str(caught.value)
    assert "s" * 32 not in str(caught.value)
