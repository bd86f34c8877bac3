"""A call as an OpenTelemetry trace: a span for the call, for each turn of the caller's, and for each segment of a turn.

Off unless ``OTEL_EXPORTER_OTLP_ENDPOINT`` (or ``…_TRACES_ENDPOINT``) is set and the extra ``greenroom[otel]`` is there.
What a turn consists of comes from the same clock as ``greenroom journal turns``, so both say the same. Spans leave when
a turn's answer is heard, from a thread of their own, and say how long things took and how they ended: no word of what
was said.

A call's ids follow from its job's id, so that a process that goes on with a call goes on with its trace. A job whose
attributes hold a W3C ``traceparent`` is part of that trace.
"""

from __future__ import annotations

import asyncio
import queue
import re
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

import structlog

from greenroom.clock import wall
from greenroom.dialog.dialog import Dialog, DialogRules
from greenroom.dialog.events import Event
from greenroom.journal.replay import Step
from greenroom.journal.waterfall import Clock, Turn
from greenroom.version import __version__

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter

__all__ = ["CallTrace", "TracedCall", "open_trace"]

VARIABLES: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
MOST_WAITING: Final = 500
"""Spans that wait for a collector which is away. There are no more than ten to a turn."""
BATCH: Final = 100
LAST_EXPORT: Final = 2.0
"""Seconds that the end of a call waits for its last spans to leave."""

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}.*")

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedCall:
    """What is traced. ``began``: when this process began to hold the call, by the loop's clock, as in its journal.

    ``attempt``: which process of the call this is. ``before``: seconds that earlier ones had held it by then.
    ``attributes``: the job's.
    """

    job: str
    room: str
    agent: str
    rules: DialogRules
    began: float
    attempt: int = 1
    before: float = 0.0
    attributes: Mapping[str, str]


def open_trace(call: TracedCall, environ: Mapping[str, str]) -> CallTrace | None:
    """The trace of a call that begins now, on the running loop; ``None`` when none is wanted or can be made."""
    if not any(environ.get(name) for name in VARIABLES) or environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        log.warning("no traces", error=str(error), mend="pip install 'greenroom[otel]'")
        return None
    return CallTrace(call, OTLPSpanExporter())


class CallTrace:
    """One process's part of a call. ``write`` is told what a journal is told; ``aclose`` is awaited once."""

    def __init__(self, call: TracedCall, exporter: SpanExporter) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope

        self._call = call
        self._dialog: Dialog | None = Dialog(call.rules)
        self._loop = asyncio.get_running_loop()
        self._wall = wall() - self._loop.time()
        self._clock = Clock(call.rules.turns.endpoint.min_delay, began=call.began)
        self._resource = Resource.create({"service.name": "greenroom", "service.version": __version__})
        self._scope = InstrumentationScope("greenroom", __version__)
        self._trace, self._parent = _placed(call)
        self._root = _span_id(call.job)
        self._sender = _Sender(exporter, self._loop)

    def write(self, event: Event, now: float) -> None:
        """An event of the dialog, on its way to it."""
        if self._dialog is None:
            return
        try:
            commands = tuple(self._dialog.handle(event, now))
        except Exception as error:  # noqa: BLE001  # greenroom's own mistake, which the call itself meets next
            log.warning("trace broken off", error=f"{type(error).__name__}: {error}")
            self._dialog = None
            return
        self._clock.see(Step(0, now, event, None, commands))
        for turn in self._clock.take_settled():
            self._add_turn(turn)

    async def aclose(self, reason: str, *, error: str = "") -> None:
        """The call is over; ``error`` is empty for success. Returns when all has left, or soon after."""
        for turn in self._clock.measured():
            self._add_turn(turn)
        attributes = {"greenroom.call.end": reason, "greenroom.call.attempts": self._call.attempt}
        begin = self._call.began - self._call.before
        self._add("call", self._root, self._parent, (begin, self._loop.time()), attributes, error=error)
        if not await self._sender.finish(LAST_EXPORT):
            log.warning("spans lost", reason=f"the collector did not take them within {LAST_EXPORT:g} s")

    # --- spans --------------------------------------------------------------------------------------------------------

    def _add_turn(self, turn: Turn) -> None:
        begin = self._call.began + turn.at
        ids = (self._call.job, str(self._call.attempt), turn.id)
        span = _span_id(*ids)
        for segment in turn.segments:
            times = (begin + segment.begin / 1e6, begin + segment.end / 1e6)
            self._add(segment.name, _span_id(*ids, segment.name), span, times, {})
        end = begin + turn.total / 1e6 if turn.segments else max(self._loop.time(), begin)
        attributes = {"greenroom.turn.id": turn.id, "greenroom.turn.outcome": turn.outcome}
        self._add("turn", span, self._root, (begin, end), attributes)

    def _add(
        self,
        name: str,
        span: int,
        parent: int | None,
        times: tuple[float, float],
        attributes: dict[str, Any],
        *,
        error: str = "",
    ) -> None:
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.trace import SpanContext, SpanKind, TraceFlags
        from opentelemetry.trace.status import Status, StatusCode

        call, flags = self._call, TraceFlags(TraceFlags.SAMPLED)
        common = {"greenroom.job": call.job, "greenroom.agent": call.agent, "livekit.room.name": call.room}
        begin, end = (round((self._wall + when) * 1e9) for when in times)
        self._sender.put(
            ReadableSpan(
                name,
                context=SpanContext(self._trace, span, is_remote=False, trace_flags=flags),
                parent=None if parent is None else SpanContext(self._trace, parent, is_remote=True, trace_flags=flags),
                resource=self._resource,
                attributes=common | attributes,
                kind=SpanKind.INTERNAL,
                status=Status(StatusCode.ERROR, error) if error else Status(StatusCode.UNSET),
                start_time=begin,
                end_time=end,
                instrumentation_scope=self._scope,
            )
        )


class _Sender:
    """A thread that hands spans to the exporter, which blocks. It keeps no process alive."""

    def __init__(self, exporter: SpanExporter, loop: asyncio.AbstractEventLoop) -> None:
        self._exporter = exporter
        self._loop = loop
        self._spans: queue.Queue[ReadableSpan | None] = queue.Queue(MOST_WAITING)
        self._lost = 0
        self._done = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="traces", daemon=True)
        self._thread.start()

    def put(self, span: ReadableSpan | None) -> bool:
        """Hand over a span, or ``None`` after the last one; false when there is no place for it."""
        try:
            self._spans.put_nowait(span)
        except queue.Full:
            if not self._lost:
                log.warning("spans lost", reason=f"{MOST_WAITING} wait for the collector")
            self._lost += 1
            return False
        return True

    async def finish(self, seconds: float) -> bool:
        """Whether all spans that were put have been handed over within so many seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                if self.put(None):
                    await self._done.wait()
        finished = self._done.is_set()
        # Ends an attempt that goes on; the thread ends with it, or with the process.
        await asyncio.to_thread(self._exporter.shutdown)
        return finished

    def _run(self) -> None:
        last = False
        while not last:
            batch = [self._spans.get()]
            with suppress(queue.Empty):
                while len(batch) < BATCH:
                    batch.append(self._spans.get_nowait())
            last = None in batch
            spans = [span for span in batch if span is not None]
            try:
                if spans:
                    self._exporter.export(spans)
            except Exception as error:  # noqa: BLE001  # whatever the library raises for a strange address
                log.warning("spans lost", reason=f"{type(error).__name__}: {error}")
        with suppress(RuntimeError):  # the loop was closed meanwhile
            self._loop.call_soon_threadsafe(self._done.set)


def _placed(call: TracedCall) -> tuple[int, int | None]:
    """The trace's id and the span that the call is part of."""
    match = _TRACEPARENT.fullmatch(call.attributes.get("traceparent", ""))
    if match is not None:
        return int(match[1], 16), int(match[2], 16)
    return int.from_bytes(_hash(call.job, size=16), "big"), None


def _span_id(*parts: str) -> int:
    return int.from_bytes(_hash(*parts, size=8), "big")


def _hash(*parts: str, size: int) -> bytes:
    return blake2b("\0".join(parts).encode(), digest_size=size, person=b"greenroom").digest()
