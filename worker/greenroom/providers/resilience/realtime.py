"""A realtime model whose place others take when it fails, with its memory."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing

from greenroom.audio import AudioFrame
from greenroom.dialog.history import ChatContext, ChatItem
from greenroom.errors import ProviderError
from greenroom.providers.llm import TextDelta, ToolSchema, Usage
from greenroom.providers.plugin import PluginError
from greenroom.providers.realtime import (
    RealtimeChunk,
    RealtimeHeard,
    RealtimeModel,
    RealtimeRequest,
    RealtimeSession,
    SpeechStarted,
    SpeechStopped,
)
from greenroom.providers.resilience.chain import Candidate, Chain, Resilient
from greenroom.providers.resilience.memory import Memory
from greenroom.providers.resilience.rules import fault_of
from greenroom.providers.resilience.sound import Ear, Sound
from greenroom.providers.resilience.supervision import Supervision
from greenroom.providers.stt import Transcript
from greenroom.providers.trials import try_realtime

__all__ = ["ResilientRealtime"]


class ResilientRealtime(Resilient[RealtimeModel], RealtimeModel):
    """Who takes the place is told the conversation so far, and the sound of what no words have come for.

    A model that has taken the place keeps it for the rest of the conversation, unless it fails itself: memories are
    not moved for nothing. Once words were used a response is not begun again.
    """

    def __init__(self, candidates: Sequence[Candidate[RealtimeModel]]) -> None:
        self.chain = Chain("realtime", candidates, attempt=try_realtime)
        first = self.chain.first
        self.sample_rate, self.speaks, self.transcribes = first.sample_rate, first.speaks, first.transcribes
        for candidate in candidates:
            other = candidate.provider
            if (other.speaks, other.transcribes) != (self.speaks, self.transcribes):
                raise PluginError(
                    f"`{candidate.name}` does not speak or transcribe as the first model does; "
                    "expected one that can stand in for it",
                    path=("plugin",),
                )

    def session(self, *, detect_speech: bool) -> RealtimeSession:
        return _Session(self.chain, self.sample_rate, detect_speech=detect_speech)


class _Session(RealtimeSession):
    """One conversation, with whichever model holds it now."""

    def __init__(self, chain: Chain[RealtimeModel], sample_rate: int, *, detect_speech: bool) -> None:
        self._chain = chain
        self._sample_rate = sample_rate
        self._detect_speech = detect_speech
        self._memory = Memory()
        self._sound = Sound()
        self._model: int
        self._session: RealtimeSession
        self._ear: Ear
        self._open(chain.order()[0])
        self._answering = asyncio.Lock()
        self._ready: deque[RealtimeHeard | Exception] = deque()
        self._wake = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None
        self._mending: asyncio.TimerHandle | None = None
        self._leaving: set[asyncio.Task[None]] = set()
        self._reading = False
        self._closed = False

    # --- what it hears ------------------------------------------------------------------------------------------------

    def push(self, frame: AudioFrame) -> None:
        self._sound.push(frame)
        self._ear.push(frame)

    def start_of_speech(self, utterance: str, *, at: float) -> None:
        self._sound.began(utterance, at)
        self._session.start_of_speech(utterance, at=at)

    def end_of_speech(self, utterance: str) -> None:
        self._memory.utterance(utterance)
        self._sound.ended(utterance)
        self._session.end_of_speech(utterance)

    async def __aiter__(self) -> AsyncIterator[RealtimeHeard]:
        self._reading = True
        self._read()
        try:
            while not self._closed:
                while self._ready:
                    heard = self._ready.popleft()
                    if isinstance(heard, Exception):
                        raise heard
                    yield heard
                if self._closed:
                    break
                self._wake.clear()
                await self._wake.wait()
        finally:
            self._reading = False
            self._stop_reading()

    async def aclose(self) -> None:
        self._closed = True
        self._wake.set()
        self._mended()
        self._stop_reading()
        await self._session.aclose()
        await asyncio.gather(*self._leaving, return_exceptions=True)

    # --- what it says -------------------------------------------------------------------------------------------------

    async def respond(self, request: RealtimeRequest) -> AsyncGenerator[RealtimeChunk, None]:
        answer = Supervision[RealtimeModel, RealtimeChunk](
            self._chain,
            lambda number, model: _Response(self, model, request, anew=number > 1),
            empty=True,
            order=self._order(),
        )
        try:
            async with aclosing(answer.pieces()) as chunks:
                async for chunk in chunks:
                    self._mended()
                    self._memory.said(request.id, chunk)
                    yield chunk
        finally:
            self._memory.response_over(request.id)

    async def answer(self, model: int, request: RealtimeRequest, *, anew: bool) -> AsyncGenerator[RealtimeChunk, None]:
        """One model's response. ``anew``: over a connection of its own, for what has failed on one may fail there
        again; the conversation is told to it first, as it is where another model had it."""
        async with self._answering:  # a response that was given up is closed before the next one begins
            if anew or model != self._model:
                self._move(model)
            async with aclosing(self._session.respond(request)) as chunks:
                async for chunk in chunks:
                    yield chunk

    def truncate(self, response: str, *, seconds: float, text: str) -> None:
        self._memory.truncate(response, text)
        self._session.truncate(response, seconds=seconds, text=text)

    # --- what it is told ----------------------------------------------------------------------------------------------

    def add(self, item: ChatItem) -> None:
        self._memory.add(item)
        self._session.add(item)

    def update(
        self,
        *,
        instructions: str | None = None,
        tools: Sequence[ToolSchema] | None = None,
        chat_ctx: ChatContext | None = None,
    ) -> None:
        self._memory.update(instructions, tools, chat_ctx)
        self._session.update(instructions=instructions, tools=tools, chat_ctx=chat_ctx)

    # --- who holds it -------------------------------------------------------------------------------------------------

    def _order(self) -> tuple[int, ...]:
        """Whom to ask: first the one that has the memory, as long as it is well."""
        order = self._chain.order()
        if not self._chain.well(self._model):
            return order
        return (self._model, *(model for model in order if model != self._model))

    def _move(self, model: int) -> None:
        leaving = asyncio.get_running_loop().create_task(self._session.aclose(), name="end of a realtime session")
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)
        self._mended()
        self._stop_reading()
        self._open(model)
        self._session.update(instructions=self._memory.instructions, tools=self._memory.tools)
        self._session.update(chat_ctx=self._memory.context())
        self._ear.retell(self._sound)
        self._read()

    def _open(self, model: int) -> None:
        provider = self._chain.provider(model)
        self._model = model
        self._session = provider.session(detect_speech=self._detect_speech)
        self._ear = Ear(self._session, rate=self._sample_rate, its_rate=provider.sample_rate)

    def _read(self) -> None:
        if self._reading and not self._closed and (self._reader is None or self._reader.done()):
            self._reader = asyncio.get_running_loop().create_task(self._listen(self._session), name="realtime ears")

    def _stop_reading(self) -> None:
        if self._reader is not None:
            self._reader.cancel()
            self._leaving.add(self._reader)
            self._reader.add_done_callback(self._leaving.discard)
        self._reader = None

    async def _listen(self, session: RealtimeSession) -> None:
        try:
            async for heard in session:
                if session is not self._session:
                    return
                self._mended()
                self._note(heard)
                self._put(heard)
        except ProviderError as error:
            self._reader = None
            self._failed(error)
        except Exception as error:  # noqa: BLE001  # a mistake in somebody's code, for the session to tell
            self._put(error)

    def _failed(self, error: ProviderError) -> None:
        """It does not hear. A failure that would come again is left for another model at once; else it may mend
        itself, for as long as a response may take to begin."""
        others = self._others()
        if others and not error.retryable:
            self._chain.pass_on(self._model, fault_of(error), error, to=others[0])
            self._move(others[0])
            return
        if others and self._mending is None:
            patience = self._chain.rules[self._model].timeout
            self._mending = asyncio.get_running_loop().call_later(patience, self._not_mended, self._model, error)
        self._put(error)

    def _not_mended(self, model: int, error: ProviderError) -> None:
        self._mending = None
        others = self._others()
        if others and model == self._model and not self._closed:
            self._chain.pass_on(model, "error", error, to=others[0])
            self._move(others[0])

    def _mended(self) -> None:
        if self._mending is not None:
            self._mending.cancel()
        self._mending = None

    def _others(self) -> list[int]:
        return [model for model in self._chain.order() if model != self._model and self._chain.well(model)]

    def _note(self, heard: RealtimeHeard) -> None:
        match heard:
            case SpeechStarted(utterance, at):
                self._sound.began(utterance, at)
            case SpeechStopped(utterance):
                self._memory.utterance(utterance)
                self._sound.ended(utterance)
            case Transcript() if heard.final:
                self._memory.heard(self._sound.settled(heard.utterance) or heard.utterance, heard.text)

    def _put(self, heard: RealtimeHeard | Exception) -> None:
        self._ready.append(heard)
        self._wake.set()


class _Response:
    """One attempt."""

    def __init__(self, session: _Session, model: int, request: RealtimeRequest, *, anew: bool) -> None:
        self._session = session
        self._anew = anew
        self._model = model
        self._request = request
        self._came = False

    def open(self) -> AsyncGenerator[RealtimeChunk, None]:
        return self._session.answer(self._model, self._request, anew=self._anew)

    def judge(self, piece: RealtimeChunk) -> bool:
        match piece:
            case TextDelta(text):
                came = bool(text)
            case AudioFrame():
                came = len(piece.pcm) > 0
            case _:
                came = not isinstance(piece, Usage)
        self._came = self._came or came
        return came

    def lacking(self) -> bool:
        return not self._came
