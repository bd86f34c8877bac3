"""Models that fail as the test says."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

from greenroom.providers import LLM, TTS, ChatContext, SynthesizedAudio, TextDelta
from greenroom.providers.resilience.chain import Candidate, Chain
from greenroom.providers.resilience.rules import Hedge, Incident, Rules

__all__ = ["QUICK", "Told", "answer", "candidates", "given", "question", "spoken"]

QUICK = Rules(attempts=2, delay=0.2, max_delay=1.0, timeout=2.0, stall=1.0)


class Told:
    """What a chain tells."""

    def __init__(self, chain: Chain[Any]) -> None:
        self.incidents: list[Incident] = []
        self.hedges: list[Hedge] = []
        chain.watch(self._told)

    def _told(self, what: Incident | Hedge) -> None:
        if isinstance(what, Hedge):
            self.hedges.append(what)
        else:
            self.incidents.append(what)

    def actions(self) -> list[tuple[str, str, str, str]]:
        """Who failed, with what, what was done, and who came in its place."""
        return [(one.provider, one.fault, one.action, one.to) for one in self.incidents]


def candidates(*models: Any, rules: Rules = QUICK) -> list[Candidate[Any]]:
    """Named ``a``, ``b``, ``c``."""
    return [Candidate(name, model, rules) for name, model in zip("abc", models, strict=False)]


def question(text: str = "Hello?") -> ChatContext:
    context = ChatContext()
    context.add_message(role="user", content=text)
    return context


async def answer(llm: LLM) -> str:
    """All of one answer."""
    async with aclosing(llm.chat(question())) as chunks:
        return "".join([chunk.text async for chunk in chunks if isinstance(chunk, TextDelta)])


async def given(*texts: str) -> AsyncIterator[str]:
    for text in texts:
        yield text


async def spoken(tts: TTS, texts: Sequence[str]) -> list[SynthesizedAudio]:
    async with aclosing(tts.synthesize(given(*texts))) as pieces:
        return [piece async for piece in pieces]
