"""What has left a queue, by the clock alone."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.audio import Pcm
from greenroom.errors import LocalProtocolError
from greenroom.room.pacing import PIECE, PacedQueue, PlayClock
from greenroom.testing.virtual_time import virtual_time

RATE = 24_000


def test_samples_leave_at_their_rate() -> None:
    clock = PlayClock(RATE)
    assert clock.add(2400, 5.0) == 5.0
    assert clock.queued(5.04) == pytest.approx(0.06)
    assert clock.add(1200, 5.05) == pytest.approx(5.1)
    assert clock.end == pytest.approx(5.15)
    assert clock.queued(5.2) == 0
    assert clock.add(240, 5.2) == 5.2
    assert clock.clear(5.204) == pytest.approx(0.006)
    assert clock.queued(5.204) == 0
    assert clock.add(240, 5.204) == 5.204


def test_ten_hours_add_up_exactly() -> None:
    clock = PlayClock(RATE)
    for _ in range(10 * 3600 * 100):
        clock.add(240, 0.0)
    assert clock.end == 36_000.0


@given(st.lists(st.tuples(st.sampled_from(["add", "clear"]), st.integers(1, 9600), st.floats(0, 1)), max_size=60))
def test_what_went_in_has_left_or_is_queued_or_was_dropped(steps: list[tuple[str, int, float]]) -> None:
    clock, now, pushed, dropped, left = PlayClock(RATE), 0.0, 0.0, 0.0, 0.0
    for what, samples, gap in steps:
        left += min(gap, clock.queued(now))
        now += gap
        if what == "add":
            assert clock.add(samples, now) >= now
            pushed += samples / RATE
        else:
            dropped += clock.clear(now)
        assert clock.queued(now) >= 0
        assert left + clock.queued(now) + dropped == pytest.approx(pushed, abs=1e-6)


def test_nothing_leaves_while_the_clock_stands_still() -> None:
    clock = PlayClock(RATE)
    clock.add(2400, 5.0)
    clock.stop(5.04)
    clock.stop(5.05)
    assert clock.queued(9.0) == pytest.approx(0.06)
    clock.go_on(10.0)
    assert clock.queued(10.0) == pytest.approx(0.06)
    assert clock.end == pytest.approx(10.06)
    clock.stop(11.0)
    clock.go_on(12.0)
    assert clock.queued(12.0) == 0
    assert clock.add(240, 12.0) == 12.0
    clock.stop(12.004)
    assert clock.clear(13.0) == pytest.approx(0.006)
    clock.go_on(14.0)
    assert clock.queued(14.0) == 0
    assert clock.add(240, 14.0) == 14.0


@virtual_time
async def test_pushes_wait_while_the_queue_stands_still_and_can_be_cleared() -> None:
    queue, loop = PacedQueue(RATE, limit=0.2), asyncio.get_running_loop()
    sent: list[float] = []

    async def send(piece: Pcm, at: float) -> None:
        sent.append(at)

    began = loop.time()
    push = asyncio.create_task(queue.push(np.zeros(RATE, dtype=np.int16), send))
    await asyncio.sleep(0.51)
    queue.stop()
    before, queued = len(sent), queue.queued
    await asyncio.sleep(30)
    assert (len(sent), queue.queued) == (before, queued)
    assert queued == pytest.approx(1 - 0.51)
    queue.go_on()
    await push
    assert loop.time() == pytest.approx(began + 30 + 0.8)
    assert sent[-1] == pytest.approx(began + 30 + 0.95)
    queue.stop()
    push = asyncio.create_task(queue.push(np.zeros(RATE, dtype=np.int16), send))
    await asyncio.sleep(1)
    assert queue.clear() == pytest.approx(0.2)
    await asyncio.wait_for(push, 1)
    queue.go_on()
    assert queue.queued == 0


@virtual_time
async def test_push_waits_for_room_and_hands_on_pieces_in_order() -> None:
    queue, loop = PacedQueue(RATE, limit=0.2), asyncio.get_running_loop()
    sent: list[tuple[float, int, float]] = []

    async def send(piece: Pcm, at: float) -> None:
        sent.append((loop.time(), len(piece), at))

    await queue.push(np.zeros(round(0.33 * RATE), dtype=np.int16), send)
    assert [length for _, length, _ in sent] == [1200] * 6 + [720]
    assert [at for _, _, at in sent] == pytest.approx([n * PIECE for n in range(7)])
    assert [when for when, _, _ in sent] == pytest.approx([0, 0, 0, 0, 0.05, 0.1, 0.13])
    assert queue.queued == pytest.approx(0.2)


@virtual_time
async def test_waiting_samples_count_as_queued_and_clear_ends_the_wait() -> None:
    queue = PacedQueue(RATE, limit=0.2)
    sent: list[int] = []

    async def send(piece: Pcm, _at: float) -> None:
        sent.append(len(piece))

    push = asyncio.create_task(queue.push(np.zeros(RATE, dtype=np.int16), send))
    await asyncio.sleep(0.41)
    assert queue.queued == pytest.approx(0.59)
    assert queue.clear() == pytest.approx(0.19)
    assert queue.queued == 0
    await push
    assert sum(sent) == round(0.6 * RATE)


@virtual_time
async def test_a_clear_while_a_piece_is_handed_on_ends_the_push_after_it() -> None:
    queue = PacedQueue(RATE, limit=0.2)
    sent: list[int] = []

    async def send(piece: Pcm, _at: float) -> None:
        sent.append(len(piece))
        await asyncio.sleep(0.001)

    push = asyncio.create_task(queue.push(np.zeros(RATE, dtype=np.int16), send))
    await asyncio.sleep(0.0005)
    queue.clear()
    other = asyncio.create_task(queue.push(np.zeros(240, dtype=np.int16), send))
    await asyncio.gather(push, other)
    assert sent == [1200, 240]


@virtual_time
async def test_one_push_at_a_time() -> None:
    queue = PacedQueue(RATE, limit=0.2)

    async def send(_piece: Pcm, _at: float) -> None:
        return

    push = asyncio.create_task(queue.push(np.zeros(RATE, dtype=np.int16), send))
    await asyncio.sleep(0.1)
    with pytest.raises(LocalProtocolError):
        await queue.push(np.zeros(10, dtype=np.int16), send)
    push.cancel()
    await asyncio.gather(push, return_exceptions=True)
    await queue.push(np.zeros(10, dtype=np.int16), send)


@virtual_time
async def test_an_error_in_handing_on_comes_through_and_frees_the_queue() -> None:
    queue = PacedQueue(RATE, limit=0.2)

    async def fail(_piece: Pcm, _at: float) -> None:
        raise OSError("no device")

    with pytest.raises(OSError, match="no device"):
        await queue.push(np.zeros(10, dtype=np.int16), fail)
    with pytest.raises(OSError, match="no device"):
        await queue.push(np.zeros(10, dtype=np.int16), fail)
