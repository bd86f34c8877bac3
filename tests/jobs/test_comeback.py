"""Calls whose process dies, with real processes: they go on in another one, and the server hears nothing of it."""

from __future__ import annotations

import os
import signal
import time

import pytest

from greenroom.jobs.events import Outcome
from greenroom.jobs.lifecycle import State
from tests.jobs.conftest import Open
from tests.jobs.greenrooms import deadlines, job, settings


async def test_a_killed_process_is_replaced_in_the_same_call(open_room: Open) -> None:
    room = await open_room(settings(attempts=3))
    info = job(journal="/somewhere/one.journal")
    first = await room.started(info)
    await room.warm()
    (spare,) = [process for process in room.processes if process is not first]
    assert first.pid is not None
    began = time.monotonic()
    os.kill(first.pid, signal.SIGKILL)
    await room.until(lambda: len(room.in_room) == 2)
    assert room.process(info) is spare, "one that was warm"
    again = room.in_room[1]
    assert again.resume is not None
    assert (again.resume.attempt, again.resume.farewell) == (2, False)
    assert again.resume.journal == "/somewhere/one.journal"
    assert again.resume.died == "exited during the call: SIGKILL"
    assert began < again.resume.at < time.monotonic()
    assert (again.id, again.identity, again.token, again.room) == (info.id, info.identity, info.token, info.room)
    assert room.resumed == [(again, Outcome.CRASHED)]
    assert room.errors == {}
    await room.warm()
    room.pool.end_job(info.id, "hang up")
    assert await room.over(info) is Outcome.SUCCESS
    assert room.errors == {info.id: ""}


async def test_it_comes_back_as_often_as_it_may(open_room: Open) -> None:
    room = await open_room(settings(attempts=2))
    info = job("short", crashes="2")
    room.pool.start_job("host", info)
    assert await room.over(info) is Outcome.SUCCESS
    assert [one.resume.attempt for one, _ in room.resumed if one.resume] == [2, 3]


async def test_one_that_dies_too_often_says_farewell(open_room: Open) -> None:
    room = await open_room(settings(attempts=2))
    info = job(crashes="3")
    room.pool.start_job("host", info)
    assert await room.over(info) is Outcome.FAILED
    assert room.errors == {info.id: "given up"}
    assert [one.resume.farewell for one, _ in room.resumed if one.resume] == [False, False, True]


async def test_and_when_that_dies_too_the_job_has_failed(open_room: Open) -> None:
    room = await open_room(settings(attempts=1))
    info = job(crashes="3")
    room.pool.start_job("host", info)
    assert await room.over(info) is Outcome.CRASHED
    assert room.errors == {info.id: "exited during the call: SIGKILL"}


async def test_a_hung_process_is_killed_before_another_takes_its_place(open_room: Open) -> None:
    room = await open_room(settings(attempts=1, limits=deadlines(ping_timeout=1)))
    await room.warm()
    info = job("hangs")
    room.pool.start_job("host", info)
    await room.until(lambda: room.resumed)
    ((again, how),) = room.resumed
    assert how is Outcome.UNRESPONSIVE
    assert again.resume is not None
    assert again.resume.died == "did not answer for 1 s"
    # The second hangs too, and the third says farewell.
    assert await room.over(info) is Outcome.FAILED


async def test_memory_that_leaks_costs_the_process_and_not_the_call(open_room: Open) -> None:
    room = await open_room(settings(attempts=1, memory_limit_mb=80))
    room.pool._scales.interval = 0.05
    await room.warm()
    info = job("fat")
    room.pool.start_job("host", info)
    assert await room.over(info) is Outcome.FAILED
    assert [how for _, how in room.resumed] == [Outcome.OUT_OF_MEMORY] * 2


@pytest.mark.parametrize("metadata", ["raises", "exits"])
async def test_the_agents_own_error_is_not_tried_again(open_room: Open, metadata: str) -> None:
    room = await open_room(settings(attempts=3))
    info = job(metadata)
    room.pool.start_job("host", info)
    assert await room.over(info) is Outcome.FAILED
    assert room.resumed == []


async def test_one_that_was_asked_to_end_stays_dead(open_room: Open) -> None:
    room = await open_room(settings(attempts=3))
    info = job("cancellable")
    process = await room.started(info)
    room.pool.end_job(info.id, "hang up")
    await room.until(lambda: process.state is State.ENDING)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    assert await room.over(info) is Outcome.CRASHED
    assert room.resumed == []


async def test_one_that_ends_while_it_waits_for_another_process(open_room: Open) -> None:
    room = await open_room(settings(attempts=3, warm=0))
    info = job()
    process = await room.started(info)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    await room.until(lambda: room.resumed)
    assert room.pool.jobs == {info.id: None}
    room.pool.end_job(info.id, "the caller hung up")
    assert room.outcomes == {info.id: Outcome.RETIRED}
    assert room.errors == {info.id: "ended before it started: the caller hung up"}


async def test_it_goes_before_those_that_were_not_answered_yet(open_room: Open) -> None:
    room = await open_room(settings(attempts=1, warm=0))
    info, other = job(), job()
    process = await room.started(info)
    room.pool.start_job("host", other)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    await room.until(lambda: info.id in room.pool._benches["host"].waiting or len(room.in_room) > 1)
    assert next(iter(room.pool._benches["host"].waiting), info.id) == info.id
    await room.until(lambda: len(room.in_room) == 3)


async def test_several_at_once(open_room: Open) -> None:
    room = await open_room(settings(attempts=1, warm=2))
    infos = [job() for _ in range(3)]
    for info in infos:
        await room.started(info)
    for info in infos:
        pid = room.process(info).pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
    await room.until(lambda: len(room.in_room) == 6)
    assert len(set(room.pool.jobs.values())) == 3
    for info in infos:
        room.pool.end_job(info.id, "hang up")
        assert await room.over(info) is Outcome.SUCCESS
