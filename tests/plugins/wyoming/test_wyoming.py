"""Wyoming's two kinds against a server of the protocol."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from greenroom.audio import AudioFrame, silence
from greenroom.errors import ProviderError
from greenroom.providers import STT, TTS, PluginError, STTStream, Transcript, registry
from greenroom.session.hearing import Ears
from greenroom.testing.contract import Speech, STTContract, TTSContract
from greenroom.testing.contract.speech import frames
from greenroom.testing.contract.stt import opened, say, words
from greenroom_plugins.wyoming import stt as wyoming_stt
from greenroom_plugins.wyoming.options import place
from greenroom_plugins.wyoming.stt import WyomingSTT
from tests.plugins.tones import read, spell
from tests.plugins.wyoming.cases import NOBODY, PLAYED, hears, question, speaks
from tests.plugins.wyoming.server import WyomingServer
from tests.providers.contract.case import Fault

WORDS = "hello there what time is it"
TEXT = "Hello there. What time is it?"


@pytest.fixture
async def server() -> AsyncIterator[WyomingServer]:
    async with WyomingServer().started() as server:
        yield server


class TestWyomingSTT(STTContract):
    @pytest.fixture
    def provider(self, server: WyomingServer) -> STT:
        return hears(server.url)

    @pytest.fixture
    def speech(self) -> Speech:
        return question()

    @pytest.fixture
    def failing(self) -> STT:
        return hears(NOBODY)


class TestWyomingTTS(TTSContract):
    @pytest.fixture
    def provider(self, server: WyomingServer) -> TTS:
        return speaks(server.url)

    @pytest.fixture
    def failing(self) -> TTS:
        return speaks(NOBODY)


async def heard(stream: STTStream, *, finals: int = 1) -> list[Transcript]:
    """All that is heard until so many final transcripts have come; failures are read over, as a session does."""
    told: list[Transcript] = []
    async with asyncio.timeout(20):
        while sum(one.final for one in told) < finals:
            with suppress(ProviderError):
                async for transcript in stream:
                    told.append(transcript)
                    if sum(one.final for one in told) == finals:
                        break
    return told


async def unheard(stream: STTStream) -> ProviderError:
    async def read_all() -> None:
        async for _ in stream:
            pass

    with pytest.raises(ProviderError) as caught:
        await asyncio.wait_for(read_all(), 20)
    return caught.value


async def spoken(tts: TTS, text: str = TEXT) -> AudioFrame:
    async def whole() -> AsyncIterator[str]:
        yield text

    async with asyncio.timeout(20), aclosing(tts.synthesize(whole())) as pieces:
        return AudioFrame(np.concatenate([piece.frame.pcm async for piece in pieces]), tts.sample_rate)


# --- hearing ----------------------------------------------------------------------------------------------------------


async def test_an_utterance_is_sent_while_it_is_spoken(server: WyomingServer) -> None:
    stt = hears(server.url, model="tones", language="en")
    async with opened(stt) as stream:
        for frame in frames(silence(5.0, 16000).pcm, 16000):
            stream.push(frame)
        parts = list(frames(question().audio.pcm, 16000, at=5.0))
        stream.start_of_speech("u1", at=5.0)
        for frame in parts[:20]:
            stream.push(frame)
        await server.until(lambda: server.talks and len(server.talks[0].audio) >= 20 * 640)
        for frame in parts[20:]:
            stream.push(frame)
        stream.end_of_speech("u1")
        [final] = await heard(stream)
    assert (final.text, final.utterance, final.language) == (WORDS, "u1", "en")
    [talk] = server.talks
    assert talk.events[0] == ("transcribe", {"name": "tones", "language": "en"})
    assert [kind for kind, _ in talk.events if kind != "audio-chunk"] == ["transcribe", "audio-start", "audio-stop"]
    assert len(talk.audio) == pytest.approx(len(question().audio.pcm) * 2, abs=700)


async def test_words_that_come_while_they_are_spoken_are_interim(server: WyomingServer) -> None:
    server.chunks = True
    async with opened(hears(server.url)) as stream:
        stream.start_of_speech("u1", at=0.0)
        for frame in frames(question().audio.pcm, 16000):
            stream.push(frame)
        async with asyncio.timeout(20), aclosing(stream.__aiter__()) as told:  # type: ignore[type-var]
            first = await anext(told)
        assert not first.final
        assert first.utterance == "u1"
        stream.end_of_speech("u1")
        assert (await heard(stream))[-1] == Transcript(WORDS, utterance="u1", language="en")


async def test_a_server_may_take_a_pause_for_the_end(server: WyomingServer) -> None:
    server.ends_after = 2
    async with opened(hears(server.url)) as stream:
        stream.start_of_speech("u1", at=0.0)
        for frame in frames(spell("hello there what", 16000)[0].pcm, 16000):
            stream.push(frame)
        async with asyncio.timeout(20):
            while len(server.talks) < 2:  # it has taken the words so far, and the rest goes to another
                stream.push(silence(0.02, 16000))
                await asyncio.sleep(0)
        for frame in frames(spell("one two", 16000)[0].pcm, 16000):
            stream.push(frame)
        stream.end_of_speech("u1")
        [final] = await heard(stream)
    assert words(final.text) == words("hello there what one two")


async def test_utterances_are_told_in_their_order_though_the_first_is_late(server: WyomingServer) -> None:
    server.order("stall")
    async with opened(hears(server.url)) as stream:
        say(hears(server.url), stream, "u1", question().audio)
        await server.until(lambda: server.talks and server.talks[0].fault == "stall")
        say(hears(server.url), stream, "u2", spell("one two", 16000)[0])
        told = await heard(stream, finals=2)
    assert [(one.utterance, one.text) for one in told] == [("u1", WORDS), ("u2", "one two")]


async def test_whole_utterances(server: WyomingServer) -> None:
    stt = hears(server.url)
    assert isinstance(stt, WyomingSTT)
    assert (await stt.recognize(question().audio)).text == WORDS
    with pytest.raises(ValueError, match="there is no vad"):
        Ears(stt=stt).check()


async def test_only_so_many_utterances_wait(server: WyomingServer) -> None:
    server.order("stall", times=100)
    stt = hears(server.url)
    async with opened(stt) as stream:
        for number in range(wyoming_stt.PENDING + 1):
            say(stt, stream, f"u{number}", silence(0.1, 16000))
        assert (await heard(stream))[0] == Transcript("", utterance="u0")


async def test_of_an_endless_utterance_the_end_is_kept(server: WyomingServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wyoming_stt, "KEPT", 2.0)
    async with opened(hears(server.url)) as stream:
        stream.start_of_speech("u1", at=0.0)
        for frame in frames(spell("one two three four " * 10 + WORDS, 16000)[0].pcm, 16000):
            stream.push(frame)
        stream.end_of_speech("u1")
        [final] = await heard(stream)
    assert words(final.text)[-6:] == words(WORDS)
    assert len(words(final.text)) < 12


# --- speaking ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rate", "channels"), [(22050, 1), (16000, 1), (48000, 2)])
async def test_whatever_its_rate_a_voice_comes_out_at_ours(rate: int, channels: int) -> None:
    async with WyomingServer(rate=rate, channels=channels).started() as server:
        sound = await spoken(speaks(server.url, sample_rate=24000))
    assert [one.word for one in read(sound.pcm, 24000)] == words(TEXT)
    assert sound.duration == pytest.approx(spell(TEXT, 24000)[0].duration, abs=0.02)


async def test_the_voice_that_is_asked_for(server: WyomingServer) -> None:
    await spoken(speaks(server.url, voice="flute", speaker="low", language="en"), "Hello.")
    await spoken(speaks(server.url), "Hello.")
    asked = [data for talk in server.talks for kind, data in talk.events if kind == "synthesize"]
    assert asked == [
        {"text": "Hello.", "voice": {"name": "flute", "speaker": "low", "language": "en"}},
        {"text": "Hello."},
    ]


async def test_audio_of_a_form_that_is_not_understood() -> None:
    async with WyomingServer(width=4).started() as server:
        with pytest.raises(ProviderError, match="width 4") as caught:
            await spoken(speaks(server.url))
    assert not caught.value.retryable


# --- what goes wrong --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [fault for fault in PLAYED if fault != "silence"])
async def test_a_fault_is_told_and_the_words_are_heard_nevertheless(server: WyomingServer, fault: Fault) -> None:
    server.order(fault)
    stt = hears(server.url)
    async with opened(stt) as stream:
        say(stt, stream, "u1", question().audio)
        error = await unheard(stream)
        assert error.provider == "wyoming"
        assert error.retryable
        assert (await heard(stream))[-1] == Transcript(WORDS, utterance="u1", language="en")
    await server.until(lambda: server.under_way == 0)


@pytest.mark.parametrize("fault", PLAYED)
async def test_a_fault_of_a_voice_is_told(server: WyomingServer, fault: Fault) -> None:
    server.order(fault)
    tts = speaks(server.url)
    with pytest.raises(ProviderError) as caught:
        await spoken(tts)
    assert caught.value.retryable
    assert [one.word for one in read((await spoken(tts)).pcm, tts.sample_rate)] == words(TEXT)
    await server.until(lambda: server.under_way == 0)


async def test_an_utterance_is_tried_twice(server: WyomingServer) -> None:
    server.order("500", times=2)
    stt = hears(server.url)
    async with opened(stt) as stream:
        say(stt, stream, "u1", question().audio)
        for _ in range(2):
            assert "the server fails: internal: the model is broken" in str(await unheard(stream))
        assert await heard(stream) == [Transcript("", utterance="u1")]


async def test_silence_instead_of_words_is_no_failure(server: WyomingServer) -> None:
    server.order("silence")
    stt = hears(server.url)
    async with opened(stt) as stream:
        say(stt, stream, "u1", question().audio)
        assert (await heard(stream))[-1].text == ""


async def test_nobody_is_there() -> None:
    with pytest.raises(ProviderError, match=r"tcp://127\.0\.0\.1:9 cannot be reached") as caught:
        await spoken(speaks(NOBODY))
    assert caught.value.retryable


# --- what a server has ------------------------------------------------------------------------------------------------


async def test_warming_up_says_whether_the_server_has_what_is_asked_for(server: WyomingServer) -> None:
    await hears(server.url, model="tones").warm_up()
    await speaks(server.url, voice="flute").warm_up()
    with pytest.raises(ProviderError, match="has no `harp`; it has flute") as caught:
        await speaks(server.url, voice="harp").warm_up()
    assert not caught.value.retryable
    server.info = {"tts": [], "asr": "none"}
    for provider, kind in ((hears(server.url), "asr"), (speaks(server.url), "tts")):
        with pytest.raises(ProviderError, match=f"has no {kind}"):
            await provider.warm_up()


async def test_a_server_that_does_not_say_what_it_has(server: WyomingServer) -> None:
    server.order("stall")
    with pytest.raises(ProviderError, match="does not say what it has"):
        await speaks(server.url, connect_timeout=0.05).warm_up()


async def test_a_socket_of_the_machine(tmp_path: Path) -> None:
    server = WyomingServer()
    path = tmp_path / "wyoming.sock"
    async with await asyncio.start_unix_server(server._serve, path):
        assert [one.word for one in read((await spoken(speaks(f"unix://{path}"))).pcm, 22050)] == words(TEXT)
    await server.close()
    server._loop.close()


@pytest.mark.parametrize(
    ("uri", "where"), [("tcp://10.0.0.1:10300", ("10.0.0.1", 10300)), ("unix:///run/w.sock", "/run/w.sock")]
)
def test_addresses(uri: str, where: Any) -> None:
    assert place(uri) == where


@pytest.mark.parametrize("uri", ["", "10.0.0.1:10300", "tcp://host", "tcp://host:no", "tcp://h:99999", "unix://w.sock"])
@pytest.mark.parametrize("kind", ["stt", "tts"])
def test_what_is_no_address_is_refused(uri: str, kind: Any) -> None:
    with pytest.raises(PluginError) as caught:
        registry.check(kind, "wyoming", {"uri": uri})
    assert caught.value.path == ("uri",)
