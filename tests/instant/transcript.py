"""A second look at the words, by a model that knows nothing of pieces and correlation."""

from __future__ import annotations

import asyncio
import re
from difflib import SequenceMatcher

from greenroom.audio import AudioFrame, Pcm
from greenroom.providers.registry import build
from greenroom.providers.stt import BatchSTT
from greenroom.settings import ProviderSettings
from tests.instant.tap import RATE

__all__ = ["Listener"]


class Listener:
    """Whisper reads the source and what was heard of it. Words without a sentence are hard for it, the source's too:
    only the difference between the two says something."""

    def __init__(self, source: Pcm) -> None:
        self._source = source
        # Single words are no sentences: it is less sure of them than of anything that it would be asked in a call.
        stt = build("stt", ProviderSettings("whisper", {"model": "tiny.en", "no_speech": 1.0, "min_logprob": -5.0}))
        assert isinstance(stt, BatchSTT)
        self._stt = stt

    async def compare(self, heard: Pcm, *, begins: float) -> tuple[int, int]:
        """How many words of the source's transcript are in that of what was heard, in order, and how many there are.

        ``begins``: the source time of the first sample that could have been heard.
        """
        await asyncio.to_thread(self._stt.load)
        first = max(0, round(begins * RATE))
        source = await self._words(self._source[first : first + len(heard)])
        there = await self._words(heard)
        blocks = SequenceMatcher(None, source, there, autojunk=False).get_matching_blocks()
        return sum(block.size for block in blocks), len(source)

    async def _words(self, pcm: Pcm) -> list[str]:
        if len(pcm) == 0:
            return []
        heard = await self._stt.recognize(AudioFrame(pcm, RATE))
        return re.findall(r"[a-z0-9']+", heard.text.lower())
