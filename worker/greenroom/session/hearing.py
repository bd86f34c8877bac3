"""The session's ear: audio in, what the user did and said out.

Every frame goes to the voice activity model and to the transcriber. A gap in the audio (the microphone was muted, the
caller was away) ends an utterance that was open.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import numpy as np
import structlog

from greenroom.audio import AudioFrame, Pcm, Resampler
from greenroom.dialog.events import Event, Transcribed, UserStarted, UserStopped
from greenroom.errors import ProviderError
from greenroom.providers.stt import STT, STTStream
from greenroom.providers.vad import VAD
from greenroom.session.media import AudioInput
from greenroom.session.segments import SegmentRules, VoiceSegmenter, VoiceStarted, VoiceStopped

__all__ = ["Hearing"]

log = structlog.get_logger(__name__)

GAP = 0.2
"""Missing audio that ends an utterance. Seconds."""
SILENCE_CHECK = 0.5
"""Without a frame for this long while a voice was open, the utterance is ended."""


class Hearing:
    """Listens to one participant until it is closed. ``feed`` is given dialog events, ``failed`` providers' errors."""

    def __init__(
        self,
        vad: VAD,
        stt: STT | None,
        *,
        rules: SegmentRules,
        padding: float,
        feed: Callable[[Event], None],
        failed: Callable[[BaseException, str], None],
    ) -> None:
        self._vad = vad
        self._stt = stt
        self._padding = padding
        self._feed = feed
        self._failed = failed
        self._segmenter = VoiceSegmenter(rules)
        self._voice = vad.stream()
        self._words: STTStream | None = stt.stream() if stt is not None else None
        self._resampler = Resampler(vad.sample_rate, stt.sample_rate) if stt is not None else None
        self._utterances = 0
        self._open = ""
        self._pending: Pcm = np.zeros(0, dtype=np.int16)
        self._pending_at = 0.0
        self._last_frame = 0.0

    async def run(self, audio: AudioInput) -> None:
        """Listen until the input ends or the task is cancelled."""
        reader = asyncio.create_task(self._read_words()) if self._words is not None else None
        watchdog = asyncio.create_task(self._watch_silence())
        try:
            async for frame in audio.frames(self._vad.sample_rate):
                self._last_frame = asyncio.get_running_loop().time()
                self._hear(frame)
        finally:
            self._cut()
            tasks = [task for task in (reader, watchdog) if task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if self._words is not None:
                await self._words.aclose()

    async def _watch_silence(self) -> None:
        """End an open utterance when frames stop coming: a muted microphone sends none."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SILENCE_CHECK)
            if self._open and loop.time() - self._last_frame >= SILENCE_CHECK:
                self._cut()

    def _hear(self, frame: AudioFrame) -> None:
        rate = self._vad.sample_rate
        expected = self._pending_at + len(self._pending) / rate
        if self._pending_at == 0.0 or abs(frame.at - expected) > GAP:
            if self._pending_at:
                self._cut()
                self._voice.reset()
            self._pending, self._pending_at = frame.pcm, frame.at
        else:
            self._pending = np.concatenate((self._pending, frame.pcm)) if len(self._pending) else frame.pcm
            # Follow the sender's clock without a jump: the frame's own time is the better one.
            self._pending_at = frame.at + len(frame.pcm) / rate - len(self._pending) / rate
        self._pass_on(frame)
        window, seconds = self._vad.window, self._vad.window / rate
        while len(self._pending) >= window:
            probability = self._voice.probability(self._pending[:window])
            happened = self._segmenter.push(probability, at=self._pending_at, seconds=seconds)
            self._pending, self._pending_at = self._pending[window:], self._pending_at + seconds
            if isinstance(happened, VoiceStarted):
                self._begin(happened)
            elif isinstance(happened, VoiceStopped):
                self._end(happened)

    def _pass_on(self, frame: AudioFrame) -> None:
        if self._words is None or self._resampler is None:
            return
        pcm = self._resampler.push(frame.pcm)
        if len(pcm):
            self._words.push(AudioFrame(pcm, self._resampler.target_rate, frame.at))

    def _begin(self, voice: VoiceStarted) -> None:
        self._utterances += 1
        self._open = f"utterance_{self._utterances}"
        if self._words is not None:
            self._words.start_of_speech(self._open, at=voice.at - self._padding)
        self._feed(UserStarted(self._open, voice.at))

    def _end(self, voice: VoiceStopped) -> None:
        utterance, self._open = self._open, ""
        if self._words is not None:
            self._words.end_of_speech(utterance)
        self._feed(UserStopped(utterance, voice.at))
        if self._words is None:
            self._feed(Transcribed(utterance, ""))

    def _cut(self) -> None:
        if (stopped := self._segmenter.cut()) is not None:
            self._end(stopped)

    async def _read_words(self) -> None:
        """Hand on transcripts; after a failure read on, a little later each time until words come again."""
        if self._words is None:
            return
        failures = 0
        while True:
            try:
                async for heard in self._words:
                    failures = 0
                    self._feed(Transcribed(heard.utterance, heard.text, heard.final, heard.language, heard.confidence))
                return
            except ProviderError as error:
                failures += 1
                self._failed(error, "stt")
                log.warning("transcriber failed", error=str(error), failures=failures)
                await asyncio.sleep(min(0.1 * 2**failures, 5.0))
