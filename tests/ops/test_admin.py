"""The admin surface, asked over real sockets: loopback, a socket in the run directory, and strangers."""

from __future__ import annotations

import asyncio
import json
import socket
import stat
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from greenroom.errors import GreenroomError, SettingsError
from greenroom.ops import asking
from greenroom.ops.admin import SOCKET, Admin, is_loopback
from greenroom.ops.asking import Door, NoWorker, ask_drain, ask_status, doors, open_door
from greenroom.ops.metrics import Metrics
from greenroom.settings import AdminSettings, WorkerSettings
from tests.ops.workers import MadeUp, agent, one_call

TOKEN = "correct horse battery staple"
HERE = "127.0.0.1"
ANYWHERE = "0.0.0.0"  # noqa: S104


class Surface:
    """An ``Admin`` that runs, and someone who asks it."""

    def __init__(self, admin: Admin, facts: MadeUp, session: aiohttp.ClientSession) -> None:
        self.admin = admin
        self.facts = facts
        self.session = session

    async def ask(self, path: str, *, method: str = "GET", **headers: str) -> tuple[int, Any]:
        url = f"http://{HERE}:{self.admin.port}{path}"
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.session.request(method, url, headers=named) as answer:
            assert answer.headers["Cache-Control"] == "no-store"
            return answer.status, await answer.json()


def left_in(folder: Path) -> list[str]:
    return [file.name for file in folder.iterdir()]


@asynccontextmanager
async def surface(run_dir: Path, *, host: str = HERE, token: str = "", port: int = 0) -> AsyncIterator[Surface]:
    facts = MadeUp(jobs=(one_call(),), free=9)
    admin = Admin(AdminSettings(host=host, port=port, token=token), facts, metrics=Metrics(), run_dir=run_dir)
    await admin.start()
    try:
        async with aiohttp.ClientSession() as session:
            yield Surface(admin, facts, session)
    finally:
        await admin.aclose()


# --- probes -----------------------------------------------------------------------------------------------------------


async def test_a_worker_that_would_take_a_call(tmp_path: Path) -> None:
    async with surface(tmp_path) as there:
        healthy = {"status": "healthy", "reasons": [], "version": "1.2.3", "lag": 0.0}
        assert await there.ask("/healthz") == (200, healthy)
        assert await there.ask("/readyz") == (200, healthy | {"status": "ready"})


async def test_a_worker_that_would_not(tmp_path: Path) -> None:
    async with surface(tmp_path) as there:
        there.facts.now = MadeUp(agents=(agent(refusal="full"),), free=0).now
        code, told = await there.ask("/readyz")
        full = {"reason": "full", "detail": "10 of 10 slots are taken", "agent": "reception"}
        assert (code, told["status"], told["reasons"]) == (503, "not ready", [full])
        assert (await there.ask("/healthz"))[0] == 200
        assert (await there.ask("/readyz?agent=reception"))[0] == 503
        assert (await there.ask("/readyz?full=true"))[0] == 200
        assert (await there.ask("/readyz?agent=nobody"))[1]["reasons"][0]["reason"] == "unknown_agent"


async def test_a_worker_that_can_make_no_process(tmp_path: Path) -> None:
    async with surface(tmp_path) as there:
        there.facts.now = MadeUp(fork_server_pid=None).now
        for path in ("/healthz", "/readyz"):
            code, told = await there.ask(f"{path}?full=true")
            assert (code, told["reasons"][0]["reason"]) == (503, "fork_server_gone")


async def test_a_stuck_loop_gives_no_answer(tmp_path: Path) -> None:
    def probe(port: int) -> str:
        with socket.create_connection((HERE, port), timeout=0.5) as client:
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            try:
                return client.recv(1024).decode().split("\r\n")[0]
            except TimeoutError:
                return "nothing"

    async with surface(tmp_path) as there:
        port = there.admin.port
        probing = asyncio.create_task(asyncio.to_thread(probe, port))
        await asyncio.sleep(0)
        time.sleep(1.0)  # noqa: ASYNC251  # the loop is stuck
        assert await probing == "nothing"
        assert await asyncio.to_thread(probe, port) == "HTTP/1.1 200 OK"


async def test_metrics_for_prometheus(tmp_path: Path) -> None:
    async with surface(tmp_path) as there, there.session.get(f"http://{HERE}:{there.admin.port}/metrics") as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        text = await answer.text()
    assert "greenroom_jobs" in {family.name for family in text_string_to_metric_families(text)}
    assert "secret-room" not in text


# --- who may what -----------------------------------------------------------------------------------------------------


def names_rooms(told: Any) -> bool:
    return "secret-room" in json.dumps(told)


async def test_on_this_machine_everybody_is_trusted(tmp_path: Path) -> None:
    async with surface(tmp_path) as there:
        code, told = await there.ask("/status")
        assert (code, told["jobs"][0]["room"], told["run_dir"]) == (200, "secret-room", "/run/greenroom")
        assert (await there.ask("/drain", method="POST"))[0] == 202
        assert (await there.ask("/drain?now=true", method="POST"))[0] == 202
        assert there.facts.asked == ["drain", "end"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Host": "evil.example:8081"},
        {"X_Forwarded_For": "203.0.113.9"},
        {"Forwarded": "for=203.0.113.9"},
    ],
)
async def test_pages_and_proxies_are_strangers(tmp_path: Path, headers: dict[str, str]) -> None:
    async with surface(tmp_path) as there:
        assert not names_rooms(await there.ask("/status", **headers))
        code, told = await there.ask("/drain", method="POST", **headers)
        assert code == 403
        assert "worker.admin.token" in told["error"]
        assert there.facts.asked == []


@pytest.mark.parametrize("host", [HERE, ANYWHERE])
async def test_where_there_is_a_token_it_is_asked_for(tmp_path: Path, host: str) -> None:
    async with surface(tmp_path, host=host, token=TOKEN) as there:
        for wrong in ({}, {"Authorization": "Bearer x"}, {"Authorization": f"Basic {TOKEN}"}, {"Authorization": "é"}):
            code, told = await there.ask("/status", **wrong)
            assert (code, names_rooms(told), told["run_dir"]) == (200, False, "")
            assert (await there.ask("/drain", method="POST", **wrong))[0] == 401
        assert there.facts.asked == []
        right = {"Authorization": f"bearer {TOKEN}"}
        assert names_rooms(await there.ask("/status", **right))
        assert (await there.ask("/drain", method="POST", **right))[0] == 202
        assert there.facts.asked == ["drain"]
        assert (await there.ask("/readyz"))[0] == 200


async def test_elsewhere_without_a_token_nothing_is_changed_and_no_room_is_named(tmp_path: Path) -> None:
    with capture_logs() as logs:
        async with surface(tmp_path, host=ANYWHERE) as there:
            code, told = await there.ask("/status")
            assert (code, names_rooms(told), len(told["jobs"])) == (200, False, 1)
            assert (await there.ask("/drain", method="POST"))[0] == 403
            assert there.facts.asked == []
    assert "admin without token" in [entry["event"] for entry in logs]


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
async def test_what_probes_see_names_no_room(tmp_path: Path, path: str) -> None:
    async with surface(tmp_path, host=ANYWHERE) as there:
        there.facts.now = MadeUp(jobs=(one_call(),), agents=(agent(refusal="no_warm_process", boot_error="x.py"),)).now
        async with there.session.get(f"http://{HERE}:{there.admin.port}{path}") as answer:
            text = await answer.text()
        assert "secret-room" not in text
        assert "AJ_1" not in text
        assert "x.py" not in text


async def test_a_new_daemon_is_let_in_on_the_socket_only(tmp_path: Path) -> None:
    async with surface(tmp_path, token=TOKEN) as there:
        assert (await there.ask("/handover", method="POST", Authorization=f"Bearer {TOKEN}"))[0] == 404
        assert there.facts.asked == []


async def test_what_is_not_there_is_said_in_json(tmp_path: Path) -> None:
    async with surface(tmp_path) as there:
        assert await there.ask("/rooms") == (404, {"error": "Not Found"})
        assert await there.ask("/drain") == (405, {"error": "Method Not Allowed"})


async def test_whatever_comes_in_the_next_request_is_answered(tmp_path: Path) -> None:
    nonsense = [b"\x16\x03\x01\x02\x00", b"GET / HTTP/9.9\r\n\r\n", b"A" * 100_000, b"POST /drain HTTP/1.1\r\n"]
    async with surface(tmp_path) as there:
        for each in nonsense:
            reader, writer = await asyncio.open_connection(HERE, there.admin.port)
            writer.write(each)
            writer.write_eof()
            answer = await reader.read()
            assert not answer.startswith(b"HTTP/1.1 2"), answer
            writer.close()
            await writer.wait_closed()
        assert (await there.ask("/healthz"))[0] == 200
        assert there.facts.asked == []


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), (ANYWHERE, False), ("::", False),
     ("10.0.0.1", False), ("example.com", False), ("", False)],
)  # fmt: skip
def test_what_is_this_machine_alone(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


# --- the socket -------------------------------------------------------------------------------------------------------


async def test_the_socket_is_for_this_user_alone_and_trusts_them(tmp_path: Path) -> None:
    async with surface(tmp_path, host=ANYWHERE, token=TOKEN) as there:
        assert stat.S_IMODE((tmp_path / SOCKET).stat().st_mode) == 0o600
        door = Door(tmp_path / SOCKET)
        assert (await ask_status(door)).jobs[0].room == "secret-room"
        await ask_drain(door)
        await ask_drain(door, now=True)
        assert there.facts.asked == ["drain", "end"]
    assert left_in(tmp_path) == []


async def test_without_tcp_the_socket_is_there(tmp_path: Path) -> None:
    admin = Admin(AdminSettings(enabled=False), MadeUp(), metrics=Metrics(), run_dir=tmp_path)
    await admin.start()
    try:
        assert admin.port == 0
        assert (await ask_status(Door(tmp_path / SOCKET))).version == "1.2.3"
    finally:
        await admin.aclose()


async def test_the_socket_of_a_dead_daemon_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / SOCKET))
    with pytest.raises(NoWorker, match="refused"):
        await ask_status(Door(tmp_path / SOCKET))
    async with surface(tmp_path):
        assert (await ask_status(Door(tmp_path / SOCKET))).pid == 42


async def test_a_path_that_is_too_long_is_the_users_mistake(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    admin = Admin(AdminSettings(), MadeUp(), metrics=Metrics(), run_dir=folder)
    with pytest.raises(SettingsError, match=r"worker\.run_dir: cannot listen"):
        await admin.start()
    await admin.aclose()


# --- one daemon after another -----------------------------------------------------------------------------------------


async def test_a_port_that_is_taken_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("greenroom.ops.admin.RETRY", 0.02)
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
    async with aiohttp.ClientSession() as session:
        with capture_logs() as logs:
            async with surface(tmp_path / "old") as old:
                port = old.admin.port
                new = Admin(
                    AdminSettings(port=port), MadeUp(version="2.0.0"), metrics=Metrics(), run_dir=tmp_path / "new"
                )
                await new.start()
                assert new.port == 0
        try:
            assert new._retry is not None
            await asyncio.wait_for(asyncio.shield(new._retry), 10)
            async with session.get(f"http://{HERE}:{port}/healthz") as answer:
                assert (await answer.json())["version"] == "2.0.0"
        finally:
            await new.aclose()
    assert [entry["event"] for entry in logs].count("admin port taken") == 1


async def test_who_waits_for_a_port_can_be_closed(tmp_path: Path) -> None:
    with socket.create_server((HERE, 0)) as taken:
        settings = AdminSettings(port=taken.getsockname()[1])
        admin = Admin(settings, MadeUp(), metrics=Metrics(), run_dir=tmp_path)
        await admin.start()
        await admin.aclose()
    assert left_in(tmp_path) == []


async def test_an_address_of_another_machine_is_the_users_mistake(tmp_path: Path) -> None:
    admin = Admin(AdminSettings(host="192.0.2.1", port=0), MadeUp(), metrics=Metrics(), run_dir=tmp_path)
    with pytest.raises(SettingsError, match=r"worker\.admin: cannot listen on 192\.0\.2\.1:0"):
        await admin.start()
    await admin.aclose()


async def hand_over(folder: Path) -> tuple[int, Any]:
    """Over the socket, as whoever may enter the run directory asks for it."""
    connector = aiohttp.UnixConnector(str(folder / SOCKET))
    async with aiohttp.ClientSession(connector=connector) as session, session.post("http://w/handover") as answer:
        return answer.status, await answer.json()


async def test_a_new_daemon_can_be_asked_for(tmp_path: Path) -> None:
    async with surface(tmp_path) as there:
        assert await hand_over(tmp_path) == (200, {"handed_over": True})
        there.facts.refuse_hand_over = "the new daemon did not start"
        assert await hand_over(tmp_path) == (409, {"error": "the new daemon did not start"})
        assert there.facts.asked == ["hand over"]


async def test_the_old_daemon_leaves_the_new_ones_socket_alone(tmp_path: Path) -> None:
    async with surface(tmp_path) as old, surface(tmp_path) as new:
        new.facts.now = MadeUp(pid=99).now
        await old.admin.aclose()
        assert (await ask_status(Door(tmp_path / SOCKET))).pid == 99


# --- asking -----------------------------------------------------------------------------------------------------------


async def test_the_first_door_that_opens(tmp_path: Path) -> None:
    async with surface(tmp_path, token=TOKEN) as there:
        address = Door(url=f"http://{HERE}:{there.admin.port}", token=TOKEN)
        door, found = await open_door((Door(tmp_path / "other.sock"), address))
        assert (door, found.jobs[0].room) == (address, "secret-room")
        assert TOKEN not in repr(door)
        stranger = Door(url=address.url)
        assert (await ask_status(stranger)).jobs[0].room == ""
        with pytest.raises(GreenroomError, match=r"Authorization: Bearer TOKEN.* \(HTTP 401\)"):
            await ask_drain(stranger)


async def test_no_door_opens(tmp_path: Path) -> None:
    with socket.create_server((HERE, 0)) as silent:
        where = f"http://{HERE}:{silent.getsockname()[1]}"
        with pytest.raises(NoWorker, match=r"no answer within 0\.1 s"):
            await ask_status(Door(url=where), timeout=0.1)
    with pytest.raises(NoWorker, match="No such file"):
        await open_door((Door(tmp_path / SOCKET), Door(url=where)))


@pytest.mark.parametrize("body", [b"<html>", b'{"hello": "world"}'])
async def test_what_answers_may_be_something_else(body: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(answer, HERE, 0) as server:
        with pytest.raises(GreenroomError, match="expected a greenroom worker"):
            await ask_status(Door(url=f"http://{HERE}:{server.sockets[0].getsockname()[1]}"))


def test_where_a_worker_is_looked_for(tmp_path: Path) -> None:
    environment = {"XDG_RUNTIME_DIR": str(tmp_path)}
    assert [door.socket for door in doors(None, environment)] == [
        tmp_path / "greenroom" / SOCKET,
        asking.SERVICE_DIR / SOCKET,
    ]
    settings = WorkerSettings(run_dir="/srv/run", admin=AdminSettings(host="::", port=81, token=TOKEN))
    assert doors(settings, environment) == (
        Door(Path("/srv/run") / SOCKET),
        Door(url="http://[::1]:81", token=TOKEN),
    )
    assert doors(WorkerSettings(run_dir="/srv/run", admin=AdminSettings(enabled=False)), environment) == (
        Door(Path("/srv/run") / SOCKET),
    )
