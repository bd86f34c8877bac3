"""Cartesia's websocket for speech as its documentation describes it, for a voice that spells in tones.

It really speaks: the audio that it sends holds the words of the text at the times that it names. Contexts are
multiplexed, take text in pieces, and end when they are finished, cancelled or left alone.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from aiohttp import WSMsgType, web

from tests.plugins.tones import Placed, spell
from tests.plugins.vendor import WebVendor, cut

__all__ = ["CartesiaServer", "Context", "Speaking"]

CHUNK = 0.05
"""Seconds of audio in a message."""
LEAD = 0.02
"""Seconds of silence before each piece of text."""
MEANINGS = {
    "401": ("Unauthorized", "Invalid API key."),
    "403": ("Forbidden", "Your plan does not include this."),
    "404": ("Voice not found", "There is no such voice."),
    "429": ("Too many concurrent requests", "You have exceeded your plan's concurrency limit."),
    "500": ("Internal error", "Something went wrong."),
    "503": ("Unavailable", "Please try again later."),
    "expired_key": ("Unauthorized", "This API key has expired."),
}


@dataclass(eq=False)
class Context:
    """One context. ``requests``: what it was sent; ``samples``: of audio so far."""

    id: str
    rate: int
    fault: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    texts: asyncio.Queue[str | None] = field(default_factory=asyncio.Queue)
    samples: int = 0
    task: asyncio.Task[None] | None = None

    @property
    def text(self) -> str:
        return "".join(request["transcript"] for request in self.requests)


@dataclass(eq=False)
class Speaking:
    """One connection, with its contexts; ``cancelled``: the ids of those that were."""

    socket: web.WebSocketResponse
    contexts: dict[str, Context] = field(default_factory=dict)
    cancelled: list[str] = field(default_factory=list)
    gone: bool = False


class CartesiaServer(WebVendor):
    """``named``: when the words of a piece of text are named: ``before`` its audio, ``after`` it, each ``beside`` the
    audio that it is in, or ``never``. ``expiry``: seconds after which a context that gets no text ends. ``pace``:
    seconds that a second of audio takes to be made."""

    def __init__(
        self,
        *,
        named: Literal["before", "beside", "after", "never"] = "beside",
        expiry: float = 1.0,
        pace: float = 0.02,
    ) -> None:
        super().__init__()
        self.named = named
        self.expiry = expiry
        self.pace = pace
        self.spoke: list[Speaking] = []
        self.contexts: list[Context] = []

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/tts/websocket", self._serve)]

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        fault = self._orders[0] if self._orders else ""
        if fault in MEANINGS:
            self.ordered()
            return self._refused(401 if fault == "expired_key" else int(fault), *MEANINGS[fault])
        if request.headers.get("X-API-Key") != self.key:
            return self._refused(401, "Unauthorized", f"Invalid API key {request.headers.get('X-API-Key')}.")
        if not request.query.get("cartesia_version"):
            return self._refused(400, "Bad request", "The version is missing.")
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        speaking = Speaking(socket)
        self.spoke.append(speaking)
        self.connections += 1
        self.happened()
        try:
            with contextlib.suppress(ConnectionError):
                await self._take(speaking)
        finally:
            tasks = [context.task for context in speaking.contexts.values() if context.task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            speaking.gone = True
            self.happened()
        return socket

    def _refused(self, status: int, title: str, message: str) -> web.Response:
        headers = {"Retry-After": "2"} if status in (429, 503) else {}
        return web.json_response({"title": title, "message": message}, status=status, headers=headers)

    async def _take(self, speaking: Speaking) -> None:
        async for message in speaking.socket:
            if message.type is not WSMsgType.TEXT:
                return
            asked = json.loads(message.data)
            name = asked["context_id"]
            if asked.get("cancel"):
                speaking.cancelled.append(name)
                context = speaking.contexts.pop(name, None)
                if context is not None and context.task is not None:
                    context.task.cancel()
                self.happened()
                continue
            context = speaking.contexts.get(name)
            if context is None:
                context = await self._open(speaking, name, asked)
                if context is None:
                    continue
            self._check(context, asked)
            context.requests.append(asked)
            context.texts.put_nowait(asked["transcript"])
            if not asked.get("continue"):
                context.texts.put_nowait(None)
            self.happened()

    async def _open(self, speaking: Speaking, name: str, asked: dict[str, Any]) -> Context | None:
        fault = self.ordered()
        if any(context.id == name for context in self.contexts):
            await self._fail(speaking, name, 400, "Context expired", "This context has ended.")
            return None
        if fault in MEANINGS:
            await self._fail(speaking, name, 401 if fault == "expired_key" else int(fault), *MEANINGS[fault])
            return None
        context = Context(name, asked["output_format"]["sample_rate"], fault)
        speaking.contexts[name] = context
        self.contexts.append(context)
        self.under_way += 1  # here and not in the task, which has yet to begin when somebody counts
        context.task = asyncio.create_task(self._speak(speaking, context))
        context.task.add_done_callback(self._over)
        return context

    def _over(self, _task: object) -> None:
        self.under_way -= 1
        self.happened()

    def _check(self, context: Context, asked: dict[str, Any]) -> None:
        """All but the text has to stay as it is in one context."""
        for request in context.requests[:1]:
            assert {**request, "transcript": "", "continue": True} == {**asked, "transcript": "", "continue": True}

    async def _fail(self, speaking: Speaking, name: str, status: int, title: str, message: str) -> None:
        await self._send(
            speaking, {"type": "error", "context_id": name, "status_code": status, "title": title, "message": message}
        )

    async def _speak(self, speaking: Speaking, context: Context) -> None:
        try:
            while True:
                try:
                    text = await asyncio.wait_for(context.texts.get(), self.expiry)
                except TimeoutError:
                    text = None
                if context.fault == "stall":
                    await asyncio.Event().wait()
                if text is None:
                    speaking.contexts.pop(context.id, None)
                    await self._send(speaking, {"type": "done", "context_id": context.id, "status_code": 206})
                    return
                await self._say(speaking, context, text)
        except ConnectionError:
            return

    async def _say(self, speaking: Speaking, context: Context, text: str) -> None:
        sound, placed = spell(text, context.rate)
        if not placed:
            return
        lead = round(LEAD * context.rate)
        pcm = np.concatenate([np.zeros(lead, dtype=np.int16), sound.pcm])
        if context.fault == "silence":
            pcm = np.zeros_like(pcm)
        start = context.samples / context.rate + LEAD
        words = [Placed(one.word, one.start + start, one.end + start) for one in placed]
        named = self.named if context.requests[0].get("add_timestamps") else "never"
        if named == "before":
            await self._name(speaking, context, words)
        step = round(CHUNK * context.rate)
        for begin in range(0, len(pcm), step):
            piece = pcm[begin : begin + step]
            if named == "beside":
                first, last = context.samples / context.rate, (context.samples + len(piece)) / context.rate
                await self._name(speaking, context, [one for one in words if first <= one.start < last])
            await self._chunk(speaking, context, piece.tobytes())
            context.samples += len(piece)
            await asyncio.sleep(len(piece) / context.rate * self.pace)
        if named == "after":
            await self._name(speaking, context, words)

    async def _name(self, speaking: Speaking, context: Context, words: list[Placed]) -> None:
        if not words:
            return
        told = {
            "words": [one.word for one in words],
            "start": [one.start for one in words],
            "end": [one.end for one in words],
        }
        await self._send(speaking, {"type": "timestamps", "context_id": context.id, "word_timestamps": told})

    async def _chunk(self, speaking: Speaking, context: Context, raw: bytes) -> None:
        data = base64.b64encode(raw).decode()
        if context.fault == "malformed":
            data = "no base64!"
        await self._send(
            speaking, {"type": "chunk", "context_id": context.id, "data": data, "done": False, "status_code": 206}
        )
        if context.fault == "cut" and not speaking.gone:
            speaking.gone = True
            cut(speaking.socket)

    async def _send(self, speaking: Speaking, message: dict[str, Any]) -> None:
        if not speaking.gone:
            await speaking.socket.send_json(message)
            self.happened()
