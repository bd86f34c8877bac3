"""One conversation with the model: what the session tells it, what it says, and a memory that survives connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from typing import Any

import structlog

from greenroom.audio import AudioFrame
from greenroom.dialog.history import ChatContext, ChatItem, Message
from greenroom.errors import ProviderError
from greenroom.providers import RealtimeRequest, RealtimeSession, ToolSchema
from greenroom.providers.realtime import RealtimeChunk, RealtimeHeard
from greenroom.redaction import redact
from greenroom_plugins.openai_realtime import wire
from greenroom_plugins.openai_realtime.hearing import Hearing
from greenroom_plugins.openai_realtime.link import Link, failure_of
from greenroom_plugins.openai_realtime.memory import Memory, Part
from greenroom_plugins.openai_realtime.options import NAME, OpenAIRealtimeOptions
from greenroom_plugins.openai_realtime.reply import Piece, Reply
from greenroom_plugins.openai_realtime.wire import Outgoing

__all__ = ["OpenAIRealtimeSession"]

log = structlog.get_logger(__name__)

STOPPING = 2.0
"""Seconds in which the server has to be done with a response that was cancelled."""
ATTEMPTS = 3
"""How often a response is asked for while the connection is lost before anything has come of it."""
TAG = "greenroom"
"""The key of a response's metadata by which it is known."""


class OpenAIRealtimeSession(RealtimeSession):
    """Made on the running loop, and connected from then on."""

    def __init__(self, options: OpenAIRealtimeOptions, *, detect_speech: bool) -> None:
        self._options = options
        self._memory = Memory()
        self._heard: asyncio.Queue[RealtimeHeard | ProviderError | None] = asyncio.Queue()
        self._hearing = Hearing(options, self._memory, detects=detect_speech, send=self._send, emit=self._emit)
        self._instructions = ""
        self._tools: tuple[ToolSchema, ...] = ()
        self._reply: Reply | None = None
        self._foreign: set[str] = set()
        self._events = 0
        self._closed = False
        self._link = Link(options, self)
        self._linking = asyncio.get_running_loop().create_task(self._link.run(), name=NAME)
        self._linking.add_done_callback(self._unlinked)

    # --- what it hears ----------------------------------------------------------------------------------------------

    def push(self, frame: AudioFrame) -> None:
        self._hearing.push(frame)

    def start_of_speech(self, utterance: str, *, at: float) -> None:
        self._hearing.start(utterance, at=at)

    def end_of_speech(self, utterance: str) -> None:
        self._hearing.end(utterance)

    async def __aiter__(self) -> AsyncIterator[RealtimeHeard]:
        while not self._closed and (heard := await self._heard.get()) is not None:
            if isinstance(heard, ProviderError):
                raise heard
            yield heard

    # --- what it says -----------------------------------------------------------------------------------------------

    async def respond(self, request: RealtimeRequest) -> AsyncGenerator[RealtimeChunk, None]:
        asked = 0
        while True:
            reply, asked = await self._ask(request), asked + 1
            try:
                while (piece := await self._next(reply)).chunk is not None:
                    reply.hand_on(piece)
                    yield piece.chunk
            finally:
                self._leave(reply)
            if piece.error is None:
                return
            if not reply.lost or reply.begun or asked == ATTEMPTS:
                raise piece.error

    def truncate(self, response: str, *, seconds: float, text: str) -> None:
        reply = self._reply
        if reply is not None and reply.key == response and not reply.settled.is_set():
            reply.cut = (seconds, text)
        else:
            self._send(self._memory.truncate(response, seconds=seconds, text=text))

    # --- what it is told --------------------------------------------------------------------------------------------

    def add(self, item: ChatItem) -> None:
        self._send(self._memory.add(item))

    def update(
        self,
        *,
        instructions: str | None = None,
        tools: Sequence[ToolSchema] | None = None,
        chat_ctx: ChatContext | None = None,
    ) -> None:
        changed: Outgoing = {"type": "realtime"}
        if instructions is not None:
            self._instructions = changed["instructions"] = instructions
        if tools is not None:
            self._tools = tuple(tools)
            changed["tools"] = wire.functions(tools)
        if len(changed) > 1:
            self._send([{"type": "session.update", "session": changed}])
        if chat_ctx is not None:
            self._hearing.forget()
            if self._reply is not None:
                self._reply.forgotten = True
            self._send(self._memory.replace(chat_ctx))

    async def aclose(self) -> None:
        self._closed = True
        self._hearing.close()
        self._linking.cancel()
        await asyncio.gather(self._linking, return_exceptions=True)
        if self._reply is not None:
            self._reply.end(ProviderError("the conversation was closed", provider=NAME))
            self._leave(self._reply)
        self._emit(None)

    # --- from the connection ----------------------------------------------------------------------------------------

    def opened(self) -> None:
        """Tell the server who it is, and all that it has to know."""
        steps: list[Outgoing | Part] = [*self._memory.retell(), *self._hearing.unheard()]
        sound = any(isinstance(step, Part) for step in steps)
        detects = self._hearing.detects
        self._send([self._settings(detect_speech=detects and not sound)])
        for step in steps:
            if isinstance(step, Part):
                self._hearing.hear_again(step)
            else:
                self._send([step])
        if detects and sound:
            self._send([self._settings(detect_speech=True)])
        self._hearing.opened()

    def received(self, event: wire.ServerEvent) -> None:
        match event:
            case wire.VoiceStarted():
                self._hearing.voice_started(event)
            case wire.VoiceStopped():
                self._hearing.voice_stopped(event)
            case wire.Committed():
                self._send(self._hearing.committed(event))
            case wire.TranscriptDelta():
                self._hearing.transcribing(event)
            case wire.TranscriptDone():
                self._hearing.transcribed(event)
            case wire.TranscriptFailed():
                self._hearing.not_transcribed(event, failure_of(event.error))
            case wire.ErrorEvent():
                self._refused(event.error)
            case wire.ResponseCreated() | wire.ResponseDone():
                self._response(event)
            case wire.ItemStarted() | wire.ItemDone() | wire.TextDelta() | wire.AudioDelta():
                self._output(event)

    def lost(self, error: ProviderError) -> None:
        self._hearing.lost()
        self._foreign.clear()
        reply = self._reply
        if reply is not None and not reply.over:
            reply.lost = True
            reply.end(error)
            reply.settle()  # the next connection is told what is left
        self._emit(error)

    # --- responses --------------------------------------------------------------------------------------------------

    async def _ask(self, request: RealtimeRequest) -> Reply:
        if self._reply is not None:
            await self._reply.settled.wait()
        if self._closed:
            raise ProviderError("the conversation was closed", provider=NAME)
        await self._link.wait_open(self._options.patience)
        reply = self._reply = Reply(request.id, self._memory)
        asked = self._asked(request) | {"metadata": {TAG: request.id}}
        reply.event_id = self._send([{"type": "response.create", "response": asked}])
        return reply

    def _asked(self, request: RealtimeRequest) -> Outgoing:
        asked: Outgoing = {}
        instructions = request.instructions
        if request.chat_ctx is not None:
            systems = [item.text for item in request.chat_ctx.messages() if item.role == "system"]
            instructions = "\n\n".join(systems) if instructions is None and systems else instructions
            asked["input"] = [
                wire.item(item)
                for item in request.chat_ctx
                if not isinstance(item, Message) or (item.text and item.role != "system")
            ]
        if instructions is not None:
            asked["instructions"] = instructions
        if request.tools is not None:
            asked["tools"] = wire.functions(request.tools)
        if request.tool_choice != "auto":
            asked["tool_choice"] = request.tool_choice
        return asked

    async def _next(self, reply: Reply) -> Piece:
        """The next piece of a response. A server that gives no sign of it is given up."""
        try:
            async with asyncio.timeout(self._options.patience):
                return await reply.pieces.get()
        except TimeoutError:
            self._link.drop("has stopped answering")
            error = ProviderError("nothing came of the response", provider=NAME, retryable=True)
            return Piece(error=error)

    def _leave(self, reply: Reply) -> None:
        """Nobody reads it any more: what is still being made of it is stopped."""
        reply.left = True
        if not reply.over:
            self._send([{"type": "response.cancel"} | ({"response_id": reply.id} if reply.id else {})])
            reply.timer = asyncio.get_running_loop().call_later(STOPPING, self._link.drop, "does not stop answering")
        self._send(reply.settle())

    def _response(self, event: wire.ResponseCreated | wire.ResponseDone) -> None:
        response, reply = event.response, self._reply
        if isinstance(event, wire.ResponseCreated):
            tag = (response.metadata or {}).get(TAG)
            if reply is not None and not reply.over and not reply.id and tag in (None, reply.key):
                reply.id = response.id
            else:
                log.warning("the model answered without being asked", provider=NAME)
                self._foreign.add(response.id)
                self._send([{"type": "response.cancel", "response_id": response.id}])
        elif response.id in self._foreign:
            self._foreign.discard(response.id)
            self._send({"type": "conversation.item.delete", "item_id": item.id} for item in response.output)
        elif reply is not None and not reply.over and reply.id in ("", response.id):
            reply.done(response)
            self._send(reply.settle())

    def _output(self, event: wire.ItemStarted | wire.ItemDone | wire.TextDelta | wire.AudioDelta) -> None:
        reply = self._reply
        if reply is None or reply.over or event.response_id in self._foreign:
            return
        match event:
            case wire.ItemStarted():
                reply.started(event.item)
            case wire.ItemDone():
                reply.called(event.item)
            case wire.TextDelta():
                reply.worded(event)
            case wire.AudioDelta():
                reply.sounded(event)

    def _refused(self, fault: wire.Fault) -> None:
        """The server could not do something that it was asked."""
        reply, error = self._reply, failure_of(fault)
        waiting = reply is not None and not reply.over and not reply.id
        if reply is not None and waiting and fault.event_id in (None, reply.event_id):
            reply.end(error)
            self._send(reply.settle())
        elif fault.event_id is not None and self._hearing.refused(fault.event_id):
            self._emit(error)
        elif fault.code == "response_cancel_not_active":
            log.debug("the response was over already", provider=NAME)
        else:
            log.warning("request refused", provider=NAME, code=fault.code, error=redact(fault.message or ""))

    # --- pieces -----------------------------------------------------------------------------------------------------

    def _settings(self, *, detect_speech: bool) -> Outgoing:
        told = wire.audio_settings(self._options, detect_speech=detect_speech)
        known: dict[str, Any] = {"instructions": self._instructions, "tools": wire.functions(self._tools)}
        return {"type": "session.update", "session": known | told}

    def _send(self, events: Iterable[Outgoing]) -> str:
        """Say this to the server, if it is there; the name of the last."""
        named: list[Outgoing] = []
        for event in events:
            self._events += 1
            named.append({"event_id": f"event_{self._events}"} | event)
        self._link.send(named)
        return f"event_{self._events}"

    def _emit(self, heard: RealtimeHeard | ProviderError | None) -> None:
        self._heard.put_nowait(heard)

    def _unlinked(self, linking: asyncio.Task[None]) -> None:
        """The task that keeps the connection is over: closed, or by a mistake of ours."""
        if linking.cancelled() or (failure := linking.exception()) is None:
            return
        error = ProviderError(f"the connection failed: {type(failure).__name__}", provider=NAME)
        log.error("the connection's task failed", provider=NAME, exc_info=failure)
        self.lost(error)
