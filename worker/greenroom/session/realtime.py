"""A realtime model in a session: its memory is kept true to the history."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from greenroom.dialog.commands import Announce, Command, Commit
from greenroom.dialog.events import Event, HookFinished, Played
from greenroom.dialog.history import ChatContext, ChatItem, FunctionCall, FunctionCallOutput, Message
from greenroom.dialog.notices import EarlyReplyDiscarded, SpeechEnded, TurnCommitted
from greenroom.providers.llm import ToolCall, ToolSchema
from greenroom.providers.realtime import RealtimeChunk, RealtimeModel, RealtimeRequest
from greenroom.session.agent import Agent
from greenroom.session.knowledge import INSTRUCTIONS
from greenroom.session.tools import FunctionTool

__all__ = ["Mirror", "word_for_word"]


EARLY = "early"
"""The id of words that were heard and are not in the history yet."""


def word_for_word(text: str) -> str:
    """The instructions for a model that is to speak words which are given, where there is no other voice."""
    return f"Say exactly these words, and nothing else: {text}"


class Mirror:
    """A realtime model's conversation. It is told by the session's events and commands what became of what it said.

    ``_speeches``: the responses, by speech, that may hold words which nobody has heard.

    1. What the model neither heard nor said joins its memory before it is asked again: typed words, the results of
       tools, words that another voice spoke, what a hook added.
    2. What it said and the user did not hear is taken back.
    3. Instructions and tools are told when they have changed; the whole context when the agent has, or when the agent's
       was replaced.
    4. It is asked one thing at a time.
    """

    def __init__(self, model: RealtimeModel, *, detect_speech: bool, sample_rate: int) -> None:
        self.model = model
        self.detects = detect_speech
        self.session = model.session(detect_speech=detect_speech)
        self._sample_rate = sample_rate
        self._asking = asyncio.Lock()
        self._left = asyncio.Event()
        self._agent: Agent | None = None
        self._told: tuple[str, tuple[ToolSchema, ...], int] = ("", (), -1)
        self._known: set[str] = {EARLY}
        self._speeches: dict[str, set[int]] = {}
        self._typed: set[str] = set()
        self._typing = ""
        self._same: dict[str, str] = {}
        self._open = ""
        self._cut: tuple[float, str] | None = None

    async def run(self) -> None:
        """Keep it for as long as the session lives, or until ``leave``."""
        try:
            await self._left.wait()
        finally:
            await self.session.aclose()

    def leave(self) -> None:
        """There is another in its place."""
        self._left.set()

    async def respond(
        self, request: RealtimeRequest, *, agent: Agent, tools: Sequence[FunctionTool], context: ChatContext
    ) -> AsyncGenerator[RealtimeChunk, None]:
        """Ask for one step of a speech. ``context``: what a language model would be told; ``tools``: of the agent."""
        speech, _, step = request.id.rpartition(".")
        async with self._asking:
            self.update(agent, tools)
            if request.chat_ctx is None:
                for item in context:
                    self._tell(item)
            self._speeches.setdefault(speech, set()).add(int(step))
            self._known.add(request.id)
            self._open = request.id
            try:
                async with aclosing(self.session.respond(request)) as chunks:
                    async for chunk in chunks:
                        if isinstance(chunk, ToolCall):
                            self._known.add(f"call {chunk.call_id}")
                        yield chunk
            finally:
                self._open = ""
                if self._cut is not None:
                    (seconds, text), self._cut = self._cut, None
                    self.session.truncate(request.id, seconds=seconds, text=text)

    # --- what became of it ------------------------------------------------------------------------------------------

    def watch(self, what: Event | Command) -> None:
        """An event on its way to the dialog, or a command that it gave."""
        if isinstance(what, HookFinished):
            self._typing = what.turn if what.turn in self._typed else ""
        elif isinstance(what, Played):
            self._played(what)
        elif isinstance(what, Commit):
            self._committed(what)
        elif isinstance(what, Announce):
            notice = what.notice
            if isinstance(notice, TurnCommitted):
                (self._typed if notice.typed else self._known).add(notice.turn)
            elif isinstance(notice, SpeechEnded | EarlyReplyDiscarded):
                self._forget(notice.speech)

    def _played(self, event: Played) -> None:
        responses = self._speeches.get(event.speech, set())
        if event.what not in ("finished", "stopped") or event.step not in responses:
            return
        responses.discard(event.step)
        if event.what == "stopped":
            seconds = event.samples / self._sample_rate
            self._truncate(f"{event.speech}.{event.step}", seconds=seconds, text=event.text.strip())

    def _committed(self, command: Commit) -> None:
        item = command.item
        if not isinstance(item, Message):
            return
        if item.role == "assistant" and command.speech in self._speeches:
            self._known.add(item.id)
        elif item.role == "user" and not command.speech:
            if self._typing:
                self._same[item.id] = self._typing  # a hook's context has it under its turn's id
            else:
                self._known.add(item.id)  # it was heard
            self._typing = ""

    def _forget(self, speech: str) -> None:
        """A speech is over: what was made of it and never played was not heard."""
        for step in sorted(self._speeches.pop(speech, ())):
            self._truncate(f"{speech}.{step}", seconds=0.0, text="")

    def _truncate(self, response: str, *, seconds: float, text: str) -> None:
        """A response that is still being made is stopped first: that takes it a moment."""
        if response == self._open:
            self._cut = (seconds, text)
        else:
            self.session.truncate(response, seconds=seconds, text=text)

    # --- what it is told --------------------------------------------------------------------------------------------

    def update(self, agent: Agent, tools: Sequence[FunctionTool]) -> None:
        """Tell what has changed since it was told last."""
        schemas = tuple(tool.schema() for tool in tools)
        told = (agent.instructions, schemas, agent.known.revision)
        if agent is self._agent and told == self._told:
            return
        replaced = agent is not self._agent or told[2] != self._told[2]
        self._agent, self._told = agent, told
        context = ChatContext(agent.known.items) if replaced else None
        if context is not None:
            self._known.update(_key(item) for item in context)
        self.session.update(instructions=agent.instructions, tools=schemas, chat_ctx=context)

    def _tell(self, item: ChatItem) -> None:
        key = self._same.get(item.id) or _key(item)
        if item.id != INSTRUCTIONS and key not in self._known:
            self._known.add(key)
            self.session.add(item)


def _key(item: ChatItem) -> str:
    """A call and its result have other ids before they are in the history than there."""
    if isinstance(item, FunctionCall):
        return f"call {item.call_id}"
    if isinstance(item, FunctionCallOutput):
        return f"output {item.call_id}"
    return item.id
