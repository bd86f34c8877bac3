"""A voice with a memory: what it is asked, what it is not, and that what is heard is the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from greenroom.audio import AudioFrame
from greenroom.errors import ProviderError
from greenroom.providers import TTS, SynthesizedAudio
from greenroom.session.metrics import TTSMetrics
from greenroom.settings import ProviderSettings
from greenroom.speech.cache import SpeechCache
from greenroom.speech.cached import CachedTTS, voice_identity
from greenroom.testing.contract import TTSContract
from greenroom.testing.providers import ScriptedTTS
from greenroom.testing.virtual_time import virtual_time
from tests.session.stage import scene

TEXT = "Good day, this is the Blue Door. How can I help you?"
SENTENCES = ["Good day, this is the Blue Door.", "How can I help you?"]


class Streaming(TTS):
    """Speaks piece by piece as the text comes, a tenth of a second each; ``asked`` holds the whole texts."""

    def __init__(self, *, fails: bool = False) -> None:
        self.asked: list[str] = []
        self.fails = fails
        self.closed = 0

    async def synthesize(self, text: AsyncIterable[str]) -> AsyncGenerator[SynthesizedAudio, None]:
        self.asked.append("")
        async for part in text:
            self.asked[-1] += part
            await asyncio.sleep(0.01)
            frame = AudioFrame(np.full(self.sample_rate // 10, len(part), dtype=np.int16), self.sample_rate)
            yield SynthesizedAudio(frame, part, aligned=True)
        if self.fails:
            raise ProviderError("it broke off", provider="streaming")

    async def aclose(self) -> None:
        self.closed += 1


async def written(*parts: str, gap: float = 0.0) -> AsyncIterator[str]:
    for part in parts:
        if gap:
            await asyncio.sleep(gap)
        yield part


async def said(tts: TTS, *parts: str, gap: float = 0.0) -> list[SynthesizedAudio]:
    async with aclosing(tts.synthesize(written(*parts, gap=gap))) as pieces:
        return [piece async for piece in pieces]


def sounds(pieces: list[SynthesizedAudio]) -> list[tuple[str, bool, bytes]]:
    return [(piece.text, piece.aligned, piece.frame.pcm.tobytes()) for piece in pieces]


def cached(tts: TTS, folder: Path | None = None, *, everything: bool = False) -> CachedTTS:
    return CachedTTS(tts, SpeechCache(folder, everything=everything), identity="joe")


@virtual_time
async def test_no_sentence_is_made_twice_and_all_sounds_the_same() -> None:
    bare, tts = ScriptedTTS(), ScriptedTTS()
    voice = cached(tts)
    first = await said(voice, TEXT)
    assert sounds(first) == sounds(await said(bare, TEXT))
    assert not any(piece.cached for piece in first)
    second = await said(voice, "  ", "How can I help ", "you? And so on.")
    assert tts.sentences == [*SENTENCES, "And so on."]
    assert sounds(second) == sounds(await said(bare, "  How can I help you? And so on."))
    assert [piece.cached for piece in second if piece.text] == [True, False]
    assert sounds(await said(voice, "...")) == sounds(await said(bare, "..."))


@virtual_time
async def test_what_was_not_made_to_its_end_is_not_kept() -> None:
    tts = ScriptedTTS(failures={1: "raise"}, failure_at=0.2)
    voice = cached(tts)
    async with aclosing(voice.synthesize(written("Left in the middle."))) as pieces:
        await anext(pieces)
    with pytest.raises(ProviderError):
        await said(voice, "It fails.")
    await said(voice, "Left in the middle. ", "It fails.")
    assert tts.sentences == ["Left in the middle.", "It fails."] * 2


@virtual_time
async def test_of_a_streaming_voice_whole_speeches_are_kept() -> None:
    tts = Streaming()
    voice = cached(tts)
    first = await said(voice, "Hello ", "there.")
    second = await said(voice, "Hello there.")
    assert tts.asked == ["Hello there."]
    assert sounds(first) == sounds(second)
    assert all(piece.cached for piece in second)


@virtual_time
async def test_a_text_that_comes_in_time_is_not_waited_for() -> None:
    tts = Streaming()
    voice = cached(tts)
    await said(voice, "Hello there.")
    began = asyncio.get_running_loop().time()
    async with aclosing(voice.synthesize(written("Hello ", "there.", gap=1.0))) as pieces:
        assert (await anext(pieces)).text == "Hello "
        assert asyncio.get_running_loop().time() - began == pytest.approx(1.01)
        assert [piece.text async for piece in pieces] == ["there."]
    assert tts.asked == ["Hello there."] * 2
    await said(voice, "Not ", "kept.", gap=0.1)
    await said(voice, "Not kept.")
    assert tts.asked[2:] == ["Not kept."] * 2


@virtual_time
async def test_a_stream_that_breaks_off_or_is_left_is_not_kept() -> None:
    tts = Streaming(fails=True)
    voice = cached(tts)
    for _ in range(2):
        with pytest.raises(ProviderError):
            await said(voice, "Hello.")
    assert tts.asked == ["Hello."] * 2
    stream = voice.synthesize(written("One ", "two.", gap=5.0))
    reading = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(1.0)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    await stream.aclose()
    assert len(asyncio.all_tasks()) == 1, "nobody reads on"


async def broken() -> AsyncIterator[str]:
    yield "So far "
    raise ValueError("no more")


@virtual_time
async def test_a_text_that_fails_fails_as_it_would_without() -> None:
    with pytest.raises(ValueError, match="no more"):
        async for _ in cached(Streaming()).synthesize(broken()):
            pass


async def test_what_was_rendered_is_recalled_by_the_next_process(tmp_path: Path) -> None:
    for make in (lambda: ScriptedTTS(first_audio=0, real_time_factor=0), Streaming):
        folder = tmp_path / make().label
        voice = cached(make(), folder)
        assert not voice.recall(TEXT)
        await voice.render(TEXT)
        await said(voice, "This is for nobody's disk.")
        tts = make()
        another = cached(tts, folder)
        assert another.recall(TEXT)
        assert not another.recall("This is for nobody's disk.")
        assert all(piece.cached for piece in await said(another, TEXT))
        assert (tts.sentences if isinstance(tts, ScriptedTTS) else tts.asked) == []


async def test_everything_is_kept_where_that_is_wanted(tmp_path: Path) -> None:
    voice = cached(ScriptedTTS(first_audio=0, real_time_factor=0), tmp_path, everything=True)
    await said(voice, TEXT)
    tts = ScriptedTTS()
    assert all(piece.cached for piece in await said(cached(tts, tmp_path, everything=True), TEXT))
    assert tts.sentences == []


async def test_another_voice_or_another_rate_is_never_played(tmp_path: Path) -> None:
    cache = SpeechCache(tmp_path)
    await CachedTTS(ScriptedTTS(first_audio=0, real_time_factor=0), cache, identity="joe").render("Hello.")
    assert not CachedTTS(ScriptedTTS(), cache, identity="amy").recall("Hello.")
    assert not CachedTTS(ScriptedTTS(sample_rate=8000), cache, identity="joe").recall("Hello.")
    assert CachedTTS(ScriptedTTS(), cache, identity="joe").recall("Hello.")


def test_what_a_voice_is_told_apart_by(tmp_path: Path) -> None:
    model = tmp_path / "voice.onnx"
    model.write_bytes(b"one")

    def identity(plugin: str = "piper", *, version: str = "1", variant: str = "", **options: object) -> str:
        settings = ProviderSettings(plugin, {"voice": str(model), "speed": 1.0, **options})
        return voice_identity(settings, version=version, variant=variant)

    base = identity()
    assert identity() == base
    assert identity(api_key="secret") == base, "a new key is the same voice"
    others = [identity("other"), identity(version="2"), identity(variant="here"), identity(speed=1.1)]
    assert len({base, *others, identity(more=[{"a": 1}])}) == 6
    model.write_bytes(b"another")
    assert identity() != base


async def test_the_rest_is_the_voices_own() -> None:
    tts = Streaming()
    voice = cached(tts)
    voice.load()
    await voice.warm_up()
    await voice.aclose()
    assert (voice.label, voice.sample_rate, tts.closed) == ("Streaming", tts.sample_rate, 1)


@virtual_time
async def test_in_a_session_it_starts_at_once_and_costs_nothing() -> None:
    tts = ScriptedTTS(first_audio=0.5)
    voice = cached(tts)
    await said(voice, TEXT)
    async with scene() as s:
        agent = s.session.current_agent
        agent.tts = voice
        began = asyncio.get_running_loop().time()
        handle = await s.session.say(TEXT)
        assert handle.started == began
        assert handle.heard_text == TEXT
        metrics = [event.metrics for _, name, event in s.events if name == "metrics_collected"]
        (spoken,) = [each for each in metrics if isinstance(each, TTSMetrics)]
        assert (spoken.characters, spoken.cached_characters) == (len(TEXT), len(TEXT))
        assert spoken.label == "ScriptedTTS"
        assert tts.sentences == SENTENCES, "of before"
        cut = s.session.say(TEXT)
        await asyncio.sleep(1.0)
        s.session.interrupt()
        assert 0 < len((await cut).heard_text) < len(SENTENCES[0])


class Streamed(TTS):
    """A lawful voice that is streamed to."""

    def __init__(self, tts: ScriptedTTS) -> None:
        self._tts = tts

    def synthesize(self, text: AsyncIterable[str]) -> AsyncGenerator[SynthesizedAudio, None]:
        return self._tts.synthesize(text)


def speaking(**more: Any) -> ScriptedTTS:
    return ScriptedTTS(first_audio=0.12, real_time_factor=0.01, **more)


class TestCachedSentences(TTSContract):
    """A voice with a memory is a voice: what every plugin has to hold, it holds too."""

    @pytest.fixture
    def provider(self) -> TTS:
        return cached(speaking())

    @pytest.fixture
    def failing(self) -> TTS:
        return cached(speaking(failures={0: "raise"}))


class TestCachedStream(TTSContract):
    """And around one that is streamed to."""

    @pytest.fixture
    def provider(self) -> TTS:
        return cached(Streamed(speaking()))

    @pytest.fixture
    def failing(self) -> TTS:
        return cached(Streamed(speaking(failures={0: "raise"})))
