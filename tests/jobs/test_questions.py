"""Offers that the agent's own code decides about, with real processes."""

from __future__ import annotations

import asyncio
import os
import signal

from greenroom.jobs.events import Outcome
from greenroom.jobs.ipc import Considered
from greenroom.jobs.lifecycle import State
from tests.jobs.conftest import Open
from tests.jobs.greenrooms import PATIENCE, GreenRoom, deadlines, job, settings


async def asked(room: GreenRoom, metadata: str) -> tuple[bool, str]:
    async with asyncio.timeout(PATIENCE):
        decision = await room.pool.consider("picky", job(metadata, agent="picky"))
    return decision.accepted, decision.reason


def picky(seconds: float = 10.0, **limits: float) -> object:
    return settings("picky", limits=deadlines(on_request=seconds, **limits))


async def test_what_the_agent_says(open_room: Open) -> None:
    room = await open_room(picky())
    await room.warm("picky")
    assert room.shown["picky"].considers
    assert await asked(room, "wanted") == (True, "")
    assert await asked(room, "unwanted") == (False, "not today")
    assert await asked(room, "buggy") == (False, "undecided")
    # The same process has answered all, and takes the job.
    (process,) = room.processes
    info = job(agent="picky")
    assert await room.started(info) is process


async def test_who_does_not_want_to_be_asked_is_not(open_room: Open) -> None:
    room = await open_room()
    await room.warm()
    assert not room.shown["host"].considers


async def test_more_offers_than_processes(open_room: Open) -> None:
    room = await open_room(picky())
    await room.warm("picky")
    decisions = await asyncio.gather(*(asked(room, "wanted") for _ in range(5)))
    assert decisions == [(True, "")] * 5
    assert room.shown["picky"].warm == 1


async def test_the_same_offer_is_asked_about_once(open_room: Open) -> None:
    room = await open_room(picky())
    await room.warm("picky")
    info = job("wanted", agent="picky")
    first, second = room.pool.consider("picky", info), room.pool.consider("picky", info)
    assert first is second
    assert (await first).identity == "wanted"


async def test_an_answer_that_comes_too_late(open_room: Open) -> None:
    room = await open_room(picky(0.2))
    await room.warm("picky")
    (process,) = room.processes
    assert await asked(room, "slow") == (False, "undecided")
    assert process.state is State.CONSIDERING
    assert await asked(room, "wanted") == (False, "no_warm_process")
    await room.until(lambda: process.available)
    assert room.processes == [process]


async def test_code_that_hangs_costs_its_process(open_room: Open) -> None:
    room = await open_room(picky(0.2, ping_timeout=1))
    await room.warm("picky")
    (process,) = room.processes
    assert await asked(room, "hangs") == (False, "undecided")
    await room.until(lambda: process not in room.processes)
    await room.warm("picky")
    assert await asked(room, "wanted") == (True, "")


async def test_a_process_that_dies_over_it(open_room: Open) -> None:
    room = await open_room(picky())
    await room.warm("picky")
    (process,) = room.processes
    question = room.pool.consider("picky", job("hangs", agent="picky"))
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    async with asyncio.timeout(PATIENCE):
        assert (await question).reason == "undecided"


async def test_nobody_is_there(open_room: Open) -> None:
    room = await open_room(settings("picky", warm=0, limits=deadlines(on_request=0.05)))
    assert await asked(room, "wanted") == (False, "no_warm_process")


async def test_closing_answers_what_is_open(open_room: Open) -> None:
    room = await open_room(settings("picky", warm=0))
    question = room.pool.consider("picky", job(agent="picky"))
    await room.pool.aclose()
    assert await question == Considered(question.result().job_id, accepted=False, reason="draining")


async def test_a_job_is_served_while_another_offer_is_considered(open_room: Open) -> None:
    room = await open_room(picky())
    await room.warm("picky")
    question = room.pool.consider("picky", job("slow", agent="picky"))
    info = job(agent="picky")
    await room.started(info)
    assert (await question).accepted
    room.pool.end_job(info.id, "hang up")
    assert await room.over(info) is Outcome.SUCCESS
