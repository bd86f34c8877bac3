"""What has left the agent's source is known to the sample: by the count, by the ticks, and on the real server."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from livekit import rtc

from greenroom.audio import Pcm
from greenroom.dialog.events import Event, Played
from greenroom.room.room import AgentRoom
from greenroom.room.speaker import Speaker
from greenroom.room.tally import BATCH, TICK, Count, TickLine, audible
from greenroom.session.playout import Playout
from greenroom.session.voice import Voice
from tests.room.people import PATIENCE, House

RATE = 24_000
PIECE = round(TICK * RATE)


# --- pure -----------------------------------------------------------------------------------------------------------


class Source:
    """LiveKit's: every ``TICK`` it sends a piece, silence where it has none; of each batch a report comes, late."""

    def __init__(self, count: Count, *, phase: float, delays: list[float]) -> None:
        self.count = count
        self.held: deque[int] = deque()  # samples of the voice in each piece
        self.now = phase
        self._next = phase + TICK
        self._delays = delays
        self._batch: list[bool] = []
        self._reports: deque[tuple[float, int]] = deque()
        self._sent = 0

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        while self._next <= until or (self._reports and self._reports[0][0] <= until):
            if self._reports and self._reports[0][0] <= self._next:
                at, pieces = self._reports.popleft()
                self.count.batch(pieces, at)
                continue
            self._batch.append(bool(self.held))
            if self.held:
                self.held.popleft()
            if len(self._batch) == BATCH:
                delay = self._delays[self._sent % len(self._delays)]
                last = self._reports[-1][0] if self._reports else 0.0
                self._reports.append((max(last, self._next + delay), sum(self._batch)))
                self._batch.clear()
                self._sent += 1
            self._next += TICK
        self.now = until

    def hand(self, pieces: int, *, padding: int = 0) -> None:
        self.count.hand(pieces, self.now, padding=padding)
        self.held.extend([PIECE] * (pieces - 1) + [PIECE - padding])

    def run_to_safety(self) -> None:
        """To the middle between two ticks, where the delay of reports cannot matter."""
        self.run((self._next - self.now + TICK / 2) % TICK)


STEPS = st.one_of(
    st.tuples(st.just("run"), st.floats(0.001, 0.3)),
    st.tuples(st.just("hand"), st.integers(1, 12)),
    st.tuples(st.just("pad"), st.integers(1, PIECE - 1)),
    st.tuples(st.just("drop"), st.just(0)),
)


@given(
    phase=st.floats(0.0, TICK),
    delays=st.lists(st.floats(0.0, 0.06), min_size=1, max_size=8),
    steps=st.lists(STEPS, max_size=40),
)
def test_the_count_is_what_the_source_holds(phase: float, delays: list[float], steps: list[tuple[str, float]]) -> None:
    count = Count(PIECE)
    source = Source(count, phase=phase, delays=[0.0, *delays])  # one report without delay shows where the ticks are
    source.run(0.2)
    for what, much in steps:
        if what == "run":
            source.run(much)
        source.run_to_safety()
        if what == "hand":
            source.hand(int(much))
        elif what == "pad":
            source.hand(1, padding=int(much))
        elif what == "drop":
            count.drop(source.now)
            source.held.clear()
        assert count.queued(source.now) == sum(source.held)


def test_the_ticks_are_where_the_least_delayed_batch_says() -> None:
    line = TickLine()
    for n, delay in enumerate((0.007, 0.0002, 0.003, 0.02), start=1):
        line.arrived(n * BATCH * TICK + delay)
    assert line.tick(0.1651) == 16
    assert line.tick(0.1703) == 17
    assert line.until_safe(0.1705 + 0.002) == 0.0
    assert line.until_safe(0.1701) == pytest.approx(0.0016)  # a tick is about to come, or has just come
    assert line.until_safe(0.1792) == pytest.approx(0.0025)


def test_a_schedule_that_has_moved_is_noticed() -> None:
    line = TickLine()
    for n in range(1, 300):
        line.arrived(n * BATCH * TICK)
    for n in range(300, 1000):  # reports got lost, or the machine was suspended
        line.arrived(n * BATCH * TICK + 0.084)
    assert line.tick(1000 * BATCH * TICK + 0.084 - 0.02) == 1000 * BATCH - 2


def test_silent_pieces_of_a_voice_are_told_from_silence() -> None:
    voice = np.zeros(3 * PIECE, dtype=np.int16)
    voice[PIECE + 5] = 7
    marked = audible(voice, PIECE)
    assert marked.reshape(3, PIECE).any(axis=1).all()
    assert np.count_nonzero(marked != voice) == 2
    assert np.abs(marked - voice).max() == 1
    assert audible(marked, PIECE) is marked


# --- on the real server ---------------------------------------------------------------------------------------------


class Track:
    """What leaves the agent's track, sample by sample."""

    def __init__(self) -> None:
        self._pieces: list[Pcm] = []
        self._more = asyncio.Event()

    @property
    def sound(self) -> Pcm:
        sent: Pcm = np.concatenate([np.zeros(0, dtype=np.int16), *self._pieces])
        heard: Pcm = sent[sent != 0]
        return heard

    async def until(self, samples: int) -> None:
        async with asyncio.timeout(PATIENCE):
            while len(self.sound) < samples:
                self._more.clear()
                await self._more.wait()

    async def listen(self, track: rtc.Track) -> None:
        stream = rtc.AudioStream.from_track(track=track, sample_rate=RATE, num_channels=1)
        try:
            async for event in stream:
                self._pieces.append(np.frombuffer(event.frame.data, dtype=np.int16).copy())
                self._more.set()
        finally:
            await stream.aclose()


@asynccontextmanager
async def speaking(agent: AgentRoom) -> AsyncIterator[tuple[Speaker, Track]]:
    speaker, sent = await agent.open_speaker(), Track()
    (publication,) = agent.client.local_participant.track_publications.values()
    assert publication.track is not None
    task = asyncio.create_task(sent.listen(publication.track))
    try:
        await speaker.wait_ready()
        yield speaker, sent
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def noise(seconds: float) -> Pcm:
    """No sample is zero, and no stretch is like any other."""
    return np.random.default_rng(3).integers(1, 8_000, round(seconds * RATE)).astype(np.int16)


@pytest.mark.e2e
@pytest.mark.parametrize("fade", [0.0, 0.02])
async def test_a_voice_that_pauses_leaves_whole_and_once(house: House, fade: float) -> None:
    await house.enter("ann")
    agent = await house.agent()
    async with speaking(agent) as (speaker, sent):
        pcm, finished = noise(6.0), asyncio.Event()

        def feed(event: Event) -> None:
            if isinstance(event, Played) and event.what == "finished":
                finished.set()

        playout = Playout(speaker, feed=feed, spoken=lambda *words: None, fade=fade)
        voice = Voice(RATE)
        await voice.write(pcm)
        voice.end()
        playout.play("speech", 1, voice)
        for pause in range(8):
            await sent.until(round((0.5 + 0.613 * pause) * RATE))
            playout.pause("speech", 1)
            await asyncio.wait_for(agent_is_quiet(speaker), PATIENCE)
            playout.resume("speech", 1)
        await asyncio.wait_for(finished.wait(), PATIENCE)
        await sent.until(len(pcm))
        assert np.array_equal(sent.sound, pcm)
        await playout.aclose()


async def agent_is_quiet(speaker: Speaker) -> None:
    loop = asyncio.get_running_loop()
    quiet = loop.create_future()

    def look() -> None:
        if speaker.queued:
            loop.call_later(TICK, look)
        else:
            quiet.set_result(None)

    loop.call_later(0.05, look)
    await quiet


@pytest.mark.e2e
async def test_what_clear_says_was_dropped_did_not_leave_also_after_a_rebuilt_connection(house: House) -> None:
    await house.enter("ann")
    agent = await house.agent()
    async with speaking(agent) as (speaker, sent):
        for rebuilt in (False, True):
            if rebuilt:
                back = asyncio.Event()
                agent.client.on("reconnected", back.set)
                await agent.client.simulate_scenario(rtc.SimulateScenarioKind.SIMULATE_FULL_RECONNECT)
                await asyncio.wait_for(back.wait(), PATIENCE)
            before = len(sent.sound)
            push = asyncio.create_task(speaker.push(noise(2.0)))
            await sent.until(before + RATE // 2)
            dropped = speaker.clear()
            await push
            await sent.until(before + 2 * RATE - round(dropped * RATE))
            await asyncio.wait_for(agent_is_quiet(speaker), PATIENCE)
            assert len(sent.sound) - before == 2 * RATE - round(dropped * RATE)
