"""Receives the recordings: byte streams of LiveKit's clients on ``TOPIC``. The shell around ``BufferWatch``.

What is refused is closed at once and never read into memory; what is taken is decoded as it arrives.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import structlog
from livekit import rtc

from greenroom.audio import Pcm
from greenroom.machine import Driver
from greenroom.room.preconnect.attributes import Claim
from greenroom.room.preconnect.decoder import Decoder
from greenroom.room.preconnect.decoding import Decoding, prepare
from greenroom.room.preconnect.lead import Lead, Outcome, PreconnectReport
from greenroom.room.preconnect.splice import Recording, Spliced
from greenroom.room.preconnect.watch import (
    AudioDecoded,
    BufferWatch,
    CallerGone,
    CallerLinked,
    Deliver,
    Drop,
    Finish,
    Hold,
    PieceArrived,
    Refuse,
    Release,
    StreamEnded,
    StreamOpened,
    Take,
    Tick,
    TrackExpected,
    TrackGone,
    VoiceHeard,
    WatchCommand,
    WatchEvent,
)

__all__ = ["PROMISE", "TOPIC", "Intake", "PreconnectRules"]

PROMISE: Final = 6
"""LiveKit's ``TF_PRECONNECT_BUFFER``, the feature of a publication that a recording comes with."""
TOPIC: Final = "lk.agent.pre-connect-audio-buffer"
BYTES_A_SECOND: Final = 2 * 2 * 48_000
"""Of the largest recording that a client makes: two channels of samples at 48 kHz."""
HEADERS: Final = 64 * 1024
HELD: Final = 2 * 1024 * 1024
"""Bytes of a stream that is kept aside while it is not known whose it is."""
REPORTED: Final = 3
"""Refused streams that are reported; of further ones only the log tells, at the level of debugging."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class PreconnectRules:
    """``timeout`` and ``max_wait``: how long the live audio waits for a recording that was promised, and for one that
    is arriving; ``max_seconds``: what of it is used."""

    enabled: bool = True
    timeout: float = 3.0
    max_wait: float = 10.0
    max_seconds: float = 60.0

    @property
    def max_bytes(self) -> int:
        return round(self.max_seconds * BYTES_A_SECOND) + HEADERS


class Intake:
    """Told who the caller is and which track is theirs, it brings a ``Lead`` what was recorded of that.

    ``sample_rate``: Hz, of the recordings that it hands over.
    """

    def __init__(
        self, rules: PreconnectRules, *, sample_rate: int, reported: Callable[[PreconnectReport], None]
    ) -> None:
        self._rules = rules
        self._sample_rate = sample_rate
        self._reported = reported
        self._loop = asyncio.get_running_loop()
        self._driver: Driver[WatchEvent, WatchCommand] = Driver(
            BufferWatch(timeout=rules.timeout, max_wait=rules.max_wait), self._perform, clock=self._loop, tick=Tick()
        )
        self._numbers = itertools.count(1)
        self._deliveries: dict[int, _Delivery] = {}
        self._track = ""
        self._lead: Lead | None = None
        self._expected_at = 0.0
        self._refused = 0
        self._report: PreconnectReport | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def opened(self, reader: rtc.ByteStreamReader, sender: str) -> None:
        """A stream on ``TOPIC`` begins."""
        if self._closed:
            reader.close()
            return
        claim = Claim.of(reader.info.attributes or {}, reader.info.mime_type)
        number = next(self._numbers)
        self._deliveries[number] = _Delivery(reader, sender, claim)
        self._driver.feed(StreamOpened(number, sender, claim.track))

    def caller_linked(self, identity: str) -> None:
        """The caller is known."""
        self._driver.feed(CallerLinked(identity))

    def caller_gone(self) -> None:
        """The caller left."""
        self._driver.feed(CallerGone())
        self._part()

    def expect(self, track: str, *, promised: bool) -> None:
        """The caller's microphone is asked for. Asking again for the same changes nothing."""
        if track != self._track:
            self._part()
            self._track, self._expected_at = track, self._loop.time()
            self._lead = Lead(voice_heard=lambda: self._driver.feed(VoiceHeard()), joined=self._joined)
            if promised:
                prepare()
        self._driver.feed(TrackExpected(track, promised))

    def track_gone(self, track: str) -> None:
        """The track is no longer there."""
        self._driver.feed(TrackGone(track))
        if track == self._track:
            self._part()

    def lead(self, track: str) -> Lead | None:
        """What precedes this track's live audio."""
        return self._lead if track == self._track else None

    async def aclose(self) -> None:
        """Close every stream, and take no more."""
        self._closed = True
        self._driver.close()
        self._part()
        for number in list(self._deliveries):
            self._close(number)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _part(self) -> None:
        if self._lead is not None:
            self._lead.close()
        self._lead, self._track, self._report = None, "", None

    # --- what the machine wants ---------------------------------------------------------------------------------------

    def _perform(self, command: WatchCommand) -> None:
        match command:
            case Hold(stream):
                self._read(stream, HELD)
            case Take(stream):
                self._take(stream)
            case Refuse(stream, reason):
                self._refuse(stream, reason)
            case Finish(stream):
                self._deliveries[stream].finish()
            case Deliver(stream, partial, late):
                self._deliver(stream, partial=partial, late=late)
            case Release(reason, missed):
                self._release(reason, missed=missed)
            case Drop(reason):
                log.debug("recording event dropped", reason=reason)

    def _read(self, stream: int, limit: int) -> None:
        delivery = self._deliveries[stream]
        delivery.limit = limit
        if not delivery.reading:
            delivery.reading = True
            task = self._loop.create_task(self._receive(stream, delivery), name="receive recording")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _receive(self, stream: int, delivery: _Delivery) -> None:
        await delivery.receive(lambda: self._driver.feed(PieceArrived(stream)))

    def _take(self, stream: int) -> None:
        delivery = self._deliveries[stream]
        decoder = Decoder(delivery.claim, sample_rate=self._sample_rate, max_seconds=self._rules.max_seconds)
        delivery.decode(
            Decoding(
                decoder,
                made=lambda pieces: self._made(stream, pieces),
                done=lambda reason: self._done(stream, reason),
            )
        )
        self._read(stream, self._rules.max_bytes)

    def _made(self, stream: int, pieces: list[Pcm]) -> None:
        if (delivery := self._deliveries.get(stream)) is not None:
            delivery.add(pieces)
            self._driver.feed(AudioDecoded(stream))

    def _done(self, stream: int, reason: str) -> None:
        if (delivery := self._deliveries.get(stream)) is not None:
            delivery.reason = reason or delivery.reason
            self._driver.feed(StreamEnded(stream, delivery.reason))

    def _refuse(self, stream: int, reason: str) -> None:
        delivery = self._close(stream)
        self._refused += 1
        if self._refused > REPORTED:
            log.debug("recording refused", participant=delivery.sender, reason=reason)
            return
        self._reported(replace(self._described(delivery), outcome="refused", reason=reason))

    def _deliver(self, stream: int, *, partial: bool, late: bool) -> None:
        delivery = self._close(stream)
        report = self._described(delivery)
        outcome: Outcome = "late" if late else "partial" if partial else "used"
        pcm = np.concatenate(delivery.pcm)
        seconds = len(pcm) / self._sample_rate
        recording = Recording(pcm, self._sample_rate, delivery.captured(seconds), late)
        self._report = replace(report, outcome=outcome, reason=delivery.reason, seconds=seconds)
        if self._lead is not None:
            self._lead.bring(recording)

    def _release(self, reason: str, *, missed: bool) -> None:
        if self._lead is not None:
            self._lead.release()
        if missed:
            waited = self._loop.time() - self._expected_at
            self._reported(PreconnectReport(outcome="missing", reason=reason, track=self._track, waited=waited))

    def _joined(self, spliced: Spliced) -> None:
        """The recording has found its place before the live audio."""
        report, self._report = self._report, None
        if report is not None:
            self._reported(
                replace(
                    report,
                    waited=0.0 if report.outcome == "late" else self._loop.time() - self._expected_at,
                    overlap=spliced.overlap,
                    gap=spliced.gap,
                    gain=spliced.gain,
                    first_word_loss=report.first_word_loss + spliced.gap,
                )
            )

    def _described(self, delivery: _Delivery) -> PreconnectReport:
        return PreconnectReport(
            outcome="refused",
            participant=delivery.sender,
            track=delivery.claim.track or self._track,
            format=delivery.decoding.format if delivery.decoding is not None else "",
            size=delivery.size,
            first_word_loss=delivery.decoding.lost if delivery.decoding is not None else 0.0,
        )

    def _close(self, stream: int) -> _Delivery:
        delivery = self._deliveries.pop(stream)
        delivery.close()
        return delivery


class _Delivery:
    """One stream: what has come of it."""

    def __init__(self, reader: rtc.ByteStreamReader, sender: str, claim: Claim) -> None:
        self.sender = sender
        self.claim = claim
        self.limit = 0
        self.reading = False
        self.size = 0
        self.last = asyncio.get_running_loop().time()
        """When something last arrived."""
        self.began = self.last
        """When the recording began, at the latest: what arrives was captured before."""
        self.reason = ""
        self.pcm: list[Pcm] = []
        self.decoding: Decoding | None = None
        self._reader = reader
        self._kept: list[bytes] = []
        self._over = False

    async def receive(self, arrived: Callable[[], None]) -> None:
        """Read to the end, or as far as is allowed."""
        try:
            async for data in self._reader:
                if self.size + len(data) > self.limit:
                    self.reason = "it is too large"
                    break
                self.size += len(data)
                self.last = asyncio.get_running_loop().time()
                if self.decoding is not None:
                    self.decoding.push(data)
                else:
                    self._kept.append(data)
                arrived()
        except rtc.StreamError as error:
            self.reason = f"it broke off: {error.description}"
        self.finish()

    def decode(self, decoding: Decoding) -> None:
        """Decode what has come, and what will."""
        self.decoding = decoding
        for data in self._kept:
            decoding.push(data)
        self._kept.clear()
        if self._over:
            decoding.end()

    def add(self, pieces: list[Pcm]) -> None:
        """This has been decoded."""
        self.pcm += pieces
        if self.decoding is not None:
            self.began = min(self.began, asyncio.get_running_loop().time() - self.decoding.reached)

    def captured(self, seconds: float) -> float:
        """When so much of it had been captured, at the latest. A piece that is late tells less than the others."""
        return min(self.last, self.began + seconds)

    def finish(self) -> None:
        """Read no more, and decode what is there to its end."""
        self._reader.close()
        if not self._over:
            self._over = True
            if self.decoding is not None:
                self.decoding.end()

    def close(self) -> None:
        """Read and decode no more."""
        self._over = True
        self._reader.close()
        if self.decoding is not None:
            self.decoding.drop()
        self._kept.clear()
