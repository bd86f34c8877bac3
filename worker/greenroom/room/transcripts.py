"""What both sides say, as LiveKit's clients read it: text streams on ``lk.transcription``.

The agent's words go out as one open stream for each segment, in pieces as they are spoken; the user's as a whole text
for each update. Streams with the same ``lk.segment_id`` replace each other at the receiver, so a later one corrects an
earlier one. All of it passes through one queue and one task: order is kept and nobody waits.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from livekit import rtc

__all__ = ["FINAL", "INTERRUPTED", "SEGMENT", "TOPIC", "TRACK", "Transcripts"]

TOPIC = "lk.transcription"
SEGMENT = "lk.segment_id"
FINAL = "lk.transcription_final"
TRACK = "lk.transcribed_track_id"
INTERRUPTED = "greenroom.interrupted"
"""Ours: "true" on the last message of a segment that was cut off."""

LIMIT = 64
"""Messages that may wait; beyond it the oldest interim texts go. Final texts always stay."""
SEND_TIMEOUT = 5.0
"""Seconds for one message."""

LINGER = 0.1
"""Seconds that what was sent last has to get out: a client that disconnects drops what it has not handed over."""

GONE = (TimeoutError, rtc.StreamError, AssertionError)
"""How a send fails when the connection does. LiveKit's client asserts that a stream's handle exists, and disconnecting
drops them."""

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Delta:
    segment: str
    text: str


@dataclass(slots=True)
class _Done:
    segment: str
    text: str
    interrupted: bool


@dataclass(slots=True)
class _Heard:
    segment: str
    text: str
    final: bool
    identity: str
    track: str


@dataclass(slots=True)
class _Line:
    """An agent's segment that is being spoken."""

    writer: rtc.TextStreamWriter | None
    sent: str


class Transcripts:
    """``agent_track`` gives the sid of the agent's track at the time of sending."""

    def __init__(self, participant: rtc.LocalParticipant, *, agent_track: Callable[[], str]) -> None:
        self._participant = participant
        self._agent_track = agent_track
        self._waiting: deque[_Delta | _Done | _Heard] = deque()
        self._lines: dict[str, _Line] = {}
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._sent_at = float("-inf")
        self._closed = False
        self._task = asyncio.get_running_loop().create_task(self._run(), name="transcripts")

    def agent_delta(self, segment: str, text: str) -> None:
        """The agent's next words, at the pace at which the caller wants them shown."""
        last = next((item for item in reversed(self._waiting) if item.segment == segment), None)
        if isinstance(last, _Delta):
            last.text += text
        elif text:
            self._add(_Delta(segment, text))

    def agent_done(self, segment: str, final_text: str, *, interrupted: bool = False) -> None:
        """The segment is over. ``final_text`` is what was said; it replaces the words sent where they differ."""
        self._add(_Done(segment, final_text, interrupted))

    def user(self, segment: str, text: str, *, final: bool, identity: str, track: str = "") -> None:
        """What ``identity`` has said so far in this segment; ``track`` is the sid of the microphone heard."""
        heard = _Heard(segment, text, final, identity, track)
        for index, item in enumerate(self._waiting):
            if isinstance(item, _Heard) and item.segment == segment and not item.final:
                self._waiting[index] = heard
                return
        self._add(heard)

    async def aclose(self, *, timeout: float = 1.0) -> None:
        """Send what waits, for at most ``timeout`` seconds, and stop."""
        self._closed = True
        try:
            async with asyncio.timeout(timeout):
                await self._idle.wait()
                await asyncio.sleep(self._sent_at + LINGER - asyncio.get_running_loop().time())
        except TimeoutError:
            log.warning("transcripts were cut off", waiting=len(self._waiting))
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def _add(self, item: _Delta | _Done | _Heard) -> None:
        if self._closed:
            return
        if len(self._waiting) >= LIMIT:
            interim = next((old for old in self._waiting if isinstance(old, _Heard) and not old.final), None)
            if interim is not None:
                self._waiting.remove(interim)
        self._waiting.append(item)
        self._idle.clear()
        self._wake.set()

    async def _run(self) -> None:
        while True:
            if not self._waiting:
                self._idle.set()
                self._wake.clear()
                await self._wake.wait()
            item = self._waiting.popleft()
            try:
                async with asyncio.timeout(SEND_TIMEOUT):
                    await self._send(item)
                self._sent_at = asyncio.get_running_loop().time()
            except GONE as error:
                log.warning("transcript was not sent", segment=item.segment, error=str(error) or type(error).__name__)

    async def _send(self, item: _Delta | _Done | _Heard) -> None:
        match item:
            case _Delta():
                await self._extend(item)
            case _Done():
                await self._finish(item)
            case _Heard(segment, text, final, identity, track):
                await self._whole(text, self._attributes(segment, track, final=final), sender=identity)

    async def _extend(self, item: _Delta) -> None:
        line = self._lines.get(item.segment)
        if line is None:
            attributes = self._attributes(item.segment, self._agent_track(), final=False)
            line = self._lines[item.segment] = _Line(None, "")
            line.writer = await self._participant.stream_text(topic=TOPIC, attributes=attributes)
        writer, line.writer = line.writer, None  # a write that fails leaves a broken stream behind
        if writer is not None:
            await writer.write(item.text)
            line.writer, line.sent = writer, line.sent + item.text

    async def _finish(self, item: _Done) -> None:
        line = self._lines.pop(item.segment, None)
        attributes = self._attributes(item.segment, self._agent_track(), final=True)
        if item.interrupted:
            attributes[INTERRUPTED] = "true"
        if line is None or line.writer is None:
            if item.text:
                await self._whole(item.text, attributes)
            return
        if item.text.startswith(line.sent):
            if len(item.text) > len(line.sent):
                await line.writer.write(item.text[len(line.sent) :])
            await line.writer.aclose(attributes=attributes)
        else:
            await line.writer.aclose()
            await self._whole(item.text, attributes)

    async def _whole(self, text: str, attributes: dict[str, str], *, sender: str | None = None) -> None:
        writer = await self._participant.stream_text(topic=TOPIC, attributes=attributes, sender_identity=sender)
        if text:
            await writer.write(text)
        await writer.aclose()

    @staticmethod
    def _attributes(segment: str, track: str, *, final: bool) -> dict[str, str]:
        attributes = {SEGMENT: segment, FINAL: "true" if final else "false"}
        if track:
            attributes[TRACK] = track
        return attributes
