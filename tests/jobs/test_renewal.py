"""Warm processes that are replaced: the settings have changed, or they are too old. Calls go on with what they have."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec

from greenroom.jobs.events import Outcome
from greenroom.jobs.process import JobProcess
from greenroom.settings import Settings
from tests.jobs.conftest import Open
from tests.jobs.greenrooms import GreenRoom, job, settings


async def only(room: GreenRoom) -> JobProcess:
    await room.warm()
    (process,) = room.processes
    return process


def changed(before: Settings, *agents: str, **worker: object) -> Settings:
    after = settings(*agents or ("host",))
    return msgspec.structs.replace(after, worker=msgspec.structs.replace(before.worker, **worker))


async def test_new_settings_make_new_processes(open_room: Open) -> None:
    before = settings()
    room = await open_room(before)
    info = job()
    busy = await room.started(info)
    await room.warm()
    (old,) = [process for process in room.processes if process is not busy]
    room.pool.reload(changed(before, memory_warn_mb=77))
    assert old.available, "it takes calls until the new one is warm"
    await room.until(lambda: old not in room.processes)
    (new,) = [process for process in room.processes if process is not busy]
    assert new.available
    assert room.recycles == 1
    assert room.process(info) is busy
    room.pool.end_job(info.id, "hang up")
    assert await room.over(info) is Outcome.SUCCESS


async def test_a_job_that_comes_meanwhile_finds_the_old_one(open_room: Open) -> None:
    before = settings()
    room = await open_room(before)
    old = await only(room)
    room.pool.reload(changed(before))
    info = job()
    room.pool.start_job("host", info)
    assert room.process(info) is old


async def test_settings_that_do_not_boot_cost_no_warm_process(open_room: Open, tmp_path: Path) -> None:
    await asyncio.to_thread((tmp_path / "mended").touch)
    before = settings("mended", state_dir=str(tmp_path))
    room = await open_room(before)
    await room.warm("mended")
    room.pool.reload(changed(before, "mended", state_dir="/nowhere"))
    await room.until(lambda: room.shown["mended"].boot_error)
    assert (room.shown["mended"].warm, room.shown["mended"].bootable) == (1, True)
    await room.started(job(agent="mended"))


async def test_more_and_fewer(open_room: Open) -> None:
    before = settings()
    room = await open_room(before)
    await room.warm()
    room.pool.reload(changed(before, warm=3))
    await room.warm(processes=3)
    await room.until(lambda: len(room.processes) == 3)
    room.pool.reload(changed(before, warm=1))
    await room.until(lambda: len(room.processes) == 1)
    await room.until(lambda: room.shown["host"].warm == 1)


async def test_agents_come_and_go(open_room: Open) -> None:
    before = settings()
    room = await open_room(before)
    info = job()
    await room.started(info)
    await room.warm()
    room.pool.reload(changed(before, "other"))
    await room.warm("other")
    assert [warmth.agent for warmth in room.pool.warmth()] == ["other"]
    await room.until(lambda: len(room.processes) == 2)
    await room.started(job(agent="other"))
    # The call of the one that is gone comes to its own end.
    room.pool.end_job(info.id, "hang up")
    assert await room.over(info) is Outcome.SUCCESS
    room.pool.reload(before)
    await room.warm("host")
    await room.started(job())


async def test_other_modules_to_preload_are_another_fork_server(open_room: Open) -> None:
    before = settings()
    room = await open_room(before)
    info = job()
    await room.started(info)
    first = room.pool.fork_server_pid
    room.pool.reload(changed(before, preload=("json",)))
    await room.until(lambda: room.pool.fork_server_pid not in (None, first))
    await room.warm()
    room.pool.end_job(info.id, "hang up")
    assert await room.over(info) is Outcome.SUCCESS


async def test_old_processes_are_recycled(open_room: Open) -> None:
    room = await open_room(settings(recycle_after=0.5))
    old = await only(room)
    await room.until(lambda: old not in room.processes)
    await room.warm()
    assert room.recycles >= 1
    # One that works is not replaced, however long it takes.
    info = job()
    busy = await room.started(info)
    seen = room.recycles
    await room.until(lambda: room.recycles > seen)
    assert room.process(info) is busy
