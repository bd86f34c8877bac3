"""Cartesia's voice against a server of its protocol: every word is spoken once and known to the sample, or it is told
what failed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, Literal

import numpy as np
import pytest

from greenroom.errors import ProviderError
from greenroom.providers import TTS, PluginError, SynthesizedAudio, registry
from greenroom.providers.tts import SENTENCE_BEGUN
from greenroom.settings import ProviderSettings
from greenroom.testing.contract import TTSContract
from greenroom_plugins.cartesia import CartesiaOptions
from greenroom_plugins.cartesia import stream as cartesia_stream
from greenroom_plugins.cartesia.stream import CartesiaTTS
from tests.plugins.cartesia.cases import make
from tests.plugins.cartesia.server import CartesiaServer
from tests.plugins.tones import read
from tests.providers.contract.case import FAULTS, SECRET, Fault

RATE = 24000
TEXT = "Hello there. What time is it? The quick brown fox jumps over a lazy dog! "


@pytest.fixture
async def server() -> AsyncIterator[CartesiaServer]:
    async with CartesiaServer().started() as server:
        yield server


@pytest.fixture
async def tts(server: CartesiaServer) -> AsyncIterator[TTS]:
    tts = make(server.url)
    yield tts
    await tts.aclose()


class TestCartesia(TTSContract):
    @pytest.fixture
    def provider(self, tts: TTS) -> TTS:
        return tts

    @pytest.fixture
    def failing(self, server: CartesiaServer) -> TTS:
        return make(server.url, key="sk-another-key")


async def given(*parts: str) -> AsyncIterator[str]:
    for part in parts:
        yield part


async def spoken(tts: TTS, *parts: str) -> list[SynthesizedAudio]:
    async with asyncio.timeout(30), aclosing(tts.synthesize(given(*parts))) as pieces:
        return [piece async for piece in pieces]


def words(pieces: list[SynthesizedAudio]) -> list[str]:
    """The words that are heard."""
    return [one.word for one in read(np.concatenate([piece.frame.pcm for piece in pieces]), RATE)]


def plain(text: str) -> list[str]:
    return [word.strip(".,!?").lower() for word in text.split()]


async def failure(tts: TTS, *parts: str) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await spoken(tts, *(parts or (TEXT,)))
    return caught.value


# --- what is said -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("named", ["before", "beside", "after", "never"])
async def test_every_word_is_heard_once(named: Literal["before", "beside", "after", "never"]) -> None:
    async with CartesiaServer(named=named).started() as server:
        tts = make(server.url)
        pieces = await spoken(tts, TEXT)
        await tts.aclose()
    assert words(pieces) == plain(TEXT)
    assert "".join(piece.text for piece in pieces) == TEXT
    aligned = {"before": 15, "beside": 15, "after": 12, "never": 1}[named]
    assert sum(piece.aligned for piece in pieces) >= aligned


async def test_words_begin_where_the_frames_are_cut(tts: TTS) -> None:
    pieces = await spoken(tts, TEXT)
    heard = read(np.concatenate([piece.frame.pcm for piece in pieces]), RATE)
    at, begun = 0, []
    for piece in pieces:
        if piece.text:
            assert piece.aligned
            begun.append((piece.text.strip(" .,!?").lower(), at / RATE))
        at += len(piece.frame.pcm)
    assert [word for word, _ in begun] == [one.word for one in heard]
    for (_, start), one in list(zip(begun, heard, strict=True))[1:]:
        assert start == pytest.approx(one.start, abs=0.011)  # as exactly as the reader reads


async def test_a_speech_is_one_context(server: CartesiaServer, tts: TTS) -> None:
    await spoken(tts, *TEXT)
    [context] = server.contexts
    assert context.text == TEXT
    assert [request["continue"] for request in context.requests] == [True, True, True, False]
    assert context.requests[0]["voice"] == {"mode": "id", "id": CartesiaOptions().voice}
    assert context.requests[0]["add_timestamps"] is True
    assert context.requests[0]["output_format"] == {"container": "raw", "encoding": "pcm_s16le", "sample_rate": RATE}


async def test_the_connection_is_kept_for_the_next_speech(server: CartesiaServer, tts: TTS) -> None:
    await tts.warm_up()
    for _ in range(3):
        assert words(await spoken(tts, "Hello there.")) == ["hello", "there"]
    assert server.connections == 1
    assert len(server.contexts) == 3
    await tts.aclose()
    await server.until(lambda: all(one.gone for one in server.spoke))


async def test_a_connection_that_ended_meanwhile_is_replaced(server: CartesiaServer, tts: TTS) -> None:
    await tts.warm_up()
    await server.until(lambda: server.spoke)
    await server.do(server.spoke[0].socket.close())
    assert words(await spoken(tts, TEXT)) == plain(TEXT)
    assert server.connections == 2


async def test_a_connection_that_is_too_old_is_not_used(server: CartesiaServer) -> None:
    tts = make(server.url, keep=0.0)
    await spoken(tts, "Hello.")
    await server.until(lambda: server.spoke[0].gone)
    await spoken(tts, "Hello.")
    assert server.connections == 2


async def test_an_interrupted_speech_is_cancelled_and_its_rest_is_not_heard(server: CartesiaServer, tts: TTS) -> None:
    server.pace = 0.2
    async with aclosing(tts.synthesize(given("one " * 60))) as pieces:
        await anext(pieces)
    await server.until(lambda: server.under_way == 0)
    assert server.spoke[0].cancelled == [server.contexts[0].id]
    assert words(await spoken(tts, "two three. ")) == ["two", "three"]
    assert server.connections == 1


async def test_speeches_at_the_same_time_have_a_connection_each(server: CartesiaServer, tts: TTS) -> None:
    server.pace = 0.2
    one, other = await asyncio.gather(spoken(tts, "one two three."), spoken(tts, "four five six."))
    assert (words(one), words(other)) == (["one", "two", "three"], ["four", "five", "six"])
    assert server.connections == 2


async def test_a_pause_in_the_text_begins_a_new_context(
    server: CartesiaServer, tts: TTS, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cartesia_stream, "PAUSE", 0.05)

    async def halting() -> AsyncIterator[str]:
        yield "Hello there. "
        await server.until(lambda: server.contexts and server.under_way == 0)  # a tool has been called, say
        yield "One two three. "

    async with asyncio.timeout(30), aclosing(tts.synthesize(halting())) as pieces:
        made = [piece async for piece in pieces]
    assert words(made) == ["hello", "there", "one", "two", "three"]
    assert [context.text for context in server.contexts] == ["Hello there. ", "One two three. "]
    assert all(piece.aligned for piece in made if piece.text)


async def test_text_is_not_sent_far_ahead_of_what_is_spoken(tts: TTS, server: CartesiaServer) -> None:
    taken: list[str] = []

    async def endless() -> AsyncIterator[str]:
        while True:
            taken.append("one two three four five six. ")
            yield taken[-1]

    server.pace = 1.0
    async with aclosing(tts.synthesize(endless())) as pieces:
        for _ in range(5):
            await anext(pieces)
    assert sum(map(len, taken)) < 2 * cartesia_stream.UNSPOKEN


async def test_a_long_text_is_spoken_to_its_end_though_no_word_is_named() -> None:
    text = "one two three four five six seven eight nine ten. " * 23
    async with CartesiaServer(named="never", pace=0.0).started() as server:
        tts = make(server.url, patience=0.6)
        pieces = await spoken(tts, text)
        await tts.aclose()
    assert words(pieces) == plain(text)


async def test_without_timestamps_words_have_no_place(server: CartesiaServer) -> None:
    tts = make(server.url, timestamps=False)
    pieces = await spoken(tts, TEXT)
    await tts.aclose()
    assert words(pieces) == plain(TEXT)
    assert not any(piece.text for piece in pieces)


async def test_sentences_are_told_as_they_are_sent(tts: TTS) -> None:
    told: list[int] = []
    token = SENTENCE_BEGUN.set(lambda: told.append(1))
    try:
        await spoken(tts, TEXT)
    finally:
        SENTENCE_BEGUN.reset(token)
    assert len(told) == 3


async def test_a_text_that_fails_fails_the_speech(server: CartesiaServer, tts: TTS) -> None:
    async def failing() -> AsyncIterator[str]:
        yield "Hello there. "
        raise LookupError("the model has failed")

    with pytest.raises(LookupError):
        async with asyncio.timeout(5), aclosing(tts.synthesize(failing())) as pieces:
            _ = [piece async for piece in pieces]
    await server.until(lambda: server.under_way == 0)


# --- what goes wrong --------------------------------------------------------------------------------------------------

AGAIN: dict[Fault, bool] = {
    "401": False,
    "403": False,
    "404": False,
    "429": True,
    "500": True,
    "503": True,
    "stall": True,
    "cut": True,
    "silence": True,
    "malformed": True,
    "expired_key": False,
}


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_is_told_and_the_next_speech_is_spoken(server: CartesiaServer, fault: Fault, warm: bool) -> None:
    tts = make(server.url, patience=0.6)
    if warm:
        await tts.warm_up()
    server.order(fault)
    error = await failure(tts)
    assert error.provider == "cartesia"
    assert error.retryable is AGAIN[fault]
    assert error.retry_after == (2.0 if fault in ("429", "503") and not warm else None)
    assert SECRET not in f"{error} {error!r} {error.__cause__} {error.__context__!r}"
    assert words(await spoken(tts, TEXT)) == plain(TEXT)
    await tts.aclose()
    await server.until(lambda: server.under_way == 0 and all(one.gone for one in server.spoke))


async def test_silence_is_told_before_anything_was_handed_on(server: CartesiaServer, tts: TTS) -> None:
    server.order("silence")
    heard: list[SynthesizedAudio] = []

    async def listen() -> None:
        async with aclosing(tts.synthesize(given(TEXT))) as pieces:
            async for piece in pieces:
                heard.append(piece)  # noqa: PERF401  # what came before it fails counts

    with pytest.raises(ProviderError, match="of silence came instead of a voice"):
        await listen()
    assert heard == []


async def test_a_short_silence_is_told_too(server: CartesiaServer, tts: TTS) -> None:
    server.order("silence")
    assert "it made no sound of the text" in str(await failure(tts, "Hello."))


async def test_a_key_that_is_quoted_is_masked(server: CartesiaServer) -> None:
    server.key = "another"
    tts = make(server.url)
    assert SECRET not in str(await failure(tts))


async def test_nobody_is_there() -> None:
    error = await failure(make("http://127.0.0.1:9"))
    assert error.retryable
    assert "127.0.0.1 cannot be reached" in str(error)


# --- options ----------------------------------------------------------------------------------------------------------


def test_what_is_not_asked_for_is_not_sent() -> None:
    assert "generation_config" not in CartesiaOptions().request
    asked = CartesiaOptions(speed=1.2, emotion="calm", pronunciation="p1", language="").request
    assert asked["generation_config"] == {"speed": 1.2, "emotion": "calm"}
    assert asked["pronunciation_dict_id"] == "p1"
    assert "language" not in asked


def test_the_key_is_of_the_environment_where_none_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARTESIA_API_KEY", SECRET)
    built = registry.build("tts", ProviderSettings("cartesia", {"sample_rate": 16000}))
    assert isinstance(built, CartesiaTTS)
    assert built.sample_rate == 16000
    assert SECRET not in repr(CartesiaOptions(api_key=SECRET))


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({}, ("api_key",)),
        ({"api_key": "k", "base_url": "cartesia.ai"}, ("base_url",)),
        ({"api_key": "k", "speed": 3}, ("speed",)),
        ({"api_key": "k", "sample_rate": 12345}, ("sample_rate",)),
        ({"api_key": "k", "voices": "x"}, ("voices",)),
    ],
)
def test_wrong_options_are_refused(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], path: tuple[str, ...]
) -> None:
    monkeypatch.delenv("CARTESIA_API_KEY", raising=False)
    with pytest.raises(PluginError) as caught:
        registry.check("tts", "cartesia", options)
    assert caught.value.path == path
