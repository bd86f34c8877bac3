"""What leaves the track, and which words that was."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Literal

from greenroom.audio import Pcm, faded, quietest
from greenroom.dialog.events import Event, ListenerChanged, Played
from greenroom.session.airing import Airing
from greenroom.session.media import AudioOutput
from greenroom.session.voice import Voice
from greenroom.speech.gain import Gain

__all__ = ["Playout"]

PIECE = 0.05
"""Audio handed to the track at once. Seconds: short enough to stop quickly, long enough to be cheap."""


def _as_made() -> float:
    return 1.0


class Playout:
    """Plays one voice at a time, and reports what left the track and when the track was audible.

    A sound that is cut off clicks. With ``fade`` seconds it does not, and is silent that much later at most. A stop
    plays them falling to silence (``audio.faded``). A pause must not: what was played faded would be lost, or heard
    twice. It goes on to the quietest place within them, so that the voice that resumes has every sample once, as made.
    Either way they count as heard, since they will be, and what follows waits for them.

    ``volume`` is asked for before each piece, and changes nothing else: what is made quiet is heard, and no dead air.
    """

    def __init__(
        self,
        output: AudioOutput,
        *,
        feed: Callable[[Event], None],
        spoken: Callable[[str, int, str], None],
        fade: float = 0.0,
    ) -> None:
        self._output = output
        self._feed = feed
        self._spoken = spoken
        self._fade = fade
        self._airing = Airing(feed)
        self._gain = Gain(output.sample_rate)
        self._volume: Callable[[], float] = _as_made
        self._task: asyncio.Task[None] | None = None
        self._tail: asyncio.Task[None] | None = None
        self._speech = ""
        self._step = 0
        self._voice: Voice | None = None
        self._pushed = 0
        self._unsent = 0
        self._silent_until = 0  # a count of samples: those before it have left, and a silence followed
        self._texts = 0
        self._paused = False
        self._begun = False

    def play(self, speech: str, step: int, voice: Voice, *, volume: Callable[[], float] = _as_made) -> None:
        """Begin; ends with ``Played(finished)``, unless it is held or stopped before."""
        if self._task is not None:  # its stop was never reported: the floor was taken from it
            self._task.cancel()
            self._clear()
        self._paused = False
        self._volume = volume
        self._speech, self._step, self._voice = speech, step, voice
        self._pushed = self._unsent = self._texts = 0
        self._begun = False
        self._start(voice)

    def hold(self, speech: str, step: int) -> None:
        """Take ``play`` back; only possible before the first sample."""
        if (speech, step) == (self._speech, self._step) and self._task is not None and not self._begun:
            self._task.cancel()
            self._forget()

    def pause(self, speech: str, step: int) -> None:
        """Silence it now, and keep the place."""
        if (speech, step) != (self._speech, self._step) or self._voice is None or self._paused:
            return
        if self._silence(self._voice):
            self._run_out(self._voice)
        self._paused = True
        self._report("paused")

    def resume(self, speech: str, step: int) -> None:
        """Go on from the sample after the last one that left."""
        if (speech, step) != (self._speech, self._step) or self._voice is None or not self._paused:
            return
        self._paused = False
        self._report("resumed")
        self._start(self._voice)

    def stop(self, speech: str, step: int) -> None:
        """Silence it now; ends with ``Played(stopped)``."""
        if (speech, step) != (self._speech, self._step) or self._voice is None:
            return
        if not self._paused and self._silence(self._voice):
            self._fade_out(self._voice)
        self._report("stopped")

    async def aclose(self) -> None:
        tasks = [task for task in (self._task, self._tail) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if tasks:
            self._clear()
        self._airing.close()
        self._forget()

    def _start(self, voice: Voice) -> None:
        self._silent_until = self._pushed
        name = f"playout {self._speech}.{self._step}"
        self._task = asyncio.get_running_loop().create_task(self._run(voice), name=name)

    # --- silence ----------------------------------------------------------------------------------------------------

    def _silence(self, voice: Voice) -> bool:
        """Stop the track; what it had not played yet goes back to the voice. Returns whether that cut into a sound."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
        waiting = self._unsent + round(self._output.queued * voice.sample_rate)
        if self._pushed > self._silent_until:  # else nothing is queued but the end of what was played before
            dropped = self._unsent + round(self._clear() * voice.sample_rate)
            unheard = min(dropped, self._pushed - self._silent_until)
            self._pushed -= unheard
            voice.rewind(unheard)
            self._gain.rewind(max(0, unheard - self._unsent))
        self._unsent = 0
        return waiting > 0 and self._pushed > self._silent_until

    def _clear(self) -> float:
        dropped = self._output.clear()
        self._airing.cut()
        return dropped

    def _fade_out(self, voice: Voice) -> None:
        self._end_with(voice, voice.read(round(self._fade * voice.sample_rate)), fade=True)

    def _run_out(self, voice: Voice) -> None:
        ahead = voice.read(round(self._fade * voice.sample_rate))
        wanted = quietest(ahead)
        voice.rewind(len(ahead) - wanted)
        self._end_with(voice, ahead[:wanted])

    def _end_with(self, voice: Voice, pcm: Pcm, *, fade: bool = False) -> None:
        """Play these before the silence, behind what has left; whatever is played next waits for them."""
        if not len(pcm):
            return
        self._pushed += len(pcm)
        self._tell_sound(voice, pcm)
        pcm = self._gain.apply(pcm)
        pcm = faded(pcm) if fade else pcm
        name = f"playout {self._speech}.{self._step} tail"
        self._tail = asyncio.get_running_loop().create_task(self._play_tail(pcm), name=name)

    async def _play_tail(self, pcm: Pcm) -> None:
        await self._output.push(pcm)
        await asyncio.sleep(self._output.queued)

    # --- playing ----------------------------------------------------------------------------------------------------

    async def _run(self, voice: Voice) -> None:
        me = asyncio.current_task()
        piece = round(PIECE * voice.sample_rate)
        if await voice.ready():
            await self._wait_for_listener()
        if self._tail is not None:
            await asyncio.wait({self._tail})
        while await voice.ready():
            if not self._output.ready:  # they left, or we lost the room: what goes on then is not our silence
                await self._wait_for_listener()
            if not self._output.queued:
                self._silent_until = self._pushed
            pcm = voice.read(piece)
            self._pushed += len(pcm)
            self._unsent = len(pcm)
            for tell in (self._tell_start, self._tell_words, self._tell_sound):
                tell(voice, pcm)
                if self._task is not me:  # whoever was told had it silenced
                    return
            self._unsent = 0
            await self._output.push(self._louder(pcm))
        self._tell_words(voice)
        await asyncio.sleep(self._output.queued)
        self._report("finished")

    def _louder(self, pcm: Pcm) -> Pcm:
        """The next samples as loud as they are to be: what begins in a silence at once, else in a moment."""
        if self._pushed - len(pcm) <= self._silent_until:
            self._gain.jump(self._volume())
        else:
            self._gain.aim(self._volume())
        return self._gain.apply(pcm)

    async def _wait_for_listener(self) -> None:
        """Return when somebody can hear; while nobody can, the dialog knows that the silence is not the agent's."""
        ready = asyncio.ensure_future(self._output.wait_ready())
        try:
            await asyncio.wait({ready}, timeout=0)
            if ready.done():
                return
            self._feed(ListenerChanged(present=False))
            try:
                await ready
            finally:
                self._feed(ListenerChanged(present=True))
        finally:
            ready.cancel()

    def _tell_start(self, _voice: Voice, _pcm: Pcm) -> None:
        if not self._begun:
            self._begun = True
            at = asyncio.get_running_loop().time() + self._output.queued
            self._feed(Played(self._speech, self._step, "started", at))

    def _tell_words(self, voice: Voice, _pcm: Pcm | None = None) -> None:
        """Hand on the words whose audio is on its way to the track."""
        text = "".join(mark.text for mark in voice.marks if mark.sample <= self._pushed)
        if len(text) > self._texts:
            new, self._texts = text[self._texts :], len(text)
            self._spoken(self._speech, self._step, new)

    def _tell_sound(self, voice: Voice, pcm: Pcm) -> None:
        at = asyncio.get_running_loop().time() + self._output.queued
        self._airing.sent(pcm, at=at, seconds=len(pcm) / voice.sample_rate)

    def _report(self, what: Literal["paused", "resumed", "stopped", "finished"]) -> None:
        """Tell what was heard so far; after an end, forget it first, since the dialog may start the next at once."""
        speech, step, voice, pushed = self._speech, self._step, self._voice, self._pushed
        if voice is None:
            return
        text, aligned = voice.heard(pushed)
        if what in ("stopped", "finished"):
            self._forget()
        self._feed(Played(speech, step, what, asyncio.get_running_loop().time(), pushed, text, aligned))

    def _forget(self) -> None:
        self._task = None
        self._voice = None
        self._paused = False
        self._speech, self._step = "", 0
