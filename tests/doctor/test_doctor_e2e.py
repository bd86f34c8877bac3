"""``greenroom doctor`` as it is typed, against the real media server."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from livekit import api

from greenroom.doctor import probe
from greenroom.doctor.probe import PREFIX, Probe
from greenroom.embedded.mediaserver import MediaServer, Ports
from greenroom.ops.admin import Admin
from greenroom.ops.metrics import Metrics
from greenroom.settings import AdminSettings, ServerSettings
from tests.ops.workers import MadeUp, agent

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

SETTINGS = """
agents:
  - name: reception
    llm: {plugin: script}
worker:
  run_dir: run
  admin: {enabled: false}
"""


@dataclass
class Examined:
    code: int
    findings: list[dict[str, str]]
    stderr: str

    def of(self, topic: str) -> dict[str, str]:
        """The one finding of this topic."""
        (found,) = [finding for finding in self.findings if finding["topic"] == topic]
        return found

    @property
    def wrong(self) -> list[tuple[str, str]]:
        return [(one["topic"], one["text"]) for one in self.findings if one["verdict"] == "wrong"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def media() -> AsyncIterator[MediaServer]:
    async with MediaServer() as server:
        yield server


async def examine(folder: Path, media: MediaServer, *words: str, **variables: str) -> Examined:
    """What the command says of a worker with ``SETTINGS`` in this folder."""
    (folder / "worker.yaml").write_text(SETTINGS)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("LIVEKIT_", "GREENROOM_"))}
    server = {"LIVEKIT_URL": media.url, "LIVEKIT_API_KEY": media.api_key, "LIVEKIT_API_SECRET": media.api_secret}
    command = [sys.executable, "-m", "greenroom", "doctor", "-c", "worker.yaml", "--json", *words]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, env={**clean, **server, **variables}, stdout=pipe, stderr=pipe
    )
    out, errors = await asyncio.wait_for(process.communicate(), 60)
    told = out.decode() + errors.decode()
    assert (variables.get("LIVEKIT_API_SECRET") or media.api_secret) not in told
    assert "eyJ" not in told
    return Examined(process.returncode or 0, [json.loads(line) for line in out.splitlines()], errors.decode())


@asynccontextmanager
async def worker(folder: Path, media: MediaServer, **facts: Any) -> AsyncIterator[None]:
    """What a worker in this folder says of itself."""
    (folder / "run").mkdir()
    there = MadeUp(**{"url": media.url, **facts})
    admin = Admin(AdminSettings(enabled=False), there, metrics=Metrics(), run_dir=folder / "run")
    await admin.start()
    try:
        yield
    finally:
        await admin.aclose()


@asynccontextmanager
async def server_api(media: MediaServer) -> AsyncIterator[api.LiveKitAPI]:
    async with api.LiveKitAPI(media.url, media.api_key, media.api_secret) as client:
        yield client


async def test_everything_is_right_and_nothing_is_left_behind(tmp_path: Path, media: MediaServer) -> None:
    async with worker(tmp_path, media):
        found = await examine(tmp_path, media, "--agent", "reception")
    assert (found.wrong, found.code, found.stderr) == ([], 0, "")
    assert [finding["topic"] for finding in found.findings] == [
        "settings", "agents", "worker", "worker", "server", "clock", "credentials", "registering", "version", "media",
        "dispatching", "rooms",
    ]  # fmt: skip
    assert "1.13.5" in found.of("version")["text"]
    async with server_api(media) as client:
        rooms = await client.room.list_rooms(api.ListRoomsRequest())
    assert [room.name for room in rooms.rooms if room.name.startswith(PREFIX)] == []


async def test_no_worker(tmp_path: Path, media: MediaServer) -> None:
    found = await examine(tmp_path, media, "--no-probe")
    ((topic, text),) = found.wrong
    assert (topic, found.code) == ("worker", 1)
    assert "none runs here" in text
    assert f"greenroom start -c {tmp_path / 'worker.yaml'}" in found.of("worker")["mend"]
    assert "media" not in [finding["topic"] for finding in found.findings]


async def test_a_worker_elsewhere_is_not_missed(tmp_path: Path, media: MediaServer) -> None:
    found = await examine(tmp_path, media, "--no-worker", "--no-probe")
    assert (found.wrong, found.code) == ([], 0)


async def test_a_full_worker(tmp_path: Path, media: MediaServer) -> None:
    async with worker(tmp_path, media, free=0, agents=(agent(refusal="full"),)):
        found = await examine(tmp_path, media, "--no-probe")
    assert found.wrong == [("worker", "reception takes no call: full: 10 of 10 slots are taken")]
    assert found.code == 1


async def test_a_wrong_secret(tmp_path: Path, media: MediaServer) -> None:
    found = await examine(tmp_path, media, "--no-worker", LIVEKIT_API_SECRET="x" * 32)
    assert found.wrong == [("credentials", f"api_secret is not the one that belongs to api_key {media.api_key}")]
    assert (found.code, "LIVEKIT_API_SECRET" in found.of("credentials")["mend"]) == (1, True)


async def test_a_wrong_key(tmp_path: Path, media: MediaServer) -> None:
    found = await examine(tmp_path, media, "--no-worker", LIVEKIT_API_KEY="nobody")
    assert found.wrong == [("credentials", "the server does not know api_key nobody")]


async def test_a_wrong_port(tmp_path: Path, media: MediaServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    found = await examine(tmp_path, media, "--no-worker", LIVEKIT_URL=f"ws://127.0.0.1:{port}")
    assert found.wrong == [("server", f"http://127.0.0.1:{port}: nothing listens on port {port}")]
    assert found.findings[-1]["topic"] == "server"


async def test_a_wrong_path(tmp_path: Path, media: MediaServer) -> None:
    found = await examine(tmp_path, media, "--no-worker", LIVEKIT_URL=f"{media.url}/prefix")
    ((topic, text),) = found.wrong
    assert (topic, "HTTP 404" in text) == ("registering", True)


async def test_a_wrong_agent_name_where_it_is_asked_for(tmp_path: Path, media: MediaServer) -> None:
    async with server_api(media) as client:
        created = await client.agent_dispatch.create_dispatch(
            api.CreateAgentDispatchRequest(room="lobby", agent_name="receptoin")
        )
        await client.agent_dispatch.create_dispatch(
            api.CreateAgentDispatchRequest(room="lobby", agent_name="reception")
        )
        try:
            # As old as the server lets a dispatch become before it is lost.
            await asyncio.sleep(10)
            found = await examine(
                tmp_path, media, "--no-worker", "--no-probe", "--agent", "receptoin", "--room", "lobby"
            )
        finally:
            await client.room.delete_room(api.DeleteRoomRequest(room="lobby"))
    assert created.id
    name, *rooms = (text for _, text in found.wrong)
    assert name == "no agent here is called receptoin; there is reception; did you mean reception?"
    asked, lost = sorted(rooms, key=lambda text: "lost" in text)
    assert "room lobby asks for receptoin, whom no worker has taken" in asked
    assert "room lobby: its dispatch of reception" in lost
    assert found.code == 1


async def test_media_ports_that_are_not_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    class Behind(MediaServer):
        """No interface of its is listened on for media."""

        def _configuration(self, ports: Ports) -> str:
            settings = json.loads(super()._configuration(ports))
            settings["rtc"] |= {"node_ip": "192.0.2.1", "interfaces": {"includes": ["nothing0"]}}
            return json.dumps(settings)

    monkeypatch.setattr(probe, "JOINED_WITHIN", 3.0)
    async with Behind() as media:
        server = ServerSettings(url=media.url, api_key=media.api_key, api_secret=media.api_secret)
        examined = Probe(server)
        try:
            assert [finding.verdict for finding in await examined.register()] == ["right", "right"]
            (finding,) = [one for one in await examined.dispatch() if one.topic == "media"]
        finally:
            await examined.aclose()
    assert (finding.verdict, "rtc.node_ip" in finding.mend) == ("wrong", True)
    assert "a room is not entered" in finding.text


async def test_a_room_that_is_not_there(tmp_path: Path, media: MediaServer) -> None:
    found = await examine(tmp_path, media, "--no-worker", "--no-probe", "--room", "nowhere")
    ((topic, text),) = found.wrong
    assert (topic, "there is no room nowhere" in text) == ("rooms", True)


async def test_settings_that_are_wrong(tmp_path: Path, media: MediaServer) -> None:
    found = await examine(tmp_path, media, LIVEKIT_API_SECRET="")
    assert (found.code, found.findings) == (2, [])
    assert "api_secret" in found.stderr
