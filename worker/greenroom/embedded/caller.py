"""A simulated caller: one user in one room, with a microphone made of samples and ears that measure.

All times are ``time.monotonic`` seconds, so that what left and what arrived can be compared.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import closing, suppress
from types import TracebackType
from typing import Self

import numpy as np
from livekit import rtc

from greenroom.audio import Pcm
from greenroom.embedded.console import Entrance
from greenroom.embedded.measure import Ear
from greenroom.embedded.microphone import Microphone, Spoken
from greenroom.embedded.transcript import Speaker, Transcript
from greenroom.errors import LinkLost, Rejected
from greenroom.redaction import redact

__all__ = ["QUIET", "Caller"]

EAR_RATE = 24000
FRAME_MS = 10
POLL = 0.02
QUIET = 1.2
"""Silence after which whoever spoke is taken to have ended."""
CONNECT_TIMEOUT = 10.0

TRANSCRIPTION = "lk.transcription"
AGENT_STATE = "lk.agent.state"
BUSY = ("initializing", "thinking", "speaking")


class Caller:
    """Joins when entered, leaves when left. Raises ``LinkLost`` when the server cannot be joined or drops the
    caller, ``Rejected`` when it refuses the token.

    ``said`` is told each finished stretch of speech of either side: who, and the words.
    """

    def __init__(self, entrance: Entrance, *, said: Callable[[Speaker, str], None]) -> None:
        self.transcript = Transcript()
        self.ear = Ear(EAR_RATE)
        self.agent_joined: float | None = None
        self._entrance = entrance
        self._said = said
        self._room = rtc.Room()
        self._microphone = Microphone()
        self._agent: rtc.RemoteParticipant | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._hearing: asyncio.Task[None] | None = None
        self._lost = ""

    async def __aenter__(self) -> Self:
        self._room.on("participant_connected", self._observe)
        self._room.on("participant_active", self._observe)
        self._room.on("track_subscribed", self._listen)
        self._room.on("disconnected", self._note_loss)
        self._room.register_text_stream_handler(TRANSCRIPTION, self._receive)
        try:
            await self._join()
        except BaseException:
            await self._leave()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._leave()

    @property
    def agent_identity(self) -> str:
        """Of the agent that came; empty before."""
        return self._agent.identity if self._agent else ""

    async def wait_for_agent(self, *, timeout: float) -> float:
        """When an agent became active in the room. Raises ``TimeoutError``."""
        async with asyncio.timeout(timeout):
            while self.agent_joined is None:
                await self._pause()
        return self.agent_joined

    async def wait_for_pause(self, *, since: float, timeout: float) -> None:
        """Return once the agent has been quiet for ``QUIET`` seconds after ``since``, and is not about to speak.

        Raises ``TimeoutError``.
        """
        async with asyncio.timeout(timeout):
            while not self._quiet(since=since):
                await self._pause()

    async def speak(self, pcm: Pcm) -> Spoken:
        """Say mono samples at the microphone's rate."""
        return await self._microphone.speak(pcm)

    async def wait_for_voice(self, *, after: float, timeout: float) -> float:
        """When the agent's first audible sample at or after ``after`` was heard. Raises ``TimeoutError``."""
        async with asyncio.timeout(timeout):
            while (heard := self.ear.first_audible(after=after)) is None:
                await self._pause()
        return heard

    def _quiet(self, *, since: float) -> bool:
        """By the ear first; the agent's state and its open text say that more is coming."""
        now = time.monotonic()
        last = max(self.ear.last_audible or since, since)
        if now - last < QUIET or self.transcript.open("agent"):
            return False
        return self._agent is None or self._agent.attributes.get(AGENT_STATE, "") not in BUSY

    async def _pause(self) -> None:
        if self._lost:
            raise LinkLost(self._lost)
        await asyncio.sleep(POLL)

    async def _join(self) -> None:
        options = rtc.RoomOptions(single_peer_connection=False, connect_timeout=CONNECT_TIMEOUT)
        try:
            await self._room.connect(self._entrance.url, self._entrance.token, options)
        except rtc.ConnectError as error:
            if "401" in error.message:
                raise Rejected(f"{self._entrance.url} refused the caller: its key or secret is another") from None
            raise LinkLost(f"no way into a room at {self._entrance.url}: {redact(error.message)}") from None
        for participant in self._room.remote_participants.values():
            self._observe(participant)
        track = rtc.LocalAudioTrack.create_audio_track("microphone", self._microphone.source)
        self._microphone.start()
        options_of_track = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
        await self._room.local_participant.publish_track(track, options_of_track)

    async def _leave(self) -> None:
        self._room.off("disconnected", self._note_loss)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._microphone.aclose()
        await self._room.disconnect()

    def _note_loss(self, reason: rtc.DisconnectReason.ValueType) -> None:
        self._lost = f"the server ended the call: {rtc.DisconnectReason.Name(reason)}"

    def _observe(self, participant: rtc.RemoteParticipant) -> None:
        if participant.kind != rtc.ParticipantKind.PARTICIPANT_KIND_AGENT:
            return
        self._agent = participant
        if self.agent_joined is None and participant.state == rtc.ParticipantState.PARTICIPANT_STATE_ACTIVE:
            self.agent_joined = time.monotonic()

    def _listen(
        self, track: rtc.Track, publication: rtc.RemoteTrackPublication, participant: rtc.RemoteParticipant
    ) -> None:
        spoken = publication.source == rtc.TrackSource.SOURCE_MICROPHONE
        if (
            isinstance(track, rtc.RemoteAudioTrack)
            and spoken
            and participant.kind == rtc.ParticipantKind.PARTICIPANT_KIND_AGENT
        ):
            self._observe(participant)
            # An agent that comes back publishes its voice anew, and its sound may come by the line of the track before.
            if self._hearing is not None:
                self._hearing.cancel()
            self._hearing = self._spawn(self._hear(track), name="ear")

    async def _hear(self, track: rtc.RemoteAudioTrack) -> None:
        stream = rtc.AudioStream(track, sample_rate=EAR_RATE, num_channels=1, frame_size_ms=FRAME_MS)
        try:
            async for event in stream:
                arrival = time.monotonic()
                self.ear.hear(np.frombuffer(event.frame.data, dtype=np.int16).copy(), arrival=arrival)
        finally:
            await stream.aclose()

    def _receive(self, reader: rtc.TextStreamReader, sender: str) -> None:
        self._spawn(self._read(reader, sender), name="transcription")

    async def _read(self, reader: rtc.TextStreamReader, sender: str) -> None:
        speaker: Speaker = "user" if sender == self._entrance.identity else "agent"
        stream = reader.info.stream_id
        segment = (reader.info.attributes or {}).get("lk.segment_id", stream)
        self.transcript.begin(stream, speaker=speaker, segment=segment, now=time.monotonic())
        with suppress(ConnectionError), closing(reader):  # cut off with the connection: what has come stays
            async for piece in reader:
                self.transcript.append(stream, piece)
        # Both sides say on closing whether the segment is complete; the reader has taken that into its attributes.
        final = (reader.info.attributes or {}).get("lk.transcription_final") == "true"
        ended = self.transcript.end(stream, final=final)
        if ended is not None and final and ended.text.strip():
            self._said(speaker, ended.text.strip())

    def _spawn(self, work: Coroutine[None, None, None], *, name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
