"""What a voice activity model has to keep."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Iterator

import numpy as np
import pytest

from greenroom.audio import AudioFrame, Pcm, silence
from greenroom.providers import VAD, VADStream
from greenroom.testing.contract.speech import Speech, at_rate, buzz, noise

__all__ = ["VADContract"]


@pytest.mark.asyncio
class VADContract:
    """Subclass it, give it the fixture ``provider``, and ``speech`` where there is a recording to find speech in."""

    costliest = 0.002
    """Seconds that the median window may take, one every 32 ms."""

    @pytest.fixture
    def provider(self) -> VAD:
        raise NotImplementedError("the subclass says what is tested")

    @pytest.fixture
    def speech(self) -> Speech:
        return Speech(buzz(1.5, 16000))

    async def test_it_says_what_it_takes(self, provider: VAD) -> None:
        assert provider.sample_rate in (8000, 16000, 24000, 32000, 48000)
        assert 0.005 <= provider.window / provider.sample_rate <= 0.1

    async def test_load_is_idempotent(self, provider: VAD) -> None:
        provider.load()
        provider.load()
        assert heard(provider, provider.stream(), silence(0.5, 16000))

    async def test_probabilities(self, provider: VAD, speech: Speech) -> None:
        for sound in (speech.audio, silence(0.5, 16000), noise(0.5, 16000, level=3000), clipped()):
            probabilities = heard(provider, provider.stream(), sound)
            assert probabilities
            assert all(0.0 <= value <= 1.0 for value in probabilities)

    async def test_speech_is_found(self, provider: VAD, speech: Speech) -> None:
        if not speech.words:
            pytest.skip("no recording with words was given")
        assert max(heard(provider, provider.stream(), speech.audio)) > 0.5

    async def test_silence_is_none(self, provider: VAD) -> None:
        assert max(heard(provider, provider.stream(), silence(2.0, 16000))) < 0.5

    async def test_faint_noise_is_none(self, provider: VAD) -> None:
        assert max(heard(provider, provider.stream(), noise(2.0, 16000, level=20))) < 0.5

    async def test_reset_forgets(self, provider: VAD, speech: Speech) -> None:
        fresh = heard(provider, provider.stream(), speech.audio)
        stream = provider.stream()
        heard(provider, stream, noise(1.0, 16000, level=2000))
        stream.reset()
        assert heard(provider, stream, speech.audio) == pytest.approx(fresh, abs=1e-5)

    async def test_streams_do_not_touch(self, provider: VAD, speech: Speech) -> None:
        alone = heard(provider, provider.stream(), speech.audio)
        first, second = provider.stream(), provider.stream()
        disturbing = noise(3.0, 16000, level=2000)
        together: list[float] = []
        for window, other in zip(windows(provider, speech.audio), windows(provider, disturbing), strict=False):
            together.append(first.probability(window))
            second.probability(other)
        assert together == pytest.approx(alone[: len(together)], abs=1e-5)

    async def test_the_window_stays_the_callers(self, provider: VAD, speech: Speech) -> None:
        kept = heard(provider, provider.stream(), speech.audio)
        stream, buffer, reused = provider.stream(), np.zeros(provider.window, dtype=np.int16), []
        for window in windows(provider, speech.audio):
            buffer[:] = window
            reused.append(stream.probability(buffer))
            assert np.array_equal(buffer, window)
            buffer[:] = 12345
        assert reused == pytest.approx(kept, abs=1e-5)

    async def test_a_read_only_window_will_do(self, provider: VAD, speech: Speech) -> None:
        window = next(windows(provider, speech.audio)).copy()
        window.flags.writeable = False
        assert 0.0 <= provider.stream().probability(window) <= 1.0

    async def test_a_wrong_window_is_refused(self, provider: VAD) -> None:
        stream = provider.stream()
        for length in (0, provider.window - 1, provider.window + 1):
            with pytest.raises(ValueError, match=str(provider.window)):
                stream.probability(np.zeros(length, dtype=np.int16))

    async def test_cost_at_real_pace(self, provider: VAD, speech: Speech) -> None:
        """One window every 32 ms, as in a call: in a tight loop the caches would flatter it."""
        provider.load()
        stream, costs = provider.stream(), []
        for window in list(windows(provider, speech.audio))[:40]:
            await asyncio.sleep(provider.window / provider.sample_rate)
            before = time.perf_counter()
            stream.probability(window)
            costs.append(time.perf_counter() - before)
        assert statistics.median(costs) < self.costliest


def windows(provider: VAD, sound: AudioFrame) -> Iterator[Pcm]:
    pcm = at_rate(sound, provider.sample_rate).pcm
    for start in range(0, len(pcm) - provider.window + 1, provider.window):
        yield pcm[start : start + provider.window]


def heard(provider: VAD, stream: VADStream, sound: AudioFrame) -> list[float]:
    return [stream.probability(window) for window in windows(provider, sound)]


def clipped() -> AudioFrame:
    """The loudest that there is: every sample at one end of the scale or the other."""
    return AudioFrame(np.where(np.arange(8000) // 80 % 2, 32767, -32768).astype(np.int16), 16000)
