"""A language model that asks others when it fails, and again before it gives up."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace

from greenroom.dialog.history import ChatContext
from greenroom.providers.llm import LLM, LLMChunk, TextDelta, ToolChoice, ToolSchema, Usage
from greenroom.providers.resilience.chain import Candidate, Chain, Resilient
from greenroom.providers.resilience.supervision import Supervision
from greenroom.providers.trials import try_llm

__all__ = ["ResilientLLM"]


class ResilientLLM(Resilient[LLM], LLM):
    """Answers begin with whoever answers. Once words were used nothing is asked again: the answer fails there.

    An answer without words or calls is asked for again, and then stands: a model may have nothing to say.
    ``hedge_after``: seconds without a word after which another request runs beside the first; who is first is used.
    """

    def __init__(self, candidates: Sequence[Candidate[LLM]], *, hedge_after: float | None = None) -> None:
        self.chain = Chain("llm", candidates, attempt=try_llm)
        self._hedge_after = hedge_after

    async def chat(
        self, context: ChatContext, *, tools: Sequence[ToolSchema] = (), tool_choice: ToolChoice = "auto"
    ) -> AsyncGenerator[LLMChunk, None]:
        def begin(number: int, model: int) -> _Answer:
            llm = self.chain.provider(model)
            return _Answer(lambda: llm.chat(context, tools=tools, tool_choice=tool_choice))

        request = Supervision[LLM, LLMChunk](self.chain, begin, hedge_after=self._hedge_after, empty=True)
        tokens = 0
        try:
            async with aclosing(request.pieces()) as chunks:
                async for chunk in chunks:
                    if isinstance(chunk, Usage):
                        tokens = chunk.prompt_tokens
                    yield chunk
        finally:
            if request.hedge is not None:
                self.chain.hedged(replace(request.hedge, tokens=tokens))


class _Answer:
    """Of one attempt."""

    def __init__(self, ask: Callable[[], AsyncGenerator[LLMChunk, None]]) -> None:
        self._ask = ask
        self._came = False

    def open(self) -> AsyncGenerator[LLMChunk, None]:
        return self._ask()

    def judge(self, piece: LLMChunk) -> bool:
        came = not isinstance(piece, Usage) and not (isinstance(piece, TextDelta) and not piece.text)
        self._came = self._came or came
        return came

    def lacking(self) -> bool:
        return not self._came
