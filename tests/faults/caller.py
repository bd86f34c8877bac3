"""A caller: a real participant who speaks, hears every word with its time, and comes back when the line is cut.

LiveKit's client rebuilds a connection by itself for twenty seconds. What it does not do, after a server that was shut
down or was away for longer, the caller does as an application would: join again with the same token, until it is in.
All times are ``time.monotonic`` seconds.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np
from livekit import rtc

from greenroom.audio import Pcm
from greenroom.embedded.measure import StreamClock
from greenroom.embedded.microphone import SAMPLE_RATE, Microphone, Spoken
from tests.faults.chords import PACE, Listener, sound
from tests.faults.waiting import Noticeboard

__all__ = ["QUIET", "Caller", "Heard", "Presence"]

EAR_RATE = 16_000
RETRY = 0.5
STEP = 0.05
PATIENCE = 60.0
"""Seconds for which a caller tries to get back in."""
QUIET = 1.2
"""Seconds without a word after which the agent is taken to have ended."""


@dataclass(frozen=True, slots=True)
class Heard:
    """A word from an agent. ``track``: counts the tracks that this caller has heard."""

    word: str
    began: float
    ended: float
    track: int


MEANT = frozenset(
    {
        rtc.DisconnectReason.CLIENT_INITIATED,
        rtc.DisconnectReason.PARTICIPANT_REMOVED,
        rtc.DisconnectReason.ROOM_CLOSED,
        rtc.DisconnectReason.ROOM_DELETED,
    }
)
"""Nobody returns from these: it would make the room anew."""


@dataclass(frozen=True, slots=True)
class Presence:
    """The agents in the room since ``at``, as the caller sees it."""

    at: float
    agents: frozenset[str]


@dataclass(slots=True)
class Sound:
    """What has come on a track: seconds of it, and the loudest sample. Says why no word was heard."""

    seconds: float = 0.0
    peak: int = 0

    def add(self, pcm: Pcm) -> None:
        self.seconds += len(pcm) / EAR_RATE
        self.peak = max(self.peak, int(np.abs(pcm).max(initial=0)))


class Caller:
    """One person in one room: joins when entered, leaves when left."""

    def __init__(self, url: str, token: str, *, room: str) -> None:
        self.room = room
        self.words: list[Heard] = []
        self.said: list[str] = []
        self.presence: list[Presence] = []
        self.tracks: dict[int, float] = {}
        self.brought: dict[int, Sound] = {}
        self.drops: list[tuple[float, str]] = []
        self.board = Noticeboard()
        self._url = url
        self._token = token
        self._numbers = itertools.count(1)
        self._microphone = Microphone()
        self._client = rtc.Room()
        self._track: rtc.LocalAudioTrack | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._ears: dict[str, asyncio.Task[None]] = {}
        self._stalls: list[tuple[float, float]] = []
        self._leaving = False

    async def __aenter__(self) -> Self:
        self._microphone.start()
        self._spawn(self._watch(), name="watch")
        try:
            await self._join()
        except BaseException:
            await self.leave()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.leave()

    async def leave(self) -> None:
        """Hang up."""
        self._leaving = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.disconnect()
        await self._microphone.aclose()

    @property
    def connected(self) -> bool:
        return self._client.connection_state == rtc.ConnectionState.CONN_CONNECTED

    @property
    def agents(self) -> frozenset[str]:
        """The identities of the agents that are in the room now; nobody is, when we are not."""
        if not self._client.isconnected():
            return frozenset()
        people = self._client.remote_participants.values()
        return frozenset(one.identity for one in people if one.kind == rtc.ParticipantKind.PARTICIPANT_KIND_AGENT)

    def heard(self, *, after: float = 0.0, track: int = 0) -> list[Heard]:
        """The words that began after a moment, on tracks from this one on."""
        return [one for one in self.words if one.began >= after and one.track >= track]

    def most_agents(self, *, since: float, until: float) -> int:
        """How many agents were in the room at once in this time, at most."""
        counts = [len(one.agents) for one in self.presence if since <= one.at < until]
        before = [len(one.agents) for one in self.presence if one.at < since]
        return max([*before[-1:], *counts], default=0)

    async def say(self, text: str) -> Spoken:
        """Speak; returns when the last word has left."""
        self.said.append(text)
        return await self._microphone.speak(sound(text, sample_rate=SAMPLE_RATE))

    async def write(self, text: str) -> None:
        """Send a chat message."""
        self.said.append(text)
        await self._client.local_participant.send_text(text, topic="lk.chat")

    async def wait_word(self, word: str = "", *, after: float = 0.0, track: int = 0, timeout: float) -> Heard:
        """The first word (of this text, if one is given) that begins after a moment. Raises ``Missed``."""

        def found() -> Heard | None:
            return next((one for one in self.heard(after=after, track=track) if word in ("", one.word)), None)

        return await self.board.until(found, what=f"{self.room} hears {word or 'the agent'}", timeout=timeout)

    async def wait_quiet(self, *, after: float, timeout: float, seconds: float = QUIET) -> None:
        """Return once the agent has said nothing for some time. Raises ``Missed``."""
        deadline = time.monotonic() + timeout
        while True:
            last = max((after, *(one.ended for one in self.words)))
            rest = last + seconds - time.monotonic()
            if rest <= 0:
                return
            if time.monotonic() > deadline:
                await self.board.until(lambda: None, what=f"{self.room} hears silence", timeout=0.0)
            await asyncio.sleep(rest)

    def longest_pause(self, *, since: float, until: float) -> float:
        """Seconds of silence between two words in a row, of those that began in this time; the ends count as words.

        While this very process did not get to run, nothing is known of what could be heard: that is taken off.
        """
        times = [since, *(one.began for one in self.words if since <= one.began <= until), until]
        return (
            max(later - earlier - self._stalled(earlier, later) for earlier, later in itertools.pairwise(times)) - PACE
        )

    def _stalled(self, since: float, until: float) -> float:
        return sum(max(0.0, min(until, end) - max(since, begin)) for begin, end in self._stalls)

    async def _watch(self) -> None:
        """Note when the loop was late."""
        while True:
            due = time.monotonic() + STEP
            await asyncio.sleep(STEP)
            if (now := time.monotonic()) > due + STEP:
                self._stalls.append((due, now))

    # --- the room -----------------------------------------------------------------------------------------------------

    async def _join(self) -> None:
        client = self._client
        client.on("participant_connected", self._look)
        client.on("participant_disconnected", self._look)
        client.on("reconnected", self._look)
        client.on("track_subscribed", self._listen)
        client.on("disconnected", self._cut_off)
        options = rtc.RoomOptions(single_peer_connection=False, connect_timeout=5.0)
        await client.connect(self._url, self._token, options)
        self._look()
        self._track = rtc.LocalAudioTrack.create_audio_track("microphone", self._microphone.source)
        source = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
        await client.local_participant.publish_track(self._track, source)

    def _look(self, _participant: rtc.RemoteParticipant | None = None) -> None:
        self.presence.append(Presence(time.monotonic(), self.agents))
        self.board.changed()

    def _cut_off(self, reason: rtc.DisconnectReason.ValueType) -> None:
        self.drops.append((time.monotonic(), rtc.DisconnectReason.Name(reason)))
        self.board.changed()
        if not self._leaving and reason not in MEANT:
            self._spawn(self._return(), name="return")

    async def _return(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            await asyncio.sleep(RETRY)
            self._client = rtc.Room()
            with suppress(rtc.ConnectError):
                await self._join()
                return

    def _listen(
        self, track: rtc.Track, _publication: rtc.RemoteTrackPublication, participant: rtc.RemoteParticipant
    ) -> None:
        agent = participant.kind == rtc.ParticipantKind.PARTICIPANT_KIND_AGENT
        if agent and isinstance(track, rtc.RemoteAudioTrack):
            # Of one that came back the new track's sound may come by the line of the old one: it is heard once.
            if (before := self._ears.get(participant.identity)) is not None:
                before.cancel()
            self._ears[participant.identity] = self._spawn(self._hear(track), name="ear")

    async def _hear(self, track: rtc.RemoteAudioTrack) -> None:
        number = next(self._numbers)
        self.tracks[number] = time.monotonic()
        brought = self.brought[number] = Sound()
        stream = rtc.AudioStream(track, sample_rate=EAR_RATE, num_channels=1, frame_size_ms=20)
        ear, clock, heard, at = Listener(EAR_RATE), StreamClock(EAR_RATE), 0, 0.0
        try:
            async for event in stream:
                pcm = np.frombuffer(event.frame.data, dtype=np.int16)
                at = clock.place(len(pcm), time.monotonic())
                brought.add(pcm)
                for word in ear.hear(pcm):
                    began, ended = (at + (place - heard) / EAR_RATE for place in (word.began, word.ended))
                    self.words.append(Heard(word.text, began, ended, number))
                    self.board.changed()
                heard += len(pcm)
        finally:
            await stream.aclose()

    def _spawn(self, work: Coroutine[None, None, None], *, name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
