"""The page's server: what it answers, and whom it refuses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from livekit.api.access_token import TokenVerifier

from greenroom.embedded.console import HOST, ConsoleState, console_app, open_room, serve
from greenroom.embedded.workerprocess import WorkerState
from greenroom.settings import ServerSettings

SERVER = ServerSettings(
    url="ws://127.0.0.1:7880", api_key="devkey", api_secret="secret-of-the-test-that-is-long-enough"
)


class Console:
    """The real server on a free port, and a client."""

    def __init__(self, client: ClientSession, port: int) -> None:
        self.client = client
        self.port = port
        self.origin = f"http://{HOST}:{port}"
        self.worker: tuple[WorkerState, str] = ("ready", "")
        self.agents: tuple[str, ...] = ("reception", "sales")

    async def get(self, path: str, **headers: str) -> tuple[int, Any, str]:
        async with self.client.get(f"{self.origin}{path}", headers=headers) as response:
            return response.status, response.headers, await response.text()

    async def token(self, body: object, **headers: str) -> tuple[int, dict[str, Any]]:
        async with self.client.post(f"{self.origin}/token", json=body, headers=headers) as response:
            return response.status, await response.json()


@pytest.fixture
def static(tmp_path: Path) -> Path:
    directory = tmp_path / "static"
    directory.mkdir()
    (directory / "index.html").write_text("<!doctype html><title>greenroom</title>")
    (directory / "page.js").write_text("export {};")
    (tmp_path / "secret.txt").write_text("not served")
    return directory


@pytest.fixture
async def console(static: Path) -> AsyncIterator[Console]:
    holder: list[Console] = []
    state = ConsoleState(server=SERVER, agents=lambda: holder[0].agents, worker=lambda: holder[0].worker)
    runner, port = await serve(console_app(state, static=static), port=0)
    async with ClientSession() as client:
        holder.append(Console(client, port))
        yield holder[0]
    await runner.cleanup()


async def test_the_page_and_its_parts(console: Console) -> None:
    status, headers, text = await console.get("/")
    assert (status, "greenroom" in text) == (200, True)
    assert headers["Content-Type"].startswith("text/html")
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "connect-src 'self' ws://127.0.0.1:7880 http://127.0.0.1:7880;" in policy
    status, headers, _ = await console.get("/page.js")
    assert status == 200
    assert "javascript" in headers["Content-Type"]
    assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "path", ["/missing.js", "/../secret.txt", "/%2e%2e/secret.txt", "/..%2fsecret.txt", "/etc/passwd"]
)
async def test_nothing_else_is_served(console: Console, path: str) -> None:
    status, _, text = await console.get(path)
    assert status == 404
    assert "not served" not in text


async def test_a_page_that_is_not_built_says_what_to_do(console: Console, static: Path) -> None:
    (static / "index.html").unlink()
    status, _, text = await console.get("/")
    assert status == 500
    assert "make setup" in text


async def test_a_token_opens_a_fresh_room_with_the_agent_called(console: Console) -> None:
    status, entrance = await console.token({"agent": "sales"})
    assert status == 200
    assert entrance["url"] == SERVER.url
    claims = TokenVerifier(SERVER.api_key, SERVER.api_secret).verify(entrance["token"])
    assert claims.identity == entrance["identity"]
    assert claims.video is not None
    assert claims.video.room == entrance["room"]
    assert claims.video.room_join
    assert not claims.video.room_admin
    assert not claims.video.agent
    assert claims.room_config is not None
    assert [agent.agent_name for agent in claims.room_config.agents] == ["sales"]
    _, other = await console.token({"agent": "sales"})
    assert other["room"] != entrance["room"]
    assert other["identity"] != entrance["identity"]


async def test_the_first_agent_is_called_when_none_is_named(console: Console) -> None:
    _, entrance = await console.token({})
    claims = TokenVerifier(SERVER.api_key, SERVER.api_secret).verify(entrance["token"])
    assert claims.room_config is not None
    assert [agent.agent_name for agent in claims.room_config.agents] == ["reception"]


def test_an_unnamed_agent_is_not_dispatched_it_comes_by_itself() -> None:
    entrance = open_room(SERVER, agent="")
    claims = TokenVerifier(SERVER.api_key, SERVER.api_secret).verify(entrance.token)
    assert claims.room_config is None or not claims.room_config.agents
    assert entrance.token not in repr(entrance)


async def test_tokens_are_not_stored(console: Console) -> None:
    async with console.client.post(f"{console.origin}/token", json={}) as response:
        assert response.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("body", "status"), [({"agent": "nobody"}, 404), ([], 404), ({"agent": 7}, 404), ("x" * 10_000, 413)]
)
async def test_wrong_wishes_are_refused(console: Console, body: object, status: int) -> None:
    answered, entrance = await console.token(body)
    assert answered == status
    assert "token" not in entrance


async def test_a_form_of_another_site_gets_no_token(console: Console) -> None:
    async with console.client.post(f"{console.origin}/token", data={"agent": "sales"}) as response:
        assert response.status == 415
    async with console.client.post(
        f"{console.origin}/token", data="{", headers={"Content-Type": "application/json"}
    ) as r:
        assert r.status == 400


@pytest.mark.parametrize("origin", ["https://evil.example", "http://127.0.0.1:1", "null"])
async def test_another_page_gets_no_token(console: Console, origin: str) -> None:
    status, entrance = await console.token({}, Origin=origin)
    assert status == 403
    assert "token" not in entrance


async def test_its_own_page_gets_a_token(console: Console) -> None:
    status, _ = await console.token({}, Origin=console.origin)
    assert status == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "10.0.0.1"])
async def test_a_name_that_was_made_to_point_here_is_refused(console: Console, host: str) -> None:
    status, _, text = await console.get("/", Host=host)
    assert status == 403
    assert "<title>" not in text


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:9999", "[::1]:80"])
async def test_loopback_has_several_names(console: Console, host: str) -> None:
    status, _, _ = await console.get("/", Host=host)
    assert status == 200


async def test_the_page_learns_how_the_worker_is(console: Console) -> None:
    async with console.client.get(f"{console.origin}/agents") as response:
        assert await response.json() == {
            "agents": [{"name": "reception"}, {"name": "sales"}],
            "worker": {"state": "ready", "detail": ""},
        }
    console.worker, console.agents = ("failed", "the worker ended with exit code 1; its log:\nsecret path"), ("new",)
    async with console.client.get(f"{console.origin}/agents") as response:
        assert await response.json() == {
            "agents": [{"name": "new"}],
            "worker": {"state": "failed", "detail": "the worker ended with exit code 1; its log:"},
        }


async def test_a_taken_port_is_an_error_and_leaves_nothing_open(console: Console, static: Path) -> None:
    app = console_app(ConsoleState(server=SERVER, agents=tuple, worker=lambda: ("ready", "")), static=static)
    with pytest.raises(OSError, match="address already in use"):
        await serve(app, port=console.port)


async def test_the_policy_allows_the_media_server_in_its_own_scheme_only(static: Path) -> None:
    cloud = ServerSettings(url="wss://x.livekit.cloud", api_key="k", api_secret="s")
    app = console_app(ConsoleState(server=cloud, agents=tuple, worker=lambda: ("ready", "")), static=static)
    runner, port = await serve(app, port=0)
    async with ClientSession() as client, client.get(f"http://{HOST}:{port}/") as response:
        policy = response.headers["Content-Security-Policy"]
    await runner.cleanup()
    assert "connect-src 'self' wss://x.livekit.cloud https://x.livekit.cloud wss://*.livekit.cloud" in policy
    assert "ws://" not in policy
