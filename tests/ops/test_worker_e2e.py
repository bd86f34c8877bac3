"""A real worker with a real call, asked as its operators ask it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from prometheus_client.parser import text_string_to_metric_families

from greenroom.embedded.caller import Caller
from greenroom.embedded.console import open_room
from greenroom.embedded.loglines import LogLine
from greenroom.embedded.mediaserver import MediaServer
from greenroom.embedded.microphone import SAMPLE_RATE
from greenroom.embedded.utterance import spoken
from greenroom.embedded.workerprocess import WorkerProcess
from greenroom.ops.admin import SOCKET
from greenroom.settings import ServerSettings

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

TOKEN = "a token that nobody guesses"
SETTINGS = f"""
agents:
  - name: reception
    greeting: Hello. This is the reception.
    vad: {{plugin: silero}}
    stt: {{plugin: whisper, model: tiny.en}}
    tts: {{plugin: piper, voice: joe}}
    llm: {{plugin: script, otherwise: I did not understand that.}}
worker:
  max_jobs: 1
  warm: 1
  run_dir: run
  state_dir: state
  admin: {{port: 0, token: {TOKEN}}}
  deadlines: {{wrap_up: 1.0}}
"""


@dataclass
class Place:
    """Where it all runs. ``lines``: the worker's log; ``spans``: what its calls have sent to the collector."""

    folder: Path
    media: MediaServer
    worker: WorkerProcess
    lines: list[LogLine] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)

    @property
    def server(self) -> ServerSettings:
        return ServerSettings(url=self.media.url, api_key=self.media.api_key, api_secret=self.media.api_secret)

    @property
    def environment(self) -> dict[str, str]:
        server = {"LIVEKIT_URL": self.media.url, "LIVEKIT_API_KEY": self.media.api_key}
        return {**os.environ, **server, "LIVEKIT_API_SECRET": self.media.api_secret}

    @property
    def port(self) -> int:
        return next(int(line.fields["port"]) for line in self.lines if line.event == "admin listens")

    async def ask(self, path: str, *, trusted: bool = False) -> tuple[int, str]:
        """Over TCP."""
        headers = {"Authorization": f"Bearer {TOKEN}"} if trusted else {}
        url = f"http://127.0.0.1:{self.port}{path}"
        async with aiohttp.ClientSession(headers=headers) as session, session.get(url) as answer:
            return answer.status, await answer.text()

    async def metric(self, name: str, **labels: str) -> float | None:
        _, text = await self.ask("/metrics")
        found = [
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]
        return sum(found) if found else None

    async def greenroom(self, *words: str) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "greenroom", *words, "-c", "worker.yaml"),
            cwd=self.folder, env=self.environment, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, _ = await asyncio.wait_for(process.communicate(), 120)
        return process.returncode or 0, out.decode()

    async def status(self) -> tuple[int, Any]:
        code, out = await self.greenroom("status", "--json")
        return code, json.loads(out)


@asynccontextmanager
async def _collecting(spans: list[Span]) -> AsyncIterator[str]:
    """A collector of traces; its address."""

    async def take(request: web.Request) -> web.Response:
        sent = ExportTraceServiceRequest.FromString(await request.read())
        spans.extend(span for each in sent.resource_spans for scope in each.scope_spans for span in scope.spans)
        return web.Response()

    app = web.Application()
    app.router.add_post("/v1/traces", take)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    folder = tmp_path_factory.mktemp("place")
    (folder / "worker.yaml").write_text(SETTINGS)
    lines: list[LogLine] = []
    spans: list[Span] = []
    async with MediaServer() as media, _collecting(spans) as collector:
        server = {"LIVEKIT_URL": media.url, "LIVEKIT_API_KEY": media.api_key, "LIVEKIT_API_SECRET": media.api_secret}
        server["OTEL_EXPORTER_OTLP_ENDPOINT"] = collector
        worker = WorkerProcess(folder / "worker.yaml", environment=server, observe=lines.append)
        try:
            await worker.start(registrations=1)
            await worker.wait_ready()
            yield Place(folder, media, worker, lines, spans)
        finally:
            await worker.stop()


async def test_a_worker_from_its_first_call_to_its_end(place: Place) -> None:
    code, told = await place.status()
    assert (code, told["free"], [agent["refusal"] for agent in told["agents"]]) == (0, 1, [""])
    assert told["links"][0]["state"] == "registered"
    assert told["links"][0]["server_version"] == "1.13.5"
    assert (await place.ask("/healthz"))[0] == (await place.ask("/readyz"))[0] == 200
    code, out = await place.greenroom("doctor", "--agent", "reception")
    assert (code, "wrong" in out) == (0, False), out

    entrance = open_room(place.server, agent="reception", prefix="private", identity="ann")
    async with Caller(entrance, said=lambda speaker, text: None) as caller:
        joined = await caller.wait_for_agent(timeout=60.0)
        heard = await caller.wait_for_voice(after=joined, timeout=60.0)
        await caller.wait_for_pause(since=heard, timeout=60.0)
        words = await caller.speak((await spoken("What time is it?", sample_rate=SAMPLE_RATE)).pcm)
        await caller.wait_for_voice(after=words.ended, timeout=60.0)
        await _while_it_goes_on(place, entrance.room)
        code, out = await place.greenroom("drain", "--now", "--wait")
        assert (code, out.splitlines()[-1]) == (0, "gone")
    await asyncio.wait_for(place.worker.wait_ended(), 60)
    (call,) = [span for span in place.spans if span.name == "call"]
    (turn,) = [span for span in place.spans if span.name == "turn"]
    assert turn.parent_span_id == call.span_id
    assert {"model", "voice"} <= {span.name for span in place.spans if span.parent_span_id == turn.span_id}
    assert not (place.folder / "run" / SOCKET).exists()


async def _while_it_goes_on(place: Place, room: str) -> None:
    """The one call that it may hold."""
    code, told = await place.status()
    (job,) = told["jobs"]
    assert (code, job["room"], job["state"], job["agent_name"]) == (1, room, "running", "reception")
    assert job["pid"]

    code, text = await place.ask("/readyz")
    assert (code, [one["reason"] for one in json.loads(text)["reasons"]]) == (503, ["full"])
    assert (await place.ask("/readyz?full=true"))[0] == (await place.ask("/healthz"))[0] == 200
    for path in ("/healthz", "/readyz", "/metrics", "/status"):
        _, text = await place.ask(path)
        assert room not in text
        assert job["id"] not in text
    assert room in (await place.ask("/status", trusted=True))[1]

    code, out = await place.greenroom("doctor", "--no-probe", "--agent", "reception")
    assert (code, [line.split(maxsplit=2)[2] for line in out.splitlines() if line.startswith("wrong")]) == (
        1,
        ["reception takes no call: full: 1 of 1 slots are taken"],
    )

    for _ in range(300):  # what the job measures comes once a second
        if await place.metric("greenroom_turns_total"):
            break
        await asyncio.sleep(0.2)
    took = {
        stage: await place.metric("greenroom_dispatch_seconds_sum", agent="reception", stage=stage)
        for stage in ("accepted", "assigned", "joined", "first_audio")
    }
    assert all(seconds is not None for seconds in took.values())
    assert sorted(took, key=lambda stage: took[stage] or 0.0) == ["accepted", "assigned", "joined", "first_audio"]
    assert (took["accepted"] or 0) < 2.0
    assert 0 < (took["first_audio"] or 0) < 60
    assert await place.metric("greenroom_turns_total", agent="reception") == 1
    waited = {
        segment: await place.metric("greenroom_turn_seconds_sum", agent="reception", segment=segment)
        for segment in ("end_of_turn", "model", "voice", "response")
    }
    assert all(seconds is not None for seconds in waited.values())
    assert waited["response"] == max(seconds or 0.0 for seconds in waited.values())
    assert await place.metric("greenroom_offers_total", agent="reception") == 1
    assert await place.metric("greenroom_jobs", state="running") == 1
    assert await place.metric("greenroom_slots_free") == 0
    assert await place.metric("greenroom_ready") == 0
    assert (await place.metric("greenroom_journal_bytes_total") or 0) > 100
    assert (await place.metric("greenroom_provider_seconds_count", kind="tts", stage="first") or 0) >= 1
    assert await place.metric("greenroom_measures_lost_total", agent="reception") == 0
    assert list((place.folder / "run").glob("*.db")) == []
