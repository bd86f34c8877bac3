"""The microphone's stream on the real server: the recording, the live audio, and who hears what of them."""

from __future__ import annotations

import asyncio
import itertools

import numpy as np
import pytest

from greenroom.audio import AudioFrame
from greenroom.room.microphone import FRAME
from greenroom.room.room import AgentRoom, PreconnectReport, PreconnectRules
from tests.room.people import House, Person, Record, running
from tests.room.preconnect.faults import Sender
from tests.room.preconnect.sounds import alignment, level, resampled, voice

pytestmark = pytest.mark.e2e

RATE = 16_000
SPOKEN = 3.0


async def hear(agent: AgentRoom, frames: Record[AudioFrame], *, rate: int = RATE) -> None:
    async for frame in agent.microphone.frames(rate):
        frames.add(frame)


OVERLAP = 0.5


async def speak(person: Person) -> None:
    """Go on speaking, from ``OVERLAP`` before the end of what was recorded."""
    await person.say(voice(SPOKEN + 12.0)[round((SPOKEN - OVERLAP) * 48_000) :])


async def record(sender: Sender) -> None:
    """The recorder stops, and what it has goes out."""
    await asyncio.sleep(OVERLAP)
    await sender.send()


async def caller(house: House) -> tuple[Person, Sender]:
    ann = await house.enter("ann", microphone=False)
    track = await ann.publish(promise=True)
    sender = Sender(ann, track, ann, voice(SPOKEN + 12.0)[: round(SPOKEN * 48_000)])
    sender.data = await asyncio.to_thread(sender.webm)
    return ann, sender


@pytest.mark.parametrize("rate", [16_000, 24_000])
async def test_what_was_recorded_and_what_is_live_are_one_stream(house: House, rate: int) -> None:
    ann, sender = await caller(house)
    reports: Record[PreconnectReport] = Record()
    agent = await house.agent(reported=reports.add)
    frames: Record[AudioFrame] = Record()
    began = asyncio.get_running_loop().time()
    async with running(hear(agent, frames, rate=rate), speak(ann), record(sender)):
        await frames.until(lambda got: got[-1].at > began + 3.0)
    (report,) = reports
    assert report.outcome == "used"
    assert report.seconds == pytest.approx(SPOKEN, abs=0.02)
    assert report.first_word_loss == 0.0
    assert {len(frame.pcm) for frame in frames} == {round(FRAME * rate)}
    for one, other in itertools.pairwise(frames):
        assert other.at == pytest.approx(one.at + FRAME, abs=0.05)
    assert frames[0].at < began - 1.5  # where the overlap ends depends on when the live audio began
    wanted = resampled(voice(SPOKEN + 12.0), 48_000, rate)
    heard = np.concatenate([frame.pcm for frame in frames])
    lag, likeness = alignment(heard[: round(2.5 * rate)], wanted[: round(2.5 * rate)])
    assert 0 <= lag <= FRAME * rate
    assert likeness > 0.95
    # The live part goes on where the recording ends: the same words at the same place, but for the jitter buffer.
    for second in (3.3, 4.2):
        first = round(second * rate)
        behind, alike = alignment(heard[first : first + rate // 4], wanted[first - rate : first + rate])
        assert alike > 0.5
        assert abs(behind + rate - lag) < 0.15 * rate
    assert abs(level(heard[rate : 2 * rate]) - level(wanted[rate : 2 * rate])) < 3.0


async def test_who_comes_first_hears_all_and_who_comes_later_what_follows(house: House) -> None:
    ann, sender = await caller(house)
    agent = await house.agent()
    await asyncio.wait_for(_attached(agent), 5)
    first: Record[AudioFrame] = Record()
    second: Record[AudioFrame] = Record()
    began = asyncio.get_running_loop().time()
    async with running(speak(ann), record(sender)):
        await asyncio.wait({asyncio.ensure_future(asyncio.sleep(1.0))})  # nobody listens yet
        async with running(hear(agent, first)):
            await first.until(lambda got: got[-1].at > began + 1.2)
            async with running(hear(agent, second)):
                await second.until(lambda got: len(got) > 10)
    assert first[0].at < began - 1.5
    assert second[0].at > began + 1.0
    for one, other in itertools.pairwise(first):
        assert other.at == pytest.approx(one.at + FRAME, abs=0.05)


async def _attached(agent: AgentRoom) -> None:
    attached = asyncio.Event()
    agent.client.on("track_subscribed", lambda *_: attached.set())
    if not agent.microphone.track_sid:
        await attached.wait()


async def test_without_the_feature_streams_are_not_taken(house: House) -> None:
    ann, sender = await caller(house)
    reports: Record[PreconnectReport] = Record()
    agent = await house.agent(preconnect=PreconnectRules(enabled=False), reported=reports.add)
    frames: Record[AudioFrame] = Record()
    began = asyncio.get_running_loop().time()
    async with running(hear(agent, frames), speak(ann), record(sender)):
        await frames.until(lambda got: got[-1].at > began + 1.0)
    assert frames[0].at > began - 0.2
    assert reports == []


async def test_an_agent_that_leaves_while_a_recording_arrives_leaves_nothing_behind(house: House) -> None:
    _, sender = await caller(house)
    agent = await house.agent()
    frames: Record[AudioFrame] = Record()
    async with running(hear(agent, frames)):
        await sender.send(close=False)
        await agent.leave()
    assert agent._intake is not None
    assert agent._intake._deliveries == {}
    assert frames == []
