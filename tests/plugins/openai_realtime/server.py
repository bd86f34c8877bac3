"""A server of OpenAI's Realtime protocol on this machine: it hears, answers with sound, and remembers.

It refuses what the protocol does not allow, and keeps that in ``complaints``: a client that speaks the protocol rightly
leaves it empty. It hears the words that ``tones.spell`` makes, and speaks in them, unless it is given another ``Mind``.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Literal, Self

from aiohttp import WSMsgType, web

from greenroom.audio import Pcm
from tests.plugins import tones
from tests.providers.contract.case import SECRET, Fault

from .conversation import RATE, Answer, Asked, Conversation, Mind, Problem, pieces

__all__ = ["RealtimeServer", "spoken"]


def spoken(text: str) -> Pcm:
    """The sound of a text."""
    return tones.spell(text, RATE)[0].pcm


class RealtimeServer:
    """``answers``: what the model says, one a response; then ``otherwise``. ``heard``: what it understands, one an
    utterance, in place of what was said. ``key``: the one that it takes.

    ``under_way``: connections that are open. ``conversations``: one a connection that was opened. ``handshakes``: the
    addresses and headers of those and of the refused.
    """

    def __init__(
        self,
        answers: Sequence[Answer | str] = (),
        *,
        heard: Sequence[str] = (),
        otherwise: str = "Very well, thank you.",
        mind: Mind | None = None,
    ) -> None:
        self.key = SECRET
        self.under_way = 0
        self.answers = deque(Answer(entry) if isinstance(entry, str) else entry for entry in answers)
        self.heard = deque(heard)
        self.conversations: list[Conversation] = []
        self.complaints: list[dict[str, Any]] = []
        self.handshakes: list[tuple[str, dict[str, str]]] = []
        self._otherwise = Answer(otherwise)
        self.mind = mind or Mind(self._think, self._transcribe, self._speak)
        self._transports: set[asyncio.Transport] = set()
        self._orders: deque[Fault] = deque()
        self._happened = asyncio.Event()
        self._port = 0

    @asynccontextmanager
    async def started(self) -> AsyncIterator[Self]:
        """It runs on the test's own loop."""
        app = web.Application()
        app.add_routes([web.get("/v1/realtime", self._serve)])
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self._port = runner.addresses[0][1]
        try:
            yield self
        finally:
            await runner.cleanup()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/v1"

    def order(self, fault: Fault | Literal[""], *, times: int = 1) -> None:
        """The next so many connections suffer this; ``""``: all goes well again."""
        self._orders = deque([fault] * times if fault else [])

    async def until(self, condition: Callable[[], object], *, within: float = 5.0) -> None:
        """Wait for something that happens here; looked at after each event in either direction."""
        async with asyncio.timeout(within):
            while not condition():
                self._happened.clear()
                await self._happened.wait()

    @property
    def conversation(self) -> Conversation:
        """The newest."""
        return self.conversations[-1]

    def stop_reading(self) -> None:
        """Take nothing more from whom is connected."""
        for transport in self._transports:
            transport.pause_reading()

    def cut(self) -> None:
        """Break all connections off, without a word."""
        for transport in list(self._transports):
            transport.abort()

    # --- one connection -----------------------------------------------------------------------------------------------

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization", "") not in ("", f"Bearer {self.key}"):
            return web.Response(status=401)
        fault = str(self._orders.popleft()) if self._orders else ""
        transport = request.transport
        assert isinstance(transport, asyncio.Transport)
        self.handshakes.append((request.path_qs, dict(request.headers)))
        if fault.isdigit():
            return web.Response(status=int(fault), headers={"Retry-After": "0.1"} if fault in ("429", "503") else {})
        socket = web.WebSocketResponse(timeout=0.2)
        await socket.prepare(request)
        self._transports.add(transport)
        self.under_way += 1
        try:
            await self._talk(socket, fault, request)
        finally:
            self._transports.discard(transport)
            self.under_way -= 1
            self._happened.set()
        return socket

    async def _talk(self, socket: web.WebSocketResponse, fault: str, request: web.Request) -> None:
        if fault == "stall":
            while (await socket.receive()).type is WSMsgType.TEXT:
                pass
            return
        if fault == "expired_key":
            key = request.headers.get("Authorization", "").rpartition(" ")[2]
            error = {"type": "invalid_request_error", "code": "invalid_api_key", "message": f"Expired API key: {key}."}
            await socket.send_json({"type": "error", "error": error})
            await socket.close(code=3000)
            return

        async def send(event: dict[str, Any]) -> None:
            garbled = fault == "malformed" and event["type"] != "session.created"
            with suppress(ConnectionError):
                await socket.send_str('{"type": "response.done", "response": 7}' if garbled else json.dumps(event))
            self._happened.set()

        transport = request.transport
        assert isinstance(transport, asyncio.Transport)
        conversation = Conversation(self.mind, send, hang_up=transport.abort, fault=fault)
        self.conversations.append(conversation)
        try:
            await conversation.begin()
            while (message := await socket.receive()).type is WSMsgType.TEXT:
                await self._take(json.loads(message.data), conversation)
                self._happened.set()
        finally:
            await conversation.aclose()

    async def _take(self, event: dict[str, Any], conversation: Conversation) -> None:
        try:
            await conversation.handle(event)
        except Problem as problem:
            error = {"type": problem.kind, "code": problem.code, "message": str(problem)}
            error["event_id"] = event.get("event_id", "")
            self.complaints.append(error)
            await conversation.send({"type": "error", "error": error})

    # --- what it says and hears ---------------------------------------------------------------------------------------

    async def _think(self, asked: Asked) -> Answer:
        return self.answers.popleft() if self.answers else self._otherwise

    async def _transcribe(self, pcm: Pcm) -> str:
        if self.heard:
            return self.heard.popleft()
        return " ".join(placed.word for placed in tones.read(pcm, RATE))

    async def _speak(self, text: str) -> list[tuple[str, Pcm]]:
        return [(word, spoken(word)) for word in pieces(text)]
