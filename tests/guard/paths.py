"""The paths that a call takes most often, each as a stretch of work that can be counted.

What runs is greenroom's own code, wired as in a call, in virtual time.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from livekit import rtc

from greenroom.dialog import events as ev
from greenroom.dialog.dialog import Dialog
from greenroom.journal.writer import JournalWriter, header
from greenroom.machine import Driver
from greenroom.providers.vad import VAD
from greenroom.room.microphone import FRAME, Microphone
from greenroom.room.speaker import Speaker
from greenroom.session.hearing import Ears, Hearing
from greenroom.session.playout import PIECE, Playout
from greenroom.session.segments import SegmentRules
from greenroom.session.voice import Voice
from greenroom.testing import virtual_time
from greenroom.testing.providers import ScriptedVAD
from greenroom_plugins.silero import SileroOptions, SileroVAD
from tests.dialog.conversation import Circumstances, Conversation
from tests.guard.counting import Meter
from tests.guard.stage import Deaf, Track, tone, tracks

__all__ = ["PATHS", "HotPath"]

WARM = 6.0
"""Seconds of audio until every buffer is as full as it gets."""
FRAMES = 96
"""So many are counted: whole batches of a voice activity model that defers quiet ones."""
HEAR_RATE = 16_000
SAY_RATE = 24_000
FAINT, LOUD = 20.0, 8000.0
"""Amplitudes of a tone: below the gate of voice activity, and a voice's. A tone is none to Silero."""
TURNS = 10


@dataclass(frozen=True, slots=True)
class HotPath:
    """``event``: what is counted by; ``often``: how often a call meets one; ``run`` does many, within the meter."""

    event: str
    often: str
    run: Callable[[Meter], None]


def _nothing(*_: object) -> None:
    pass


# --- a frame in -----------------------------------------------------------------------------------------------------


def _hear(meter: Meter, *, vad: VAD, amplitude: float) -> None:
    """From LiveKit's stream through the microphone and the ear to the segmenter and the transcriber."""

    async def listen() -> None:
        microphone = Microphone(sample_rate=HEAR_RATE)
        ears = Ears(vad=vad, stt=Deaf())
        hearing = Hearing(ears, rules=SegmentRules(), padding=0.3, feed=_nothing, failed=_nothing, measured=_nothing)
        microphone.attach(Track(tone(amplitude, sample_rate=HEAR_RATE)).rtc())
        listening = asyncio.create_task(hearing.run(microphone))
        await asyncio.sleep(WARM + FRAME / 2)
        with meter.counting(FRAMES):
            await asyncio.sleep(FRAMES * FRAME)
        await microphone.aclose()
        await listening

    with tracks():
        virtual_time.run(listen())


def _silence(meter: Meter) -> None:
    _hear(meter, vad=SileroVAD(SileroOptions()), amplitude=FAINT)


def _sound(meter: Meter) -> None:
    _hear(meter, vad=SileroVAD(SileroOptions()), amplitude=LOUD)


def _voice(meter: Meter) -> None:
    _hear(meter, vad=ScriptedVAD(), amplitude=LOUD)


# --- a frame out ----------------------------------------------------------------------------------------------------


class _Participant:
    """LiveKit's ``LocalParticipant``, as far as the speaker knows it."""

    async def publish_track(self, track: Track, _options: object) -> Track:
        return track


def _say(meter: Meter) -> None:
    """From the voice through the playout and the speaker to LiveKit's source, with the count of what has left."""

    async def speak() -> None:
        speaker = Speaker(sample_rate=SAY_RATE)
        await speaker.publish(cast("rtc.LocalParticipant", _Participant()))
        speaker.subscribed()
        playout = Playout(speaker, feed=_nothing, spoken=_nothing)
        voice, piece = Voice(SAY_RATE), np.full(round(0.1 * SAY_RATE), LOUD, dtype=np.int16)
        for _ in range(round((WARM + FRAMES * PIECE + 1.0) / 0.1)):
            await voice.write(piece)
        voice.end()
        playout.play("speech_1", 1, voice)
        await asyncio.sleep(WARM)
        with meter.counting(FRAMES):
            await asyncio.sleep(FRAMES * PIECE)
        await playout.aclose()
        await speaker.aclose()

    with tracks():
        virtual_time.run(speak())


# --- events ---------------------------------------------------------------------------------------------------------


def _talk(turns: int) -> list[tuple[float, ev.Event]]:
    """A conversation: questions and answers, each fifth answer interrupted."""
    talk = Conversation(Circumstances(hook=False))
    talk.begin()
    for turn in range(turns):
        _ask(talk)
        _answer(talk, interrupted=turn % 5 == 4)
    return talk.events


def _ask(talk: Conversation) -> None:
    talk.user_starts()
    talk.wait(1.0)
    talk.words_pass(final=False)
    talk.wait(1.0)
    talk.user_stops()
    talk.wait(0.1)
    talk.words_come(0, "words")
    talk.wait(1.0)


def _answer(talk: Conversation, *, interrupted: bool) -> None:
    talk.text_comes(0, "first")
    talk.voice_comes(0, "first")
    talk.track_goes_on()
    talk.wait(0.2)
    talk.text_comes(0, "end")
    talk.wait(1.0)
    if interrupted:
        talk.user_starts()
        talk.wait(1.5)
        talk.user_stops()
        talk.words_come(0, "words")
        talk.wait(1.0)
        talk.text_comes(0, "first")
        talk.voice_comes(0, "first")
        talk.track_goes_on()
        talk.text_comes(0, "end")
        talk.wait(1.0)
    talk.voice_comes(0, "end")
    talk.wait(1.0)
    talk.track_goes_on()
    talk.wait(1.0)


def _announcements(rounds: int) -> list[tuple[float, ev.Event]]:
    """A program that says things, some of them at once, some by their priority, and takes some back."""
    talk = Conversation(Circumstances(hook=False))
    talk.begin()
    for number in range(rounds):
        for priority in (5, 10, 0, 5):
            talk.say("say", {"text": f"announcement {number}", "priority": priority})
        talk.interrupt(0, force=False)
        for _ in range(4):
            talk.voice_comes(0, "first")
            talk.track_goes_on()
            talk.text_comes(0, "end")
            talk.voice_comes(0, "end")
            talk.wait(1.0)
            talk.track_goes_on()
            talk.wait(0.5)
    return talk.events


def _decide(meter: Meter, events: list[tuple[float, ev.Event]], *, warm: int) -> None:
    """Through the pump and the machine, the commands performed by nobody."""
    clock = _Clock()
    driver: Driver[Any, Any] = Driver(Dialog(Conversation().circumstances.rules), _nothing, clock=clock, tick=ev.Tick())
    for now, event in events[:warm]:
        clock.now = now
        driver.feed(event)
    with meter.counting(len(events) - warm):
        for now, event in events[warm:]:
            clock.now = now
            driver.feed(event)


class _Clock:
    """One that stands still, and never rings: the ticks are among the events."""

    now = 0.0

    def time(self) -> float:
        return self.now

    def call_at(self, _when: float, _callback: Callable[..., object], *_arguments: object) -> _Clock:
        return self

    def cancel(self) -> None:
        pass


def _dialog(meter: Meter) -> None:
    _decide(meter, _talk(TURNS + 1), warm=len(_talk(1)))


def _schedule(meter: Meter) -> None:
    _decide(meter, _announcements(TURNS + 1), warm=len(_announcements(1)))


def _journal(meter: Meter) -> None:
    """Masked, decided along, encoded and handed to the kernel."""
    events, warm = _talk(TURNS + 1), len(_talk(1))
    facts = header(job="AJ_guard", room="room", agent="agent", rules=Circumstances().rules, began=0.0)
    with tempfile.TemporaryDirectory() as folder:
        writer = JournalWriter(Path(folder), facts)
        for now, event in events[:warm]:
            writer.write(event, now)
        with meter.counting(len(events) - warm):
            for now, event in events[warm:]:
                writer.write(event, now)
        writer.close()
    if writer.stopped:
        raise RuntimeError("the journal stopped: nothing was counted")


PATHS: Mapping[str, HotPath] = {
    "frame in, silence": HotPath("frame of 32 ms", "31 a second", _silence),
    "frame in, sound": HotPath("frame of 32 ms", "31 a second while it is not quiet", _sound),
    "frame in, voice": HotPath("frame of 32 ms", "31 a second while the user speaks", _voice),
    "frame out": HotPath("piece of 50 ms", "20 a second while the agent speaks", _say),
    "dialog": HotPath("event", "10 to 15 a turn", _dialog),
    "schedule": HotPath("event", "5 for each thing that is said", _schedule),
    "journal": HotPath("event", "as many as the dialog's", _journal),
}
