"""The way to the server, with servers that are none, or that have another time."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from email.utils import formatdate
from time import time

import aiohttp
import pytest
from aiohttp import web

from greenroom.doctor import reach as module
from greenroom.doctor.findings import Finding
from greenroom.doctor.reach import Reached, clock, credentials, reach
from greenroom.settings import ServerSettings

Answering = Callable[[web.Request], Awaitable[web.Response]]


def settings(url: str, **overrides: str) -> ServerSettings:
    return ServerSettings(**{"url": url, "api_key": "devkey", "api_secret": "s" * 32, **overrides})  # type: ignore[arg-type]


@asynccontextmanager
async def serving(answer: Answering) -> AsyncIterator[str]:
    """A server of HTTP; its address."""
    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"ws://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def livekit(*, ahead: float = 0.0, said: str = "") -> Answering:
    """As a LiveKit server answers whose clock is ``ahead``; ``said``: of a token that it does not take."""

    async def answer(request: web.Request) -> web.Response:
        headers = {"Date": formatdate(time() + ahead, usegmt=True)}
        if request.path != "/agent":
            return web.Response(text="OK", headers=headers)
        token = request.headers["Authorization"].removeprefix("Bearer ")
        if token == module.NO_TOKEN:
            return web.Response(status=401, text="invalid authorization token", headers=headers)
        if said:
            return web.Response(status=401, text=f"invalid token: {token}, error: {said}", headers=headers)
        return web.Response(status=404, headers=headers)

    return answer


async def look(url: str) -> tuple[Finding, Reached | None]:
    async with aiohttp.ClientSession() as session:
        return await reach(session, settings(url))


async def test_a_server_that_is_there() -> None:
    async with serving(livekit()) as url:
        finding, reached = await look(url)
    assert finding.verdict == "right"
    assert reached is not None
    assert reached.livekit
    assert reached.skew is not None
    assert abs(reached.skew) < 2


@pytest.mark.parametrize("ahead", [-90.0, 0.0, 3600.0])
async def test_its_time_is_in_its_answers(ahead: float) -> None:
    async with serving(livekit(ahead=ahead)) as url:
        finding, reached = await look(url)
    assert (finding.verdict, reached is not None) == ("right", True)
    assert reached is not None
    assert reached.skew == pytest.approx(-ahead, abs=2)
    assert clock(reached).verdict == ("right" if ahead == 0 else "wrong")


@pytest.mark.parametrize(
    ("skew", "verdict", "said"),
    [
        (-1.0, "right", "agrees"),
        (20.0, "note", "20 s ahead of the server's"),
        (-400.0, "note", "400 s behind the server's"),
        (90.0, "wrong", "90 s ahead of the server's: it refuses our tokens as not valid yet"),
        (-3600.0, "wrong", "3600 s behind the server's: it refuses our tokens as expired"),
    ],
)
def test_clocks_that_differ(skew: float, verdict: str, said: str) -> None:
    finding = clock(Reached(True, skew))
    assert (finding.verdict, "NTP" in finding.mend) == (verdict, verdict != "right")
    assert said in finding.text


def test_a_server_that_does_not_say_its_time() -> None:
    assert clock(Reached(True, None)).verdict == "note"
    assert module._skew("yesterday", asked=0.0, took=0.0) is None


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("", "accepted"),
        (
            "token signature is invalid: signature is invalid",
            "api_secret is not the one that belongs to api_key devkey",
        ),
        ("token has invalid claims: token is expired", "a fresh token for expired"),
        ("token has invalid claims: token is not valid yet", "a fresh token for not valid yet"),
        ("something new", "HTTP 401"),
    ],
)
async def test_what_the_server_says_of_our_token(said: str, found: str) -> None:
    async with serving(livekit(said=said)) as url, aiohttp.ClientSession() as session:
        finding = await credentials(session, settings(url), Reached(True, 0.0))
    assert found in finding.text
    assert finding.verdict == ("wrong" if said else "right")
    assert "eyJ" not in f"{finding.text}{finding.mend}"


async def test_a_server_of_something_else() -> None:
    async def page(request: web.Request) -> web.Response:
        return web.Response(text="<html>welcome</html>")

    async with serving(page) as url:
        finding, reached = await look(url)
    assert (finding.verdict, "no LiveKit server" in finding.text) == ("wrong", True)
    assert reached is not None
    assert not reached.livekit


async def test_nothing_listens_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    finding, reached = await look(f"ws://127.0.0.1:{port}")
    assert (reached, finding.text) == (None, f"http://127.0.0.1:{port}: nothing listens on port {port}")
    assert "7880" in finding.mend


async def test_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        finding, reached = await look(f"ws://127.0.0.1:{silent.getsockname()[1]}")
    assert (reached, "no answer within 0.2 s" in finding.text, "firewall" in finding.mend) == (None, True, True)


async def test_no_such_host() -> None:
    finding, reached = await look("wss://nobody.invalid")
    assert (reached, finding.verdict, "nobody.invalid" in finding.text) == (None, "wrong", True)


async def test_tls_where_there_is_none() -> None:
    async with serving(livekit()) as url:
        finding, reached = await look(url.replace("ws:", "wss:"))
    assert (reached, "TLS" in finding.text, "ws://" in finding.mend) == (None, True, True)


async def test_no_tls_where_there_is_some() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        finding, reached = await look(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    assert (reached, "wss://" in finding.mend) == (None, True)


async def test_an_address_that_is_none() -> None:
    finding, reached = await look("calls.example.com")
    assert (reached, finding.verdict, "server.url" in finding.text) == (None, "wrong", True)
