"""What both sides say, as LiveKit's clients read it: text streams on ``lk.transcription``.

The agent's words go out as one open stream for each segment, in pieces as they are spoken; the user's as a whole text
for each update. Streams with the same ``lk.segment_id`` replace each other at the receiver, so a later one corrects an
earlier one. All of it passes through one queue and one task: order is kept and nobody waits.

While the connection is broken, or whom they are for is gone, the messages wait. Afterwards a segment that was open is
begun again and sent whole: who was not there when its stream was opened would never get it.
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
    renewed: bool = False
    """Somebody who should read the stream does not: the next words open another."""


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
        self._connected = self._read = True
        self._going = asyncio.Event()
        self._going.set()
        self._limit: asyncio.Timeout | None = None
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

    def away(self) -> None:
        """The connection is broken: what is being sent, and what follows, waits."""
        self._connected = False
        self._going.clear()
        if self._limit is not None and not self._limit.expired():
            self._limit.reschedule(asyncio.get_running_loop().time())

    def back(self, participant: rtc.LocalParticipant) -> None:
        """It is whole again, as ``participant``."""
        self._participant, self._connected = participant, True
        for line in self._lines.values():
            line.writer, line.renewed = None, True
        self._go_on()

    def reader_left(self) -> None:
        """Whom the messages are for is gone: what follows waits."""
        self._read = False
        self._going.clear()

    def reader_returned(self) -> None:
        """They are back, and connected."""
        self._read = True
        for line in self._lines.values():
            line.renewed = True
        self._go_on()

    async def aclose(self, *, timeout: float = 1.0) -> None:
        """Send what waits to whoever is there, for at most ``timeout`` seconds, and stop."""
        self._closed = self._read = True
        self._go_on()
        try:
            async with asyncio.timeout(timeout if self._connected else 0):
                await self._idle.wait()
                await asyncio.sleep(self._sent_at + LINGER - asyncio.get_running_loop().time())
        except TimeoutError:
            log.warning("transcripts were cut off", waiting=len(self._waiting))
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def _go_on(self) -> None:
        if self._connected and self._read:
            self._going.set()

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
            await self._going.wait()
            item = self._waiting.popleft()
            try:
                async with asyncio.timeout(SEND_TIMEOUT) as self._limit:
                    await self._send(item)
                self._sent_at = asyncio.get_running_loop().time()
            except GONE as error:
                if not self._connected:
                    self._waiting.appendleft(item)
                    continue
                if isinstance(error, AssertionError):  # the room was left or deleted: nobody reads it any more
                    log.debug("transcript not sent, the room is gone", segment=item.segment)
                else:
                    log.warning("transcript was not sent", segment=item.segment, error=str(error) or "timeout")
            finally:
                self._limit = None

    async def _send(self, item: _Delta | _Done | _Heard) -> None:
        match item:
            case _Delta():
                await self._extend(item)
            case _Done():
                await self._finish(item)
            case _Heard(segment, text, final, identity, track):
                await self._whole(text, self._attributes(segment, track, final=final), sender=identity)

    async def _extend(self, item: _Delta) -> None:
        text = item.text
        line = self._lines.get(item.segment)
        if line is None:
            line = self._lines[item.segment] = _Line(await self._open(item.segment), "")
        elif line.renewed:
            await self._close(line)
            line.writer, line.renewed = await self._open(item.segment), False
            text = line.sent + text
        writer, line.writer = line.writer, None  # a write that fails leaves a broken stream behind
        if writer is not None:
            await writer.write(text)
            line.writer, line.sent = writer, line.sent + item.text

    async def _open(self, segment: str) -> rtc.TextStreamWriter:
        attributes = self._attributes(segment, self._agent_track(), final=False)
        return await self._participant.stream_text(topic=TOPIC, attributes=attributes)

    async def _close(self, line: _Line | None) -> None:
        """Close a stream that another takes the place of."""
        if line is not None and line.writer is not None:
            writer, line.writer = line.writer, None
            await writer.aclose()

    async def _finish(self, item: _Done) -> None:
        line = self._lines.pop(item.segment, None)
        attributes = self._attributes(item.segment, self._agent_track(), final=True)
        if item.interrupted:
            attributes[INTERRUPTED] = "true"
        if line is None or line.writer is None or line.renewed:
            await self._close(line)
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
