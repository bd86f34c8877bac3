"""What is asked of a voice, and what its sound is made of."""

from __future__ import annotations

import asyncio
import io
import wave
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greenroom.audio import AudioFrame, Pcm
from greenroom.errors import ProviderError
from greenroom_plugins.openai.errors import MalformedAnswer
from greenroom_plugins.openai.sound import Onset, SoundReader, wav
from greenroom_plugins.openai.tts import OpenAITTS
from tests.plugins.openai.server import OpenAIServer, Replay, tone

TONE = tone(0.5)


async def spoken(provider: OpenAITTS, sentence: str = "Hello there.") -> Pcm:
    async with aclosing(provider.speak(sentence)) as audio:
        return np.concatenate([np.zeros(0, dtype=np.int16), *[frame.pcm async for frame in audio]])


async def test_what_is_asked_for(server: OpenAIServer, tts: Callable[..., OpenAITTS]) -> None:
    await spoken(tts())
    assert server.asked[-1].body == {
        "model": "gpt-4o-mini-tts",
        "voice": "alloy",
        "input": "Hello there.",
        "response_format": "pcm",
    }
    await spoken(tts(instructions="Whisper.", speed=1.2, voice="marin", extra={"lang_code": "b"}))
    assert server.asked[-1].body == {
        "model": "gpt-4o-mini-tts",
        "voice": "marin",
        "input": "Hello there.",
        "response_format": "pcm",
        "instructions": "Whisper.",
        "speed": 1.2,
        "lang_code": "b",
    }


@pytest.mark.parametrize("form", ["pcm", "wav"])
async def test_every_sample_arrives_but_the_silence_before(
    server: OpenAIServer, tts: Callable[..., OpenAITTS], form: str
) -> None:
    async def voice(text: str) -> AsyncIterator[Pcm]:
        yield np.zeros(12000, dtype=np.int16)
        yield TONE

    server.voice = voice
    got = await spoken(tts(response_format=form, lead=0.0))
    first = int(np.flatnonzero(np.abs(TONE) > 100)[0])
    assert np.array_equal(got, TONE[first:])
    kept = await spoken(tts(response_format=form, lead=0.05))
    assert np.array_equal(kept[-len(got) :], got)
    assert len(kept) - len(got) == round(0.05 * 24000)


async def test_sound_at_another_rate_is_changed(server: OpenAIServer, tts: Callable[..., OpenAITTS]) -> None:
    server.replays.append(Replay(wav(AudioFrame(TONE, 48000)), kind="audio/wav", step=999))
    got = await spoken(tts(response_format="wav"))
    assert len(got) == pytest.approx(len(TONE) / 2, abs=50)


async def test_sound_begins_before_it_is_whole(server: OpenAIServer, tts: Callable[..., OpenAITTS]) -> None:
    more = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def voice(text: str) -> AsyncIterator[Pcm]:
        yield TONE
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(more.wait(), loop))
        yield TONE

    server.voice = voice
    async with aclosing(tts().speak("Hello there.")) as audio:
        assert len((await anext(audio)).pcm)
        more.set()
        assert [frame async for frame in audio]


@pytest.mark.parametrize(
    ("replay", "words"),
    [
        (Replay(b"", kind="audio/pcm"), "sent no sound"),
        (Replay(bytes(48000), kind="audio/pcm"), "sent no sound"),
        (Replay(b"<html>", kind="text/html"), "text/html instead of sound"),
        (Replay(b"{}", kind="application/json; charset=utf-8"), "application/json instead of sound"),
        (Replay(b"ID3\x04" + bytes(99), kind="audio/mpeg"), "sound in mp3; expected pcm or wav"),
        (Replay(b"\xff\xfb\x90\x00" * 50, kind="audio/mpeg"), "sound in mp3"),
        (Replay(b"OggS" + bytes(99), kind="audio/ogg"), "sound in Opus"),
    ],
)
async def test_what_is_no_sound(
    server: OpenAIServer, tts: Callable[..., OpenAITTS], replay: Replay, words: str
) -> None:
    server.replays.append(replay)
    with pytest.raises(ProviderError, match=words) as caught:
        await spoken(tts())
    assert caught.value.retryable


@pytest.mark.parametrize("moment", ["before the sound", "within"])
async def test_a_stop_reaches_the_endpoint(server: OpenAIServer, tts: Callable[..., OpenAITTS], moment: str) -> None:
    async def voice(text: str) -> AsyncIterator[Pcm]:
        if moment == "before the sound":
            await asyncio.Event().wait()
        while True:
            yield TONE

    server.voice = voice
    speaking = asyncio.create_task(spoken(tts()))
    await server.busy()
    speaking.cancel()
    await asyncio.gather(speaking, return_exceptions=True)
    await asyncio.wait_for(server.idle(), 20.0)


@settings(deadline=None)
@given(st.lists(st.integers(-32768, 32767), max_size=60), st.lists(st.integers(1, 9), max_size=40), st.booleans())
def test_samples_survive_however_they_are_cut(samples: list[int], cuts: list[int], file: bool) -> None:
    pcm = np.array(samples, dtype=np.int16)
    data = wav(AudioFrame(pcm, 24000)) if file else pcm.tobytes()
    if not file and data.startswith((b"RIFF", b"ID3", b"OggS", b"fLaC")):
        return
    reader, parts = SoundReader(24000), []
    for size in [*cuts, len(data)]:
        parts.append(reader.push(data[:size]))
        data = data[size:]
    parts.append(reader.flush())
    assert np.array_equal(np.concatenate(parts), pcm)


def test_two_channels_become_one() -> None:
    into = io.BytesIO()
    with wave.open(into, "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(24000)
        file.writeframes(np.array([[100, 300], [-100, -300]], dtype=np.int16).tobytes())
    assert SoundReader(24000).push(into.getvalue()).tolist() == [200, -200]


@pytest.mark.parametrize("bits", [1, 3, 4])
def test_samples_of_another_size_are_refused(bits: int) -> None:
    into = io.BytesIO()
    with wave.open(into, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(bits)
        file.setframerate(24000)
        file.writeframes(bytes(12))
    with pytest.raises(MalformedAnswer, match="expected 16-bit PCM"):
        SoundReader(24000).push(into.getvalue())


def test_a_wav_file_is_read_by_others() -> None:
    with wave.open(io.BytesIO(wav(AudioFrame(TONE, 16000)))) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 16000)
        assert file.readframes(file.getnframes()) == TONE.tobytes()


@settings(deadline=None)
@given(quiet=st.integers(0, 400), loud=st.integers(1, 50), cuts=st.lists(st.integers(1, 90), max_size=10))
def test_silence_is_kept_back_however_it_is_cut(quiet: int, loud: int, cuts: list[int]) -> None:
    pcm = np.concatenate([np.full(quiet, 7), np.full(loud, 5000)]).astype(np.int16)
    onset, parts, rest = Onset(1000, lead=0.1), [], pcm
    for size in [*cuts, len(pcm)]:
        parts.append(onset.push(rest[:size]))
        rest = rest[size:]
    assert onset.heard
    assert np.array_equal(np.concatenate(parts), pcm[max(0, quiet - 100) :])


def test_where_nothing_sounds_nothing_is_heard() -> None:
    onset = Onset(1000, lead=0.1)
    assert len(onset.push(np.full(5000, 50, dtype=np.int16))) == 0
    assert not onset.heard
