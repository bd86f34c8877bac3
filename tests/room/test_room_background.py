"""What is played behind the agent's voice, on the real server: on a track of its own, and beneath the voice."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
from livekit import rtc

from greenroom import AudioConfig, BackgroundAudioPlayer, BuiltinAudioClip
from greenroom.audio import AudioFrame, Pcm, write_wav
from greenroom.dialog.events import Event, Played
from greenroom.room.room import AgentRoom
from greenroom.session.playout import Playout
from greenroom.session.voice import Voice
from tests.room.people import PATIENCE, House, Listener, Person, Record
from tests.room.test_room_rejoin import mortal, put_out
from tests.room.test_tally import RATE, agent_is_quiet, speaking
from tests.room.test_underlay import PIECE, Count

__all__ = ["mortal"]

pytestmark = pytest.mark.e2e


def telling(seconds: float) -> Pcm:
    """A voice of which no stretch is like any other, in multiples of 5000: what is below that is the bed's."""
    steps = np.random.default_rng(8).integers(1, 6, round(seconds * RATE))
    return np.asarray(steps * 5_000, dtype=np.int16)


BUSY = 3
"""Pieces of 10 ms that may be lost or repeated at twelve changes: none, unless the machine is many times too busy."""


async def hear(person: Person, name: str) -> Record[Pcm]:
    """What a person hears of the track of that name, from when they are subscribed to it."""
    heard: Record[Pcm] = Record()
    there = asyncio.Event()

    async def listen(track: rtc.RemoteAudioTrack) -> None:
        stream = rtc.AudioStream.from_track(track=track, sample_rate=RATE, num_channels=1)
        person._listening.append(stream)
        there.set()
        async for event in stream:
            heard.add(np.frombuffer(event.frame.data, dtype=np.int16))

    def subscribed(track: rtc.Track, publication: rtc.RemoteTrackPublication, *_: object) -> None:
        if publication.name == name and isinstance(track, rtc.RemoteAudioTrack):
            person._start(listen(track))

    person.room.on("track_subscribed", subscribed)
    for participant in person.room.remote_participants.values():
        for publication in participant.track_publications.values():
            if publication.track is not None:
                subscribed(publication.track, publication)
    async with asyncio.timeout(PATIENCE):
        await there.wait()
    return heard


def loudness(heard: list[Pcm]) -> float:
    """Of the last half second."""
    last = np.concatenate([np.zeros(1, dtype=np.int16), *heard])[-RATE // 2 :].astype(np.float64)
    return float(np.sqrt(np.mean(last**2)))


async def test_a_second_track_plays_and_is_not_taken_for_the_voice(house: House) -> None:
    ann = await house.enter("ann")
    agent = await house.agent()
    player = BackgroundAudioPlayer(ambient_sound=AudioConfig(BuiltinAudioClip.HOLD_MUSIC, volume=0.5))
    await player.start(room=agent.client)
    heard = await hear(ann, "background_audio")
    await heard.until(lambda pieces: loudness(pieces) > 300)
    speaker = await agent.open_speaker()
    assert speaker.track_sid
    (background,) = (
        p for p in agent.client.local_participant.track_publications.values() if p.sid != speaker.track_sid
    )
    assert background.name == "background_audio"
    assert background.source == rtc.TrackSource.SOURCE_UNKNOWN
    await player.aclose()
    assert [p.sid for p in agent.client.local_participant.track_publications.values()] == [speaker.track_sid]


async def test_a_second_track_is_there_again_in_a_room_that_was_entered_anew(mortal: House) -> None:
    listener = Listener()
    await mortal.enter("ann")
    agent = await mortal.agent(listener, token=lambda: mortal.token("agent", agent=True))
    await agent.open_speaker()
    player = BackgroundAudioPlayer(ambient_sound=BuiltinAudioClip.HOLD_MUSIC)
    await player.start(room=agent.client)
    before = agent.client
    await put_out(mortal, listener)
    await mortal.server.start()
    await listener.states.until(lambda told: told[-1][0] == "connected", timeout=20)
    assert agent.client is not before
    assert AgentRoom.of(agent.client) is agent
    ann = await mortal.enter("ann")
    heard = await hear(ann, "background_audio")
    await heard.until(lambda pieces: loudness(pieces) > 300)


async def test_the_player_belongs_to_the_room(house: House) -> None:
    await house.enter("ann")
    agent = await house.agent()
    await agent.open_speaker()
    players = [BackgroundAudioPlayer(), BackgroundAudioPlayer(track="mixed")]
    handles = []
    for player in players:
        await player.start(room=agent.client)
        handles.append(player.play(BuiltinAudioClip.CITY_AMBIENCE, loop=True))
    await agent.leave()
    await asyncio.gather(*(handle.wait_for_playout() for handle in handles))


async def test_a_room_that_is_not_the_agents_has_no_voice_to_be_mixed_with(house: House) -> None:
    ann = await house.enter("ann")
    with pytest.raises(RuntimeError, match="no voice in this room"):
        await BackgroundAudioPlayer(track="mixed").start(room=ann.room)
    player = BackgroundAudioPlayer()
    await player.start(room=ann.room)
    bob = await house.enter("bob")
    playing = player.play(BuiltinAudioClip.HOLD_MUSIC, loop=True)
    heard = await hear(bob, "background_audio")
    await heard.until(lambda pieces: loudness(pieces) > 300)
    await player.aclose()
    await playing


@pytest.mark.parametrize("fade", [0.0, 0.02])
async def test_beneath_a_voice_that_pauses_both_leave_whole_and_once(house: House, fade: float) -> None:
    await house.enter("ann")
    agent = await house.agent()
    async with speaking(agent) as (speaker, sent):
        pcm, finished = telling(5.0), asyncio.Event()

        def feed(event: Event) -> None:
            if isinstance(event, Played) and event.what == "finished":
                finished.set()

        agent.mix(Count(), sample_rate=RATE)
        await sent.until(RATE // 2)
        playout = Playout(speaker, feed=feed, spoken=lambda *words: None, fade=fade)
        voice = Voice(RATE)
        await voice.write(pcm)
        voice.end()
        playout.play("speech", 1, voice)
        for pause in range(6):
            await sent.until(len(sent.sound) + round((0.3 + 0.0613 * pause) * RATE))
            playout.pause("speech", 1)
            await asyncio.wait_for(agent_is_quiet(speaker), PATIENCE)
            await sent.until(len(sent.sound) + RATE // 5)
            playout.resume("speech", 1)
        await asyncio.wait_for(finished.wait(), PATIENCE)
        await sent.until(len(sent.sound) + RATE // 2)
        heard = sent.sound
        spoken = heard - heard % 5_000
        spoken = spoken[spoken != 0]
        # Each sample once, on a machine that keeps up: what it loses between a look at the clock and a call is a piece.
        assert abs(len(spoken) - len(pcm)) <= BUSY * PIECE
        assert np.array_equal(spoken[: RATE // 4], pcm[: RATE // 4])
        assert np.array_equal(spoken[-RATE // 4 :], pcm[-RATE // 4 :])
        assert np.count_nonzero(~np.isin(np.diff(heard.astype(np.int32) % 5_000), (1, 1 - Count.span))) <= 2 * BUSY
        await playout.aclose()


async def test_a_file_is_heard_to_its_end(house: House, tmp_path: Path) -> None:
    file = tmp_path / "level.wav"
    write_wav(file, AudioFrame(np.full(RATE, 7_000, dtype=np.int16), RATE))
    await house.enter("ann")
    agent = await house.agent()
    async with speaking(agent) as (_, sent):
        player = BackgroundAudioPlayer(track="mixed")
        await player.start(room=agent.client)
        await asyncio.wait_for(player.play(file).wait_for_playout(), PATIENCE)
        await sent.until(RATE - 480)
        assert np.count_nonzero(sent.sound == 7_000) >= RATE - 480
