"""A whole session in memory: scripted user, scripted models, a loudspeaker that remembers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, get_args

from greenroom.dialog.events import Event
from greenroom.providers.turn import TurnDetector
from greenroom.session.agent import Agent
from greenroom.session.hooks import EventName
from greenroom.session.resume import Continuation
from greenroom.session.session import AgentSession, SessionOptions
from greenroom.session.sources import ToolSource
from greenroom.testing.loopback import LoopbackInput, LoopbackOutput
from greenroom.testing.providers import ScriptedLLM, ScriptedSTT, ScriptedTTS, ScriptedVAD

__all__ = ["Scene", "scene"]


@dataclass
class Scene:
    """The parts of one conversation, and all that it announced."""

    session: AgentSession
    user: LoopbackInput
    out: LoopbackOutput
    stt: ScriptedSTT
    llm: ScriptedLLM
    tts: ScriptedTTS
    journal: list[tuple[float, Event]]
    events: list[tuple[float, str, Any]] = field(default_factory=list)

    def times(self, name: str, **fields: Any) -> list[float]:
        """When events of this name with these fields came."""
        return [
            when
            for when, event_name, event in self.events
            if event_name == name and all(getattr(event, key) == value for key, value in fields.items())
        ]

    def said(self) -> list[tuple[str, str]]:
        """The messages of the history."""
        return [(message.role, message.text) for message in self.session.history.messages()]

    async def until(self, when: float) -> None:
        await asyncio.sleep(when - asyncio.get_running_loop().time())


@asynccontextmanager
async def scene(
    *,
    agent: Agent | None = None,
    heard: Sequence[Any] = (),
    answers: Sequence[Any] = (),
    tts: ScriptedTTS | None = None,
    options: SessionOptions | None = None,
    turn_detection: TurnDetector | None = None,
    mcp_servers: Sequence[ToolSource] = (),
    ready: bool = True,
    resume: Continuation | None = None,
    prepare: Callable[[AgentSession], Callable[[Event, float], None]] | None = None,
) -> AsyncIterator[Scene]:
    """Start a session; at the end close it. ``prepare``: what it returns sees each event, beside the journal."""
    journal: list[tuple[float, Event]] = []
    stt, llm = ScriptedSTT(heard), ScriptedLLM(answers)
    voice = tts or ScriptedTTS()
    session = AgentSession(
        vad=ScriptedVAD(),
        stt=stt,
        llm=llm,
        tts=voice,
        options=options,
        turn_detection=turn_detection,
        mcp_servers=mcp_servers,
        journal=lambda event, now: observe(event, now),
    )
    prepared = prepare(session) if prepare is not None else None

    def observe(event: Event, now: float) -> None:
        journal.append((now, event))
        if prepared is not None:
            prepared(event, now)

    parts = Scene(session, LoopbackInput(), LoopbackOutput(ready=ready), stt, llm, voice, journal)
    loop = asyncio.get_running_loop()

    def note(name: str, event: object) -> None:
        parts.events.append((loop.time(), name, event))

    for name in get_args(EventName):
        session.on(name, partial(note, name))
    who = agent or Agent(instructions="Be brief.")
    await session.start(who, audio_in=parts.user, audio_out=parts.out, resume=resume)
    try:
        yield parts
    finally:
        await session.aclose("test over")
        parts.user.end()
