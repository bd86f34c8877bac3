"""The session's ear: audio in, what the user did and said out.

Every frame goes to the voice activity model, to the transcriber, and to a realtime model where there is one. A gap in
the audio (the microphone was muted, the caller was away) ends an utterance that was open. Without a voice activity
model the realtime model says where utterances are, or nobody does: then there are words alone.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, Callable
from dataclasses import dataclass

import numpy as np
import structlog

from greenroom.audio import AudioFrame, Pcm, Resampler
from greenroom.dialog.events import Event, Transcribed, UserStarted, UserStopped
from greenroom.errors import ProviderError
from greenroom.providers.realtime import RealtimeSession, SpeechStarted, SpeechStopped
from greenroom.providers.stt import STT, STTStream, Transcript
from greenroom.providers.vad import VAD, VADStream
from greenroom.session.media import AudioInput
from greenroom.session.metrics import Metrics, STTMetrics
from greenroom.session.segments import SegmentRules, VoiceSegmenter, VoiceStarted, VoiceStopped

__all__ = ["Ears", "Hearing"]

log = structlog.get_logger(__name__)

GAP = 0.2
"""Missing audio that ends an utterance. Seconds."""
SILENCE = 0.5
"""Without a frame for this long while a voice was open, the utterance is ended."""
RECENT = 8.0
"""Audio that is kept for who asks for the last of it, once somebody has. Seconds."""
OWED = 16
"""Utterances whose words may be on their way at once, for the measurement of how long they take."""


@dataclass(frozen=True, slots=True)
class Ears:
    """What an agent hears with.

    ``vad``: without one the realtime model's own voice activity counts, and without a realtime model the words of a
    transcriber that segments by itself are all there is. ``stt``: its words are taken, before the realtime model's.
    ``model``: a realtime model's session, with the rate of the audio that it takes.
    """

    vad: VAD | None = None
    stt: STT | None = None
    model: RealtimeSession | None = None
    model_rate: int = 0

    def check(self, *, alone: bool = True) -> None:
        """Raises ``ValueError`` for ears that would never hear anything. ``alone``: without a realtime model."""
        if alone and self.vad is None and self.stt is not None and self.stt.needs_marks:
            raise ValueError(
                f"{self.stt.label} transcribes whole utterances, and there is no vad to find them: add one"
            )

    @property
    def sample_rate(self) -> int:
        """Hz, at which the audio is read."""
        if self.vad is not None:
            return self.vad.sample_rate
        return self.stt.sample_rate if self.stt is not None else self.model_rate


class Hearing:
    """Listens to one participant until it is closed. ``feed`` is given dialog events, ``failed`` providers' errors."""

    def __init__(
        self,
        ears: Ears,
        *,
        rules: SegmentRules,
        padding: float,
        feed: Callable[[Event], None],
        failed: Callable[[BaseException, str], None],
        measured: Callable[[Metrics], None],
    ) -> None:
        self._padding = padding
        self._feed = feed
        self._failed = failed
        self._measured = measured
        self._rate = ears.sample_rate
        self._segmenter = VoiceSegmenter(rules)
        self._vad = ears.vad
        self._voice: VADStream | None = ears.vad.stream() if ears.vad is not None else None
        self._model = ears.model
        self._ears = ears
        self._words: STTStream | None = ears.stt.stream() if ears.stt is not None else None
        self._listeners: list[_Listener] = []
        if ears.stt is not None and self._words is not None:
            self._listeners.append(_Listener(self._words, Resampler(self._rate, ears.stt.sample_rate)))
        if ears.model is not None:
            self._listeners.append(_Listener(ears.model, Resampler(self._rate, ears.model_rate)))
        self._utterances = 0
        self._open = ""
        self._began = 0.0
        self._spoken: dict[str, tuple[float, float]] = {}
        self._heard_until = 0.0
        self._pending: Pcm = np.zeros(0, dtype=np.int16)
        self._pending_at = 0.0
        self._last_frame = 0.0
        self._silence: asyncio.TimerHandle | None = None
        self._recent: _Ring | None = None

    @property
    def _label(self) -> str:
        """Who transcribes, as metrics call it."""
        return self._ears.stt.label if self._ears.stt is not None else type(self._ears.model).__name__

    async def run(self, audio: AudioInput) -> None:
        """Listen until the input ends or the task is cancelled."""
        readers = []
        if self._words is not None:
            readers.append(asyncio.create_task(self._read(self._words, "stt")))
        if self._model is not None:
            readers.append(asyncio.create_task(self._read(self._model, "llm")))
        try:
            async for frame in audio.frames(self._rate):
                self._last_frame = asyncio.get_running_loop().time()
                self._hear(frame)
        finally:
            self._end_open()
            for reader in readers:
                reader.cancel()
            await asyncio.gather(*readers, return_exceptions=True)
            if self._words is not None:
                await self._words.aclose()

    def cut(self) -> None:
        """End the utterance that is open, if one is. A voice that goes on begins the next one, where this ends."""
        self._heard_until = self._pending_at
        self._end_open()
        if self._vad is None and self._words is not None:
            self._words.end_of_speech("")  # whatever it has heard so far is due

    def recent(self, seconds: float = RECENT) -> AudioFrame:
        """The last ``seconds`` of audio, at the rate that it is read at; less, where there is less.

        Audio is kept from the first call on: have it kept early (``keep``) to be given some.
        """
        self.keep(seconds)
        return self._recent.last(seconds) if self._recent is not None else AudioFrame(self._pending[:0], self._rate)

    def keep(self, seconds: float = RECENT) -> None:
        """Keep so much of the audio from now on."""
        if self._recent is None:
            self._recent = _Ring(self._rate, seconds)
        self._recent.seconds = max(self._recent.seconds, seconds)

    # --- audio ------------------------------------------------------------------------------------------------------

    def _hear(self, frame: AudioFrame) -> None:
        expected = self._pending_at + len(self._pending) / self._rate
        if self._pending_at == 0.0 or abs(frame.at - expected) > GAP:
            if self._pending_at:
                self._break_off()
            self._pending, self._pending_at = frame.pcm, frame.at
        else:
            self._pending = np.concatenate((self._pending, frame.pcm)) if len(self._pending) else frame.pcm
            # Follow the sender's clock without a jump: the frame's own time is the better one.
            self._pending_at = frame.at + (len(frame.pcm) - len(self._pending)) / self._rate
        if self._recent is not None:
            self._recent.push(frame)
        for listener in self._listeners:
            listener.push(frame)
        if self._vad is None or self._voice is None:
            self._pending, self._pending_at = self._pending[:0], frame.at + len(frame.pcm) / self._rate
            return
        window, seconds = self._vad.window, self._vad.window / self._rate
        while len(self._pending) >= window:
            heard = self._pending[:window]
            probability = self._voice.probability(heard)
            happened = self._segmenter.push(probability, at=self._pending_at, seconds=seconds, window=heard)
            self._pending, self._pending_at = self._pending[window:], self._pending_at + seconds
            if isinstance(happened, VoiceStarted):
                self._begin(happened)
            elif isinstance(happened, VoiceStopped):
                self._end(happened)

    def _break_off(self) -> None:
        """The audio has a hole here."""
        self._end_open()
        if self._voice is not None:
            self._voice.reset()
        if self._recent is not None:
            self._recent.clear()

    def _end_open(self) -> None:
        """An utterance that is open ends with its last voiced sample."""
        if (stopped := self._segmenter.cut()) is not None:
            self._end(stopped)

    def _begin(self, voice: VoiceStarted) -> None:
        self._utterances += 1
        self._open = f"utterance_{self._utterances}"
        self._began = voice.at
        at = max(voice.at - self._padding, self._heard_until)  # what was cut off is not transcribed twice
        for listener in self._listeners:
            listener.stream.start_of_speech(self._open, at=at)
        self._watch()
        self._feed(UserStarted(self._open, voice.at))

    def _end(self, voice: VoiceStopped) -> None:
        utterance, self._open = self._open, ""
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None
        for listener in self._listeners:
            listener.stream.end_of_speech(utterance)
        self._stopped(utterance, voice.at)
        if not self._listeners:
            self._feed(Transcribed(utterance, ""))

    def _stopped(self, utterance: str, at: float) -> None:
        if self._listeners:
            self._spoken[utterance] = (self._began, at)
            if len(self._spoken) > OWED:
                del self._spoken[next(iter(self._spoken))]
        self._feed(UserStopped(utterance, at))

    def _watch(self) -> None:
        """End the open utterance when frames stop coming: a muted microphone sends none."""
        self._silence = asyncio.get_running_loop().call_at(self._last_frame + SILENCE, self._check_silence)

    def _check_silence(self) -> None:
        if asyncio.get_running_loop().time() < self._last_frame + SILENCE:
            self._watch()  # frames came meanwhile; the timer is not set anew for each
        else:
            self._end_open()

    # --- words ------------------------------------------------------------------------------------------------------

    async def _read(self, stream: AsyncIterable[Transcript | SpeechStarted | SpeechStopped], source: str) -> None:
        """Hand on what is heard; after a failure read on, a little later each time until something comes again."""
        failures = 0
        while True:
            try:
                async for heard in stream:
                    failures = 0
                    self._take(heard, source)
                return
            except ProviderError as error:
                failures += 1
                self._failed(error, source)
                log.warning("transcriber failed", source=source, error=str(error), failures=failures)
                await asyncio.sleep(min(0.1 * 2**failures, 5.0))

    def _take(self, heard: Transcript | SpeechStarted | SpeechStopped, source: str) -> None:
        if isinstance(heard, Transcript):
            if source == "stt" or self._words is None:
                self._measure(heard)
                self._feed(
                    Transcribed(heard.utterance, heard.text, heard.final, heard.language, heard.confidence, heard.ended)
                )
        elif self._vad is not None:
            log.debug("the model's voice activity does not count", heard=type(heard).__name__)
        elif isinstance(heard, SpeechStarted):
            self._began = heard.at
            self._feed(UserStarted(heard.utterance, heard.at))
        else:
            self._stopped(heard.utterance, heard.at)

    def _measure(self, heard: Transcript) -> None:
        if not heard.final or (spoken := self._spoken.pop(heard.utterance, None)) is None:
            return
        began, ended = spoken
        delay = asyncio.get_running_loop().time() - ended
        self._measured(STTMetrics(heard.utterance, self._label, delay, ended - began))


@dataclass(frozen=True, slots=True)
class _Listener:
    """Who is given the audio, at its own rate, and told where utterances are."""

    stream: STTStream | RealtimeSession
    resampler: Resampler

    def push(self, frame: AudioFrame) -> None:
        pcm = self.resampler.push(frame.pcm)
        if len(pcm):
            self.stream.push(AudioFrame(pcm, self.resampler.target_rate, frame.at))


class _Ring:
    """The last seconds of a stream of frames."""

    def __init__(self, sample_rate: int, seconds: float) -> None:
        self.seconds = seconds
        self._sample_rate = sample_rate
        self._frames: deque[AudioFrame] = deque()
        self._samples = 0

    def push(self, frame: AudioFrame) -> None:
        self._frames.append(frame)
        self._samples += len(frame.pcm)
        while self._samples - len(self._frames[0].pcm) >= self.seconds * self._sample_rate:
            self._samples -= len(self._frames.popleft().pcm)

    def clear(self) -> None:
        self._frames.clear()
        self._samples = 0

    def last(self, seconds: float) -> AudioFrame:
        pcm = np.concatenate([frame.pcm for frame in self._frames]) if self._frames else np.zeros(0, dtype=np.int16)
        end = self._frames[-1].at + self._frames[-1].duration if self._frames else 0.0
        pcm = pcm[max(0, len(pcm) - round(seconds * self._sample_rate)) :]
        return AudioFrame(pcm, self._sample_rate, end - len(pcm) / self._sample_rate)
