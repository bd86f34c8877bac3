"""A small server that speaks OpenAI's documented protocol: chat completions, transcriptions, speech.

What it answers, hears with and speaks with can be set; it remembers what it was asked; and it fails on order, in the
ways that vendors fail.
"""

from __future__ import annotations

import asyncio
import io
import json
import re
import threading
import wave
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self, TypeVar

import numpy as np
from aiohttp import web

from greenroom.audio import AudioFrame, Pcm, rms
from tests.providers.contract.case import Fault

__all__ = ["Asked", "OpenAIServer", "Said", "events", "tone"]

T = TypeVar("T")
RATE = 24000
_PIECE = 4001
"""Bytes of sound in a piece: an odd number, so that samples are torn apart."""


@dataclass(frozen=True)
class Asked:
    """A request as it came: what was sent as JSON or as a form, files as bytes. Headers by their names in small."""

    path: str
    body: dict[str, Any]
    headers: dict[str, str]


@dataclass(frozen=True)
class Said:
    """An answer. ``calls``: name and arguments of tools."""

    text: str = ""
    calls: Sequence[tuple[str, str]] = ()
    finish: str = ""


@dataclass(frozen=True)
class Refusal:
    """An endpoint that does not take something: the status and the body that it says so with."""

    wanted: Callable[[dict[str, Any]], bool]
    status: int
    body: dict[str, Any]


@dataclass(frozen=True)
class Replay:
    """A recorded answer, sent byte for byte in pieces of ``step``."""

    body: bytes
    kind: str = "text/event-stream"
    step: int = 7
    status: int = 200


class OpenAIServer:
    """``async with OpenAIServer() as server``: it is at ``server.url`` meanwhile, in a thread of its own.

    ``brain``, ``ear`` and ``voice`` answer, transcribe and speak. ``gap``: seconds between words, and between pieces of
    sound. ``key``: whoever has another is refused; ``None``: whatever they have. ``refuses``: what it does not take.
    """

    def __init__(self, *, key: str | None = None, gap: float = 0.002) -> None:
        self.url = ""
        self.under_way = 0
        self.asked: list[Asked] = []
        self.warmed_up = 0
        self.connections: set[int] = set()
        self.brain: Callable[[dict[str, Any]], Said] = answer
        self.ear: Callable[[AudioFrame], Awaitable[str]] = hear
        self.voice: Callable[[str], AsyncIterator[Pcm]] = hum
        self.key = key
        self.gap = gap
        self.refuses: list[Refusal] = []
        self.replays: deque[Replay] = deque()
        self._faults: deque[Fault] = deque()
        self._runner: web.AppRunner | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="openai server")

    def order(self, fault: Fault | Literal[""], *, times: int = 1) -> None:
        """The next so many requests suffer this."""
        self._faults.clear()
        if fault:
            self._faults.extend([fault] * times)

    def refuse(self, wanted: Callable[[dict[str, Any]], bool], *, status: int = 400, **error: Any) -> None:
        """From now on a request of which ``wanted`` is true is refused; ``error``: the error's own fields."""
        self.refuses.append(Refusal(wanted, status, {"error": {"type": "invalid_request_error", **error}}))

    async def __aenter__(self) -> Self:
        self._thread.start()
        self.url = await self._there(self._start())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._there(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        await asyncio.to_thread(self._thread.join)
        self._loop.close()

    async def _there(self, work: Coroutine[Any, Any, T]) -> T:
        """Done on the server's own loop, so that what it is busy with is none of the client's."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    async def _start(self) -> str:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_post("/v1/chat/completions", self._serve(self._chat))
        app.router.add_post("/v1/audio/transcriptions", self._serve(self._transcribe))
        app.router.add_post("/v1/audio/speech", self._serve(self._speak))
        app.router.add_head("/v1", self._head)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        return f"http://{host}:{port}/v1"

    async def _stop(self) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def idle(self) -> None:
        """Return once nothing is worked on."""
        while self.under_way:  # noqa: ASYNC110  # it is another thread's number
            await asyncio.sleep(0.002)

    async def busy(self) -> None:
        """Return once something is."""
        while not self.under_way:  # noqa: ASYNC110  # as above
            await asyncio.sleep(0.002)

    # --- what is common ---------------------------------------------------------------------------------------------

    async def _head(self, request: web.Request) -> web.Response:
        self.warmed_up += 1
        self._note_connection(request)
        return web.Response(status=404)

    def _serve(
        self, work: Callable[[web.Request, dict[str, Any], Fault | None], Awaitable[web.StreamResponse]]
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def serve(request: web.Request) -> web.StreamResponse:
            self.under_way += 1
            try:
                self._note_connection(request)
                body = await _body(request)
                headers = {name.lower(): value for name, value in request.headers.items()}
                self.asked.append(Asked(request.path, body, headers))
                fault = self._faults.popleft() if self._faults else None
                refused = self._refused(request, body, fault)
                if refused is not None:
                    return refused
                if self.replays:
                    return await self._replay(request, self.replays.popleft())
                return await work(request, body, fault)
            except ConnectionResetError:
                raise asyncio.CancelledError from None  # the client went in mid-answer, as it may
            finally:
                self.under_way -= 1

        return serve

    def _note_connection(self, request: web.Request) -> None:
        peer = request.transport.get_extra_info("peername") if request.transport else None
        self.connections.add(peer[1] if peer else 0)

    def _refused(self, request: web.Request, body: dict[str, Any], fault: Fault | None) -> web.Response | None:
        key = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if fault == "expired_key" or (self.key is not None and key != self.key):
            return _error(401, f"Incorrect API key provided: {key}.", code="invalid_api_key")
        for refusal in self.refuses:
            if refusal.wanted(body):
                return web.json_response(refusal.body, status=refusal.status)
        match fault:
            case "429":
                words = "Rate limit reached for requests. Please try again in 20ms."
                return _error(429, words, code="rate_limit_exceeded", headers={"retry-after-ms": "20"})
            case "404":
                return _error(404, f"The model `{body.get('model')}` does not exist.", code="model_not_found")
            case "503":
                return _error(503, "The engine is currently overloaded.", headers={"retry-after": "0"})
            case "401" | "403" | "500":
                return _error(int(fault), f"You sent {key}, and the answer is no.")
        return None

    async def _replay(self, request: web.Request, replay: Replay) -> web.StreamResponse:
        response = await self._begin(request, replay.kind, status=replay.status)
        for start in range(0, len(replay.body), replay.step):
            await response.write(replay.body[start : start + replay.step])
            await asyncio.sleep(0)
        await response.write_eof()
        return response

    async def _begin(self, request: web.Request, kind: str, *, status: int = 200) -> web.StreamResponse:
        response = web.StreamResponse(status=status, headers={"Content-Type": kind, "x-request-id": "req_1"})
        await response.prepare(request)
        return response

    async def _stall(self) -> None:
        """Until the client has had enough."""
        await asyncio.Event().wait()

    def _cut(self, request: web.Request) -> None:
        assert request.transport is not None
        request.transport.abort()

    # --- chat completions -------------------------------------------------------------------------------------------

    async def _chat(self, request: web.Request, body: dict[str, Any], fault: Fault | None) -> web.StreamResponse:
        said = Said() if fault == "silence" else self.brain(body)
        response = await self._begin(request, "text/event-stream; charset=utf-8")
        if fault == "stall":
            await self._stall()
        if fault == "malformed":
            await response.write(b'data: {"id": "chatcmpl-1", "choices": [{"del\n\n<html>Bad gateway</html>\n\n')
            await response.write_eof()
            return response
        for number, event in enumerate(events(said, body)):
            await response.write(event)
            if fault == "cut" and number == 2:
                await asyncio.sleep(0.02)  # what was sent arrives
                self._cut(request)
                break
            await asyncio.sleep(self.gap)
        await response.write_eof()
        return response

    # --- transcriptions ---------------------------------------------------------------------------------------------

    async def _transcribe(self, request: web.Request, body: dict[str, Any], fault: Fault | None) -> web.StreamResponse:
        streamed = body.get("stream") == "true"
        text = "" if fault == "silence" else await self.ear(_recording(body["file"]))
        if not streamed and fault not in ("stall", "cut"):
            if fault == "malformed":
                return web.Response(text='{"txt": ', content_type="application/json")
            return web.json_response(_transcript(text, body))
        response = await self._begin(request, "text/event-stream" if streamed else "application/json")
        if fault == "stall":
            await self._stall()
        if not streamed:
            await response.write(b'{"text": "half')
            await asyncio.sleep(0.02)
            self._cut(request)
            return response
        if fault == "malformed":
            await response.write(b"data: nothing\n\n")
        for number, word in enumerate(text.split(" ")):
            delta = {"type": "transcript.text.delta", "delta": word if number == 0 else f" {word}"}
            await response.write(_event(delta))
            if fault == "cut":
                await asyncio.sleep(0.02)
                self._cut(request)
                return response
            await asyncio.sleep(self.gap)
        await response.write(_event({"type": "transcript.text.done", "text": text, "logprobs": _logprobs(body)}))
        await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        return response

    # --- speech -----------------------------------------------------------------------------------------------------

    async def _speak(self, request: web.Request, body: dict[str, Any], fault: Fault | None) -> web.StreamResponse:
        if fault == "malformed":
            return web.json_response({"audio": None})
        form = body.get("response_format", "mp3")
        response = await self._begin(request, f"audio/{form}")
        if fault == "stall":
            await self._stall()
        rest = _endless_wav(RATE) if form == "wav" else b""
        async for pcm in self.voice(body["input"]):
            rest += (np.zeros_like(pcm) if fault == "silence" else pcm).tobytes()
            while len(rest) > _PIECE:
                await response.write(rest[:_PIECE])
                rest = rest[_PIECE:]
                if fault == "cut":
                    await asyncio.sleep(0.02)
                    self._cut(request)
                    return response
                await asyncio.sleep(self.gap)
        await response.write(rest)
        await response.write_eof()
        return response


# --- what it says, hears and sounds like, unless it is told otherwise -------------------------------------------------


def answer(body: dict[str, Any]) -> Said:
    """A friendly receptionist who calls the first tool when somebody asks for the weather."""
    last = body["messages"][-1]
    if last["role"] == "tool":
        return Said(f"I have looked it up: {last['content']}.")
    tools = body.get("tools", ())
    asked = str(last.get("content"))
    if tools and body.get("tool_choice") != "none" and ("weather" in asked or body.get("tool_choice") == "required"):
        return Said("Let me look.", calls=[(tools[0]["function"]["name"], '{"city": "Paris"}')])
    return Said("It is half past four in the afternoon. Can I do anything else for you?")


async def hear(audio: AudioFrame) -> str:
    """The same words whatever was said; none where nobody spoke."""
    return "hello there" if rms(audio.pcm) > 50 else ""


async def hum(text: str) -> AsyncIterator[Pcm]:
    """A tone that swells, 60 ms for each letter, after a moment of silence."""
    yield np.zeros(RATE // 5, dtype=np.int16)
    sound = tone(max(0.4, 0.06 * len(text)))
    for start in range(0, len(sound), RATE // 5):
        yield sound[start : start + RATE // 5]


def tone(seconds: float) -> Pcm:
    at = np.arange(round(seconds * RATE)) / RATE
    swell = 0.6 - 0.4 * np.cos(2 * np.pi * 3 * at)
    return np.asarray(np.round(6000 * swell * np.sin(2 * np.pi * 220 * at)), dtype=np.int16)


@dataclass
class _Numbers:
    """Of a chat completion's chunks."""

    head: dict[str, Any] = field(
        default_factory=lambda: {
            "id": "chatcmpl-B9MBs8Cjcvol",
            "object": "chat.completion.chunk",
            "created": 1741569952,
            "model": "gpt-6-luna",
            "service_tier": "default",
            "system_fingerprint": None,
        }
    )


def events(said: Said, body: dict[str, Any]) -> list[bytes]:
    """An answer as the events of a stream."""
    head = {**_Numbers().head, "model": body.get("model", "")}
    counted = bool(body.get("stream_options", {}).get("include_usage"))

    def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return _event({**head, "choices": [choice], **({"usage": None} if counted else {})})

    made = [chunk({"role": "assistant", "content": "", "refusal": None})]
    words = said.text.split(" ") if said.text else []
    made += [chunk({"content": word if number == 0 else f" {word}"}) for number, word in enumerate(words)]
    for index, (name, arguments) in enumerate(said.calls):
        function = {"name": name, "arguments": ""}
        call = {"index": index, "id": f"call_{len(body['messages'])}_{index}", "type": "function", "function": function}
        made.append(chunk({"tool_calls": [call]}))
        for start in range(0, len(arguments), 5):
            piece = {"index": index, "function": {"arguments": arguments[start : start + 5]}}
            made.append(chunk({"tool_calls": [piece]}))
    made.append(chunk({}, said.finish or ("tool_calls" if said.calls else "stop")))
    if counted:
        prompt = sum(len(str(message.get("content"))) // 4 for message in body["messages"])
        usage = {"prompt_tokens": prompt, "completion_tokens": len(words), "total_tokens": prompt + len(words)}
        made.append(_event({**head, "choices": [], "usage": usage}))
    return [*made, b"data: [DONE]\n\n"]


def _event(data: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(data)}\n\n".encode()


def _transcript(text: str, body: dict[str, Any]) -> dict[str, Any]:
    if body.get("response_format") == "verbose_json":
        segment = {"id": 0, "start": 0.0, "end": 1.0, "text": text, "avg_logprob": -0.2, "no_speech_prob": 0.05}
        return {"task": "transcribe", "language": "english", "duration": 1.0, "text": text, "segments": [segment]}
    if str(body.get("model")).startswith("gpt-transcribe"):
        return {"text": text, "languages": [{"code": "en"}]}
    return {"text": text, "logprobs": _logprobs(body)}


def _logprobs(body: dict[str, Any]) -> list[dict[str, Any]] | None:
    if "logprobs" not in (body.get("include[]"), body.get("include")):
        return None
    return [{"token": "hello", "logprob": -0.1, "bytes": []}, {"token": " there", "logprob": -0.3, "bytes": []}]


def _error(
    status: int, message: str, *, code: str | None = None, headers: dict[str, str] | None = None
) -> web.Response:
    error = {"message": message, "type": "invalid_request_error" if status < 500 else "server_error"}
    return web.json_response({"error": {**error, "param": None, "code": code}}, status=status, headers=headers)


async def _body(request: web.Request) -> dict[str, Any]:
    if request.content_type == "application/json":
        body: dict[str, Any] = await request.json()
        return body
    # By hand: aiohttp's own reader warns of itself where a boundary falls between two pieces.
    boundary = request.headers["Content-Type"].partition("boundary=")[2].encode()
    form: dict[str, Any] = {}
    for part in (await request.read()).split(b"--" + boundary)[1:-1]:
        head, _, value = part.partition(b"\r\n\r\n")
        (name,) = re.findall(rb'; name="([^"]*)"', head)
        form[name.decode()] = value[:-2] if b"filename=" in head else value[:-2].decode()
    return form


def _recording(data: bytes) -> AudioFrame:
    with wave.open(io.BytesIO(data)) as file:
        assert (file.getnchannels(), file.getsampwidth()) == (1, 2)
        return AudioFrame(np.frombuffer(file.readframes(file.getnframes()), dtype=np.int16), file.getframerate())


def _endless_wav(sample_rate: int) -> bytes:
    """The header of a wav file whose length is not known yet, with a chunk that nobody asked for."""
    into = io.BytesIO()
    with wave.open(into, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate)
    head = bytearray(into.getvalue())
    extra = b"LIST" + (5).to_bytes(4, "little") + b"INFO\x00\x00"
    head[-8:-8] = extra
    head[4:8] = head[-4:] = b"\xff\xff\xff\xff"
    return bytes(head)
