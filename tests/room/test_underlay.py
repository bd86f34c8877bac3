"""What is played beneath a voice: nothing of either is lost, late or heard twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from greenroom.audio import Pcm
from greenroom.room.tally import TICK
from greenroom.testing import virtual_time as time_machine
from greenroom.testing.virtual_time import virtual_time
from tests.background.stage import AHEAD, RATE, VirtualTrack

PIECE = round(TICK * RATE)


class Count:
    """A bed whose samples tell their place: the n-th is n, modulo something."""

    span = 4_000

    def __init__(self) -> None:
        self.playing = True
        self.position = 0

    def read(self, samples: int) -> NDArray[np.float32]:
        numbers = np.arange(self.position, self.position + samples) % self.span + 1
        self.position += samples
        return numbers.astype(np.float32)

    def rewind(self, samples: int) -> None:
        self.position -= samples
        assert self.position >= 0


def voice(pieces: int, *, loud: int = 10_000) -> Pcm:
    """Multiples of 5000, which no bed reaches: what lies above is the bed's."""
    return np.full(pieces * PIECE, loud, dtype=np.int16)


@asynccontextmanager
async def track(*, delay: float = 0.0) -> AsyncIterator[VirtualTrack]:
    made = VirtualTrack(delay=delay)
    await asyncio.sleep(0.1)
    try:
        yield made
    finally:
        await made.underlay.aclose()


def bed_of(heard: Pcm) -> Pcm:
    """The bed's part of what left."""
    rest: Pcm = heard % 5_000
    return rest


def check_bed(heard: Pcm) -> None:
    """It goes on by one from sample to sample, from its first to its last."""
    steps = np.diff(bed_of(heard).astype(np.int32))
    assert set(np.unique(steps)) <= {1, 1 - Count.span}, np.flatnonzero(~np.isin(steps, (1, 1 - Count.span)))


def sounding(made: VirtualTrack) -> Pcm:
    """All that left, from the first sample that is not silent to the last."""
    pcm = made.source.pcm
    there = np.flatnonzero(pcm)
    return pcm[there[0] : there[-1] + 1] if len(there) else pcm[:0]


@virtual_time
async def test_a_bed_plays_without_a_gap_and_not_further_ahead_than_asked() -> None:
    async with track() as made:
        made.underlay.add(Count())
        for _ in range(20):
            await asyncio.sleep(0.0973)
            assert made.underlay.queued <= AHEAD + TICK
        heard = sounding(made)
        assert len(heard) >= 1.8 * RATE
        check_bed(heard)


@virtual_time
async def test_a_voice_is_heard_at_once_and_mixed_to_the_sample() -> None:
    loop = asyncio.get_running_loop()
    async with track() as made:
        made.underlay.add(Count())
        await asyncio.sleep(0.5123)
        said = loop.time()
        await made.say(voice(30))
        await asyncio.sleep(1.0)
        heard = sounding(made)
        check_bed(heard)
        loud = np.flatnonzero(heard >= 10_000)
        assert len(loud) == 30 * PIECE
        assert loud[-1] - loud[0] + 1 == len(loud)
        first = np.flatnonzero(made.source.pcm >= 10_000)[0] / RATE + made.source.began
        assert first - said <= 2 * TICK


@virtual_time
async def test_a_voice_that_comes_in_pieces_is_not_interrupted_by_the_bed() -> None:
    async with track() as made:
        made.underlay.add(Count())
        await asyncio.sleep(0.3041)
        for _ in range(20):  # as the speaker: 50 ms each, up to 0.2 s ahead
            await made.say(voice(5))
            queued = made.voice.queued(asyncio.get_running_loop().time()) / RATE
            await asyncio.sleep(max(0.0, queued - 0.1527))
        await asyncio.sleep(0.6)
        heard = sounding(made)
        loud = np.flatnonzero(heard >= 10_000)
        assert len(loud) == 100 * PIECE
        assert loud[-1] - loud[0] + 1 == len(loud)
        check_bed(heard)


@virtual_time
async def test_what_is_cut_of_a_voice_is_what_did_not_leave_and_the_bed_goes_on() -> None:
    async with track() as made:
        made.underlay.add(Count())
        await asyncio.sleep(0.2573)
        await made.say(voice(20))
        await asyncio.sleep(0.0912)
        dropped = made.cut()
        await asyncio.sleep(0.5)
        heard = sounding(made)
        assert np.count_nonzero(heard >= 10_000) == 20 * PIECE - dropped
        assert 0 < dropped < 20 * PIECE
        check_bed(heard)


@virtual_time
async def test_the_voices_count_is_right_with_a_bed_beneath_it() -> None:
    async with track() as made:
        made.underlay.add(Count())
        await asyncio.sleep(0.2573)
        await made.say(voice(20))
        for _ in range(12):
            await asyncio.sleep(0.0193)
            sent = np.count_nonzero(made.source.pcm >= 10_000)
            assert made.voice.queued(asyncio.get_running_loop().time()) == 20 * PIECE - sent


@virtual_time
async def test_a_change_is_heard_at_once() -> None:
    class Switch(Count):
        def read(self, samples: int) -> NDArray[np.float32]:
            heard = super().read(samples)
            return heard if not self.loud else heard + 5_000

        loud = False

    loop = asyncio.get_running_loop()
    async with track() as made:
        bed = Switch()
        made.underlay.add(bed)
        await asyncio.sleep(0.4031)
        bed.loud, asked = True, loop.time()
        made.underlay.changed()
        await asyncio.sleep(0.5)
        heard = sounding(made)
        check_bed(heard)
        first = np.flatnonzero(made.source.pcm >= 5_000)[0] / RATE + made.source.began
        assert first - asked <= 2 * TICK


@virtual_time
async def test_without_anything_to_play_nothing_is_handed_over() -> None:
    async with track() as made:
        bed = Count()
        bed.playing = False
        made.underlay.add(bed)
        await asyncio.sleep(1.0)
        assert made.source.captures == 0
        bed.playing = True
        made.underlay.changed()
        await asyncio.sleep(0.2)
        assert made.source.captures > 0


@virtual_time
async def test_while_nobody_hears_the_bed_stands_still() -> None:
    async with track() as made:
        bed = Count()
        made.underlay.add(bed)
        await asyncio.sleep(0.3)
        made.underlay.clear_queue()
        made.underlay.hold()
        await asyncio.sleep(0.01)
        stood = bed.position
        await asyncio.sleep(1.0)
        assert bed.position == stood
        made.underlay.go_on()
        await asyncio.sleep(0.3)
        pcm = made.source.pcm
        check_bed(pcm[pcm != 0])


@virtual_time
async def test_a_bed_that_is_removed_is_silent_and_the_voice_goes_on() -> None:
    async with track() as made:
        bed = Count()
        made.underlay.add(bed)
        await asyncio.sleep(0.3)
        made.underlay.remove(bed)
        await asyncio.sleep(0.3)
        await made.say(voice(10))
        await asyncio.sleep(0.3)
        assert np.count_nonzero(made.source.pcm == 10_000) == 10 * PIECE


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("say"), st.integers(1, 15)),
        st.tuples(st.just("wait"), st.floats(0.001, 0.3)),
        st.tuples(st.just("cut"), st.just(0)),
        st.tuples(st.just("change"), st.just(0)),
    ),
    max_size=25,
)


@settings(deadline=None, max_examples=60)
@given(steps=STEPS, delay=st.sampled_from((0.0, 0.0004)))
def test_whatever_happens_the_accounts_are_right(steps: list[tuple[str, float]], delay: float) -> None:
    async def main() -> None:
        async with track(delay=delay) as made:
            made.underlay.add(Count())
            await asyncio.sleep(0.1)
            said = dropped = 0
            for what, much in steps:
                # Where it is certain what has left: a real clock is waited for by the speaker itself.
                await asyncio.sleep((made.source.began - asyncio.get_running_loop().time()) % TICK + TICK / 2)
                if what == "say":
                    await made.say(voice(int(much)))
                    said += int(much) * PIECE
                elif what == "wait":
                    await asyncio.sleep(much)
                elif what == "cut":
                    dropped += made.cut()
                else:
                    made.underlay.changed()
            await asyncio.sleep(sum(much for what, much in steps if what == "say") * TICK + 0.5)
            heard = sounding(made)
            assert np.count_nonzero(heard >= 10_000) == said - dropped
            check_bed(heard)

    time_machine.run(main())


@pytest.mark.parametrize("pieces", [1, 7])
def test_without_a_bed_the_source_is_given_what_the_voice_is(pieces: int) -> None:
    async def main() -> None:
        async with track() as made:
            noise = np.random.default_rng(5).integers(1, 9_000, pieces * PIECE).astype(np.int16)
            await made.say(noise)
            await asyncio.sleep(0.3)
            pcm = made.source.pcm
            assert np.array_equal(pcm[pcm != 0], noise)

    time_machine.run(main())
