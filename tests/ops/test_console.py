"""``greenroom status`` and ``greenroom drain`` as they are typed, and a worker's surface that answers them."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from greenroom.ops.admin import Admin
from greenroom.ops.facts import DrainStatus, Status
from greenroom.ops.metrics import Metrics
from greenroom.ops.wording import duration, left_over, overview
from greenroom.settings import AdminSettings
from tests.ops.workers import MadeUp, agent, link, one_call, status

TOKEN = "a token of the operator's"
CLEAN = {key: value for key, value in os.environ.items() if not key.startswith(("LIVEKIT_", "GREENROOM_", "XDG_"))}
SETTINGS = """
server: {url: "ws://media:7880", api_key: key, api_secret: 0123456789abcdef0123456789abcdef}
agents: [{name: reception, llm: {plugin: script}}]
worker: {run_dir: run, admin: {port: 0}}
"""


@asynccontextmanager
async def worker(folder: Path, settings: AdminSettings | None = None, **facts: Any) -> AsyncIterator[MadeUp]:
    made_up = MadeUp(**facts)
    admin = Admin(settings or AdminSettings(port=0), made_up, metrics=Metrics(), run_dir=folder)
    await admin.start()
    made_up.port = admin.port
    try:
        yield made_up
    finally:
        await admin.aclose()


async def greenroom(*words: str, cwd: Path, **variables: str) -> tuple[int, str, str]:
    process = await start(*words, cwd=cwd, **variables)
    out, errors = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode or 0, out.decode(), errors.decode()


async def start(*words: str, cwd: Path, **variables: str) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    command = [sys.executable, "-m", "greenroom", *words]
    return await asyncio.create_subprocess_exec(*command, cwd=cwd, env={**CLEAN, **variables}, stdout=pipe, stderr=pipe)


# --- status -----------------------------------------------------------------------------------------------------------


async def test_the_status_of_a_worker_that_is_ready(tmp_path: Path) -> None:
    async with worker(tmp_path, free=9, jobs=(one_call(),)) as there:
        code, out, errors = await greenroom("status", "--run-dir", ".", cwd=tmp_path)
        assert (code, errors, out) == (0, "", overview(there.now) + "\n")
        code, out, _ = await greenroom("status", "--run-dir", ".", "--json", cwd=tmp_path)
        assert msgspec.json.decode(out, type=Status) == there.now


async def test_the_status_of_a_worker_that_is_not_ready(tmp_path: Path) -> None:
    async with worker(tmp_path, free=0, agents=(agent(refusal="full"),)):
        code, out, _ = await greenroom("status", "--run-dir", ".", cwd=tmp_path)
    assert code == 1
    assert out.splitlines()[:2] == [
        "greenroom 1.2.3, pid 42, for 1 min: not ready",
        "  reception: full: 10 of 10 slots are taken",
    ]


async def test_a_worker_is_found_by_its_settings_and_by_itself(tmp_path: Path) -> None:
    (tmp_path / "worker.yaml").write_text(SETTINGS)
    for folder, words, variables in (
        ("run", ["-c", "worker.yaml"], {}),
        ("run", [], {"GREENROOM_CONFIG": "worker.yaml"}),
        ("greenroom", [], {"XDG_RUNTIME_DIR": str(tmp_path)}),
    ):
        (tmp_path / folder).mkdir(exist_ok=True)
        async with worker(tmp_path / folder):
            code, out, errors = await greenroom("status", *words, cwd=tmp_path, **variables)
        assert (code, errors, out.split(",")[0]) == (0, "", "greenroom 1.2.3")


async def test_a_worker_elsewhere_tells_what_the_token_allows(tmp_path: Path) -> None:
    async with worker(tmp_path, AdminSettings(port=0, token=TOKEN), jobs=(one_call(),)) as there:
        url = f"127.0.0.1:{there.port}"
        _, out, _ = await greenroom("status", "--url", url, cwd=tmp_path)
        assert "secret-room" not in out
        _, out, _ = await greenroom("status", "--url", f"http://{url}", cwd=tmp_path, GREENROOM_ADMIN_TOKEN=TOKEN)
        assert "secret-room" in out
        code, _, errors = await greenroom("drain", "--url", url, cwd=tmp_path)
        assert (code, there.asked) == (1, [])
        assert "worker.admin.token" in errors


@pytest.mark.parametrize("command", ["status", "drain"])
async def test_no_worker(tmp_path: Path, command: str) -> None:
    code, out, errors = await greenroom(command, "--run-dir", str(tmp_path), cwd=tmp_path)
    assert (code, out) == (3, "")
    assert errors == f"no worker answers: {tmp_path}/admin.sock: No such file or directory\n"


async def test_settings_that_are_wrong(tmp_path: Path) -> None:
    (tmp_path / "worker.yaml").write_text("worker: {warm: many}\n")
    code, out, errors = await greenroom("status", "-c", "worker.yaml", cwd=tmp_path)
    assert (code, out) == (2, "")
    assert "worker.yaml:1: worker.warm" in errors


# --- drain ------------------------------------------------------------------------------------------------------------


async def test_a_worker_is_told_to_drain(tmp_path: Path) -> None:
    async with worker(tmp_path, jobs=(one_call(), one_call(id="AJ_2"))) as there:
        assert await greenroom("drain", "--run-dir", ".", cwd=tmp_path) == (0, "2 calls are left\n", "")
        assert await greenroom("drain", "--run-dir", ".", "--now", cwd=tmp_path) == (0, "2 calls are left\n", "")
        assert there.asked == ["drain", "end"]


async def test_its_end_can_be_waited_for(tmp_path: Path) -> None:
    async with worker(tmp_path, drain=DrainStatus(phase="waiting", left=90.0), jobs=(one_call(),)) as there:
        process = await start("drain", "--run-dir", ".", "--wait", cwd=tmp_path, PYTHONUNBUFFERED="1")
        assert process.stdout is not None
        first = await asyncio.wait_for(process.stdout.readline(), 30)
        assert first.decode() == "1 call is left; they may end by themselves for 1 min 30 s\n"
        there.now = status(drain=DrainStatus(phase="wrapping_up", left=30.0), jobs=(one_call(),))
        second = await asyncio.wait_for(process.stdout.readline(), 30)
        assert second.decode() == "1 call is left; they are told to come to an end, for 30 s\n"
    rest, _ = await asyncio.wait_for(process.communicate(), 30)
    assert (process.returncode, rest) == (0, b"gone\n")


async def test_the_next_worker_in_its_place_is_not_waited_for(tmp_path: Path) -> None:
    async with worker(tmp_path) as there:
        process = await start("drain", "--run-dir", ".", "--wait", cwd=tmp_path, PYTHONUNBUFFERED="1")
        assert process.stdout is not None
        await asyncio.wait_for(process.stdout.readline(), 30)
        there.now = status(pid=99)
        rest, _ = await asyncio.wait_for(process.communicate(), 30)
        assert (process.returncode, rest) == (0, b"gone\n")


# --- words ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (-1, "0 s"),
        (59.6, "1 min"),
        (61, "1 min 1 s"),
        (3600, "1 h"),
        (7500, "2 h 5 min"),
        (86_400 * 9, "9 d"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_all_there_is_to_see() -> None:
    shown = overview(
        status(
            free=8,
            jobs=(one_call(memory_mb=312.2), one_call(id="AJ_2", attempt=2, adopted=True, state="away", pid=None)),
            agents=(agent(waiting=1, starting=1), agent("", warm=0, boot_error="ImportError: x\x1b[2J")),
            links=(link(server_version="1.13.5", round_trip=0.0042), link("", "opening"), link(deployment="d")),
            refused={"full": 3, "declined": 1},
            memory_available_mb=2048.0,
            lag=0.012,
        )
    )
    assert shown.splitlines() == [
        "greenroom 1.2.3, pid 42, for 1 min: not ready",
        "  (no name): not_registered: room: opening",
        "",
        "server    ws://media:7880 (1.13.5, 4.2 ms away)",
        "calls     2 of 10",
        "refused   1 declined, 3 full",
        "loop      late by 12 ms at worst",
        "memory    2048 MB left",
        "settings  /etc/greenroom/worker.yaml",
        "run_dir   /run/greenroom",
        "",
        "agent      registered       warm    starting         calls  would take a call",
        "reception  room registered  2 of 2  1, 1 waited for  2      yes",
        "(no name)  room opening     0 of 2  0                0      not_registered",
        "",
        "call  agent      room         state                      for   pid   memory",
        "AJ_1  reception  secret-room  running                    12 s  4711  312 MB",
        "AJ_2  reception  secret-room  away, adopted, 2. process  12 s  -     -",
    ]


def test_a_terminal_is_safe_from_names() -> None:
    evil = status(jobs=(one_call(room="x\x1b[2J\nfake"),))
    assert "\x1b" not in overview(evil)
    assert "fake" not in [line.strip() for line in overview(evil).splitlines()]


def test_what_a_drain_waits_for() -> None:
    assert left_over(status()) == "0 calls are left"
    ending = status(drain=DrainStatus(phase="ending", left=12.0), jobs=(one_call(),))
    assert left_over(ending) == "1 call is left; they are ended, within 12 s"
    assert json.loads(msgspec.json.encode(ending))["drain"] == {"phase": "ending", "left": 12.0}
