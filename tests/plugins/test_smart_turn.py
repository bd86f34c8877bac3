"""Smart Turn hears the end of a turn; its front end is exactly Whisper's."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import numpy as np
import pytest

from greenroom.audio import AudioFrame, silence
from greenroom.errors import ProviderError
from greenroom.providers import Heard, OptionError, TurnDetector, registry
from greenroom.settings import ProviderSettings
from greenroom.testing.contract import TurnDetectorContract
from greenroom.testing.contract.speech import at_rate, noise
from greenroom.testing.contract.turn import heard
from greenroom_plugins import smart_turn
from greenroom_plugins.smart_turn import SmartTurnDetector, SmartTurnOptions, log_mel
from tests.plugins.conftest import Say

pytestmark = pytest.mark.models
RATE = 16000


@pytest.fixture(scope="module")
def detector() -> SmartTurnDetector:
    found = SmartTurnDetector(SmartTurnOptions())
    found.load()
    return found


def turn(say: Say, text: str, *, after: float = 0.2) -> Heard:
    """A spoken sentence with silence after it."""
    pcm = at_rate(say(text), RATE).pcm
    loud = np.flatnonzero(np.abs(pcm.astype(np.int32)) > 200)
    pcm = pcm[: int(loud[-1]) + 1]
    return heard(text, followed(AudioFrame(pcm, RATE), silence(after, RATE)))


def followed(one: AudioFrame, other: AudioFrame) -> AudioFrame:
    return AudioFrame(np.concatenate([one.pcm, other.pcm]), RATE)


class TestSmartTurn(TurnDetectorContract):
    @pytest.fixture
    def provider(self) -> TurnDetector:
        return SmartTurnDetector(SmartTurnOptions())

    @pytest.fixture
    def whole(self, say: Say) -> Heard:
        return turn(say, "What time do you close today?")

    @pytest.fixture
    def cut(self, say: Say) -> Heard | None:
        return turn(say, "I was thinking that maybe we could, um")

    @pytest.fixture
    def failing(self, tmp_path: Path) -> TurnDetector | None:
        (tmp_path / "broken.onnx").write_bytes(b"no model")
        return SmartTurnDetector(SmartTurnOptions(model=str(tmp_path / "broken.onnx")))


def test_the_front_end_is_whispers(say: Say) -> None:
    from faster_whisper.feature_extractor import FeatureExtractor

    for sound in (say("What time do you close today?"), noise(9.0, RATE, level=500)):
        pcm = at_rate(sound, RATE).pcm
        samples = np.zeros(8 * RATE, dtype=np.float32)
        last = pcm[-8 * RATE :]
        samples[-len(last) :] = last / np.float32(32768)
        samples = (samples - samples.mean()) / samples.std()
        expected = FeatureExtractor(chunk_length=8)(samples, padding=0)
        assert log_mel(pcm).shape == (80, 800)
        assert np.abs(log_mel(pcm) - expected).max() < 2e-4


def test_silence_after_the_turn_does_not_change_what_is_thought_of_it(detector: SmartTurnDetector, say: Say) -> None:
    for text in ("I was thinking that maybe we could, um", "What time do you close today?"):
        spoken = turn(say, text, after=0.0).audio
        assert spoken is not None
        answers = [
            asyncio.run(detector.probability(heard(text, followed(spoken, silence(after, RATE)))))
            for after in (0.2, 0.5, 1.0, 2.0)
        ]
        assert max(answers) - min(answers) < 0.02


def test_a_rooms_noise_is_no_speech(detector: SmartTurnDetector, say: Say) -> None:
    spoken = turn(say, "What time do you close today?", after=1.5)
    assert spoken.audio is not None
    faint = noise(spoken.audio.duration, RATE, level=30).pcm[: len(spoken.audio.pcm)]
    mixed = heard(spoken.text, AudioFrame((spoken.audio.pcm // 2 + faint).astype(np.int16), RATE))
    assert asyncio.run(detector.probability(mixed)) > 0.5


def test_audio_at_another_rate_is_refused(detector: SmartTurnDetector) -> None:
    with pytest.raises(ValueError, match="expected 16000"):
        asyncio.run(detector.probability(heard("hello", noise(1.0, 24000, level=100))))


def test_it_is_built_from_settings() -> None:
    built = registry.build("turn", ProviderSettings("smart_turn", options={"threshold": 0.7}))
    assert isinstance(built, SmartTurnDetector)
    assert (built.threshold, built.modality, built.sample_rate, built.seconds) == (0.7, "audio", RATE, 8.0)


def test_a_model_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OptionError, match="no such file") as caught:
        registry.check("turn", "smart_turn", {"model": str(tmp_path / "none.onnx")})
    assert caught.value.path == ("model",)
    monkeypatch.setattr(smart_turn, "_SHARED", tmp_path)
    monkeypatch.setattr(smart_turn, "find_spec", lambda _: None)
    with pytest.raises(OptionError, match="pip install --no-deps pipecat-ai"):
        registry.check("turn", "smart_turn", {})
    with pytest.raises(ProviderError, match=r"smart_turn: model `v3\.2` cannot be loaded"):
        SmartTurnDetector(SmartTurnOptions()).load()


def test_a_model_in_the_package_that_ships_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = smart_turn.model_file(SmartTurnOptions())
    package, inside = smart_turn._PACKAGED["v3.2"]
    file = tmp_path / package / inside
    file.parent.mkdir(parents=True)
    file.write_bytes(expected.read_bytes())
    (tmp_path / package / "__init__.py").write_text("raise AssertionError('it must not be imported')\n")
    monkeypatch.setattr(smart_turn, "_SHARED", tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert smart_turn.model_file(SmartTurnOptions()) == file
    SmartTurnDetector(SmartTurnOptions()).load()
