"""Asks the turn detector whether the user has finished, and tells the dialog."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import structlog

from greenroom.audio import AudioFrame, Resampler
from greenroom.dialog.commands import Judge
from greenroom.dialog.events import Event, TurnJudged
from greenroom.dialog.history import ChatContext, Message
from greenroom.errors import ProviderError
from greenroom.providers.turn import Heard, TurnDetector

__all__ = ["TurnJudge"]

log = structlog.get_logger(__name__)

TIMEOUT = 1.0
"""How long a judgement is waited for. Seconds."""


class TurnJudge:
    """One judgement at a time: a new one is asked for when the words have changed, and the old one is void.

    A detector that fails or hangs counts as certain, so that the turn ends as it would without one.
    """

    def __init__(
        self,
        detector: TurnDetector,
        *,
        feed: Callable[[Event], None],
        failed: Callable[[BaseException, str], None],
        spawn: Callable[..., asyncio.Task[None]],
    ) -> None:
        self.detector = detector
        self._feed = feed
        self._failed = failed
        self._spawn = spawn
        self._task: asyncio.Task[None] | None = None

    def ask(self, command: Judge, context: ChatContext, audio: AudioFrame | None) -> None:
        """``context``: the conversation before this turn; ``audio``: the turn's sound, at any rate."""
        if self._task is not None:
            self._task.cancel()
        work: Coroutine[Any, Any, None] = self._judge(command, context, audio)
        self._task = self._spawn(work, name="turn detector")

    async def _judge(self, command: Judge, context: ChatContext, audio: AudioFrame | None) -> None:
        if command.text:
            context.add(Message(command.turn, "user", command.text))
        if audio is not None and audio.sample_rate != self.detector.sample_rate:
            resampler = Resampler(audio.sample_rate, self.detector.sample_rate)
            pcm = np.concatenate((resampler.push(audio.pcm), resampler.flush()))
            audio = AudioFrame(pcm, self.detector.sample_rate, audio.at)
        try:
            async with asyncio.timeout(TIMEOUT):
                probability = await self.detector.probability(Heard(context, command.text, audio))
        except TimeoutError:
            error = ProviderError(f"no answer within {TIMEOUT} s", provider="turn detector", retryable=True)
            probability = self._certain(error)
        except ProviderError as error:
            probability = self._certain(error)
        self._feed(TurnJudged(command.turn, command.serial, probability))

    def _certain(self, error: ProviderError) -> float:
        log.warning("turn detector failed", error=str(error))
        self._failed(error, "turn_detector")
        return 1.0
