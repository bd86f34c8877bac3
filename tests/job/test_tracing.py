"""Traces, as a collector gets them: a real one of HTTP on this machine, read with OpenTelemetry's own messages."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from structlog.testing import capture_logs

from greenroom.clock import wall
from greenroom.job import tracing
from greenroom.job.tracing import CallTrace, TracedCall, open_trace
from greenroom.journal.waterfall import turns
from tests.journal.calls import BEGAN, CALL, RULES, journal_of

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Collector:
    """Takes spans. ``answer``: the status that it answers with."""

    def __init__(self) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        self.came = asyncio.Event()
        self.answer = 200
        self.url = ""

    @property
    def spans(self) -> list[Span]:
        return [
            span
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]

    async def take(self, request: web.Request) -> web.Response:
        self.requests.append(ExportTraceServiceRequest.FromString(await request.read()))
        self.came.set()
        return web.Response(status=self.answer)


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    collector = Collector()
    app = web.Application()
    app.router.add_post("/v1/traces", collector.take)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    collector.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield collector
    await runner.cleanup()


def traced(**fields: Any) -> TracedCall:
    known = {"job": "AJ_1", "room": "lobby", "agent": "reception", "rules": RULES, "began": BEGAN, "attributes": {}}
    return TracedCall(**{**known, **fields})


def trace_to(collector: Collector, monkeypatch: pytest.MonkeyPatch, **fields: Any) -> CallTrace:
    """A trace to this collector; the library reads the process's own environment."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    trace = open_trace(traced(**fields), os.environ)
    assert trace is not None
    return trace


def play(trace: CallTrace, *, until: int | None = None) -> None:
    for now, event in CALL[:until]:
        trace.write(event, now)


def attributes(span: Span) -> dict[str, Any]:
    return {pair.key: pair.value.string_value or pair.value.int_value for pair in span.attributes}


async def test_a_call_with_its_turns_and_their_segments(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trace = trace_to(collector, monkeypatch)
    play(trace)
    await trace.aclose("the user hung up")

    (call,) = collector.named("call")
    assert call.parent_span_id == b""
    assert attributes(call) == {
        "greenroom.job": "AJ_1",
        "greenroom.agent": "reception",
        "livekit.room.name": "lobby",
        "greenroom.call.end": "the user hung up",
        "greenroom.call.attempts": 1,
    }
    expected = turns(journal_of(tmp_path))
    spans = collector.named("turn")
    assert [attributes(span)["greenroom.turn.outcome"] for span in spans] == [turn.outcome for turn in expected]
    assert {span.parent_span_id for span in spans} == {call.span_id}
    for turn, span in zip(expected, spans, strict=True):
        children = [one for one in collector.spans if one.parent_span_id == span.span_id]
        assert [one.name for one in children] == [segment.name for segment in turn.segments]
        for child, segment in zip(children, turn.segments, strict=True):
            assert child.end_time_unix_nano - child.start_time_unix_nano == pytest.approx(
                segment.length * 1000, abs=999
            )
        if children:
            assert children[0].start_time_unix_nano == span.start_time_unix_nano
            assert children[-1].end_time_unix_nano == span.end_time_unix_nano
    assert len({span.trace_id for span in collector.spans}) == 1
    assert len({span.span_id for span in collector.spans}) == len(collector.spans)


async def test_a_turn_leaves_when_its_answer_is_heard(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    trace = trace_to(collector, monkeypatch)
    play(trace, until=18)
    await asyncio.wait_for(collector.came.wait(), 10)
    assert collector.named("turn")
    assert collector.named("call") == []
    await trace.aclose("enough")


async def test_nothing_that_was_said_leaves(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    trace = trace_to(collector, monkeypatch)
    play(trace)
    await trace.aclose("done", error="model: overloaded")
    sent = str(collector.requests)
    assert not [word for word in ("weather", "Paris", "sunny", "Good day") if word in sent]
    assert collector.named("call")[0].status.message == "model: overloaded"


async def test_times_are_those_of_the_wall(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    began = asyncio.get_running_loop().time()
    trace = trace_to(collector, monkeypatch, began=began, before=60.0, attempt=2)
    await trace.aclose("done")
    (call,) = collector.named("call")
    assert call.start_time_unix_nano / 1e9 == pytest.approx(wall() - 60, abs=5)
    assert call.end_time_unix_nano / 1e9 == pytest.approx(wall(), abs=5)
    assert attributes(call)["greenroom.call.attempts"] == 2


async def test_the_next_process_goes_on_with_the_trace(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    for attempt in (1, 2):
        trace = trace_to(collector, monkeypatch, attempt=attempt)
        play(trace, until=18)
        if attempt == 1:
            await asyncio.wait_for(collector.came.wait(), 10)
            await trace._sender.finish(5.0)
        else:
            await trace.aclose("done")
    (call,) = collector.named("call")
    first, second = collector.named("turn")
    assert first.span_id != second.span_id
    assert {first.parent_span_id, second.parent_span_id} == {call.span_id}
    assert {first.trace_id, second.trace_id} == {call.trace_id}


async def test_a_call_of_somebody_elses_trace(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    trace = trace_to(collector, monkeypatch, attributes={"traceparent": PARENT})
    await trace.aclose("done")
    (call,) = collector.named("call")
    assert (call.trace_id.hex(), call.parent_span_id.hex()) == tuple(PARENT.split("-")[1:3])


@pytest.mark.parametrize("nonsense", ["", "x", "00-" + "0" * 32 + "-b7ad6b7169203331-01", PARENT.upper()])
def test_a_traceparent_that_is_none(nonsense: str) -> None:
    assert tracing._placed(traced(attributes={"traceparent": nonsense})) == tracing._placed(traced())


# --- when it is off, or fails -----------------------------------------------------------------------------------------


async def test_it_is_off_unless_it_is_asked_for() -> None:
    assert open_trace(traced(), {}) is None
    assert open_trace(traced(), {"OTEL_EXPORTER_OTLP_ENDPOINT": ""}) is None
    assert open_trace(traced(), {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "true"}) is None


async def test_without_the_extra_there_is_one_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with capture_logs() as logs:
        assert open_trace(traced(), {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}) is None
    assert [(entry["event"], entry["mend"]) for entry in logs] == [("no traces", "pip install 'greenroom[otel]'")]


async def test_a_collector_that_is_away_holds_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "LAST_EXPORT", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        away = Collector()
        away.url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with capture_logs() as logs:
            trace = trace_to(away, monkeypatch)
            play(trace)
            began = asyncio.get_running_loop().time()
            await trace.aclose("done")
            assert asyncio.get_running_loop().time() - began < 8.0, "the exporter's own patience is 10 s"
    assert "spans lost" in [entry["event"] for entry in logs]


async def test_spans_that_are_too_many_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "MOST_WAITING", 3)
    release, emptied = threading.Event(), threading.Event()
    exported: list[int] = []

    class Slow:
        def export(self, spans: Any) -> None:
            release.wait(10)
            exported.append(len(spans))
            if sum(exported) >= 3:
                emptied.set()

        def shutdown(self) -> None: ...

    with capture_logs() as logs:
        trace = CallTrace(traced(), Slow())  # type: ignore[arg-type]
        for _ in range(10):
            trace._sender.put(trace)  # type: ignore[arg-type]
        release.set()
        assert await asyncio.to_thread(emptied.wait, 10)
        await trace.aclose("done")
    assert [entry["reason"] for entry in logs] == ["3 wait for the collector"]
    assert 3 <= sum(exported) - 1 < 10


async def test_a_mistake_of_ours_breaks_the_trace_off_and_nothing_else(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = trace_to(collector, monkeypatch)
    with capture_logs() as logs:
        trace.write(object(), BEGAN)  # type: ignore[arg-type]
        trace.write(CALL[0][1], BEGAN)
    await trace.aclose("done")
    assert [entry["event"] for entry in logs] == ["trace broken off"]
    assert len(collector.named("call")) == 1
