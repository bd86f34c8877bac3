"""Deepgram's stream against a server of its protocol: what is said is heard, whatever becomes of the connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest

from greenroom.audio import AudioFrame, silence
from greenroom.errors import ProviderError
from greenroom.providers import STT, PluginError, STTStream, Transcript, registry
from greenroom.settings import ProviderSettings
from greenroom.testing.contract import Speech, STTContract
from greenroom.testing.contract.speech import frames
from greenroom.testing.contract.stt import opened, say, words
from greenroom_plugins.deepgram import DeepgramOptions
from greenroom_plugins.deepgram import stream as deepgram_stream
from greenroom_plugins.deepgram.stream import DeepgramSTT
from greenroom_plugins.deepgram.wire import FINALIZE, KEEP_ALIVE
from tests.plugins.deepgram.cases import make, question
from tests.plugins.deepgram.server import DeepgramServer
from tests.plugins.tones import spell
from tests.providers.contract.case import FAULTS, SECRET, Fault

RATE = 16000
WORDS = "hello there what time is it"


@pytest.fixture
async def server() -> AsyncIterator[DeepgramServer]:
    async with DeepgramServer().started() as server:
        yield server


@pytest.fixture
def stt(server: DeepgramServer) -> STT:
    return make(server.url)


class TestDeepgram(STTContract):
    @pytest.fixture
    def provider(self, stt: STT) -> STT:
        return stt

    @pytest.fixture
    def speech(self) -> Speech:
        return question()

    @pytest.fixture
    def long_speech(self) -> Speech:
        text = " ".join(["the quick brown fox jumps over a lazy dog and goes on to find some water"] * 12)
        return Speech(spell(text, RATE)[0], text)

    @pytest.fixture
    def failing(self, server: DeepgramServer) -> STT:
        return make(server.url, key="sk-another-key")


def hearing(server: DeepgramServer, **options: Any) -> STT:
    return DeepgramSTT(DeepgramOptions(base_url=server.url, api_key=SECRET, **{"patience": 1.0, **options}))


async def heard(stream: STTStream, *, finals: int = 1, within: float = 20.0) -> list[Transcript]:
    """All that is heard until so many final transcripts have come; failures are read over, as a session does."""
    told: list[Transcript] = []
    async with asyncio.timeout(within):
        while True:
            try:
                async for transcript in stream:
                    told.append(transcript)
                    if sum(one.final for one in told) == finals:
                        return told
            except ProviderError:
                continue


async def failure(stream: STTStream) -> ProviderError:
    async def read() -> None:
        async for _ in stream:
            pass

    with pytest.raises(ProviderError) as caught:
        await asyncio.wait_for(read(), 20)
    return caught.value


@asynccontextmanager
async def listening(stream: STTStream, server: DeepgramServer) -> AsyncIterator[list[Transcript]]:
    """Somebody who reads what is heard, for as long as the block takes."""
    told: list[Transcript] = []

    async def read() -> None:
        async for transcript in stream:
            told.append(transcript)
            server.happened()

    reading = asyncio.create_task(read())
    try:
        yield told
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


# --- what is said -----------------------------------------------------------------------------------------------------


async def test_only_utterances_are_sent(server: DeepgramServer) -> None:
    async with opened(hearing(server, utterances="session")) as stream, listening(stream, server) as told:
        for frame in frames(silence(2.0, RATE).pcm, RATE):
            stream.push(frame)
        say(hearing(server), stream, "u1", question().audio, at=2.0)
        for frame in frames(silence(20.0, RATE).pcm, RATE, at=4.0):
            stream.push(frame)
        await server.until(lambda: any(one.final for one in told))
    [connection] = server.heard
    assert words(told[-1].text) == words(WORDS)
    assert connection.samples / RATE < question().audio.duration + 0.1
    assert connection.controls == [FINALIZE]
    assert min(connection.messages) > 0


async def test_words_come_while_they_are_spoken(server: DeepgramServer, stt: STT) -> None:
    async with opened(stt) as stream, listening(stream, server) as told:
        stream.start_of_speech("u1", at=0.0)
        for frame in frames(question().audio.pcm, RATE):
            stream.push(frame)
            await asyncio.sleep(0)
        await server.until(lambda: told and len(words(told[-1].text)) >= 5)
        assert not any(one.final for one in told)
        assert {one.utterance for one in told} == {"u1"}
        stream.end_of_speech("u1")
        await server.until(lambda: told[-1].final)
    assert words(told[-1].text) == words(WORDS)
    assert told[-1].language == "en"
    assert told[-1].confidence == pytest.approx(0.9)


async def test_without_a_voice_activity_deepgram_finds_the_utterances(server: DeepgramServer) -> None:
    async with opened(hearing(server)) as stream, listening(stream, server) as told:
        for sound in (question().audio, silence(2.0, RATE)):
            for frame in frames(sound.pcm, RATE):
                stream.push(frame)
                await asyncio.sleep(0)
        await server.until(lambda: told and told[-1].ended)
        assert " ".join(one.text for one in told if one.final).split() == words(WORDS)
        assert all(one.final for one in told)
        stream.end_of_speech("")  # there is nothing more, and that is said
        seen = len(told)
        await server.until(lambda: len(told) > seen)
        assert told[-1] == Transcript("", language="en")


async def test_interim_words_of_utterances_that_deepgram_finds(server: DeepgramServer) -> None:
    async with opened(hearing(server, utterances="own")) as stream, listening(stream, server) as told:
        for frame in frames(question().audio.pcm, RATE):
            stream.push(frame)
            await asyncio.sleep(0)
        await server.until(lambda: told)
        assert not told[0].final
        assert words(WORDS)[: len(words(told[0].text))] == words(told[0].text)


async def test_a_reader_who_is_slow_is_told_the_latest_only(stt: STT) -> None:
    def words_of(utterance: str, text: str, *, final: bool = False) -> Transcript:
        return Transcript(text, final, utterance)

    async with opened(stt) as stream:
        assert isinstance(stream, deepgram_stream.Stream)
        stream.tell([words_of("u1", "one"), words_of("u1", "one two")])
        stream.tell([words_of("u1", "one two three", final=True), words_of("u2", "four")])
        stream.tell([words_of("u2", "four five")])
        told = [await anext(aiter(stream)) for _ in range(2)]
    assert told == [words_of("u1", "one two three", final=True), words_of("u2", "four five")]


async def test_the_connection_is_kept_while_nobody_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deepgram_stream, "KEEP", 0.05)
    async with DeepgramServer(idle=0.5).started() as server:
        async with opened(hearing(server, utterances="session")) as hears, listening(hears, server) as told:
            await server.until(lambda: server.heard and len(server.heard[0].controls) >= 3)
            for frame in frames(silence(2.0, RATE).pcm, RATE):  # heard, and not sent
                hears.push(frame)
            kept = len(server.heard[0].controls)
            await server.until(lambda: len(server.heard[0].controls) > kept)
            say(hearing(server), hears, "u1", question().audio, at=2.0)
            await server.until(lambda: any(one.final for one in told))
        assert len(server.heard) == 1
        assert set(server.heard[0].controls) == {KEEP_ALIVE, FINALIZE}


async def test_a_connection_that_ended_unused_is_made_again_when_it_is_needed() -> None:
    async with DeepgramServer(idle=0.05).started() as server:
        async with opened(hearing(server, utterances="session")) as hears:
            reading = asyncio.create_task(heard(hears))
            await server.until(lambda: server.connections == 1 and server.under_way == 0)
            assert len(server.heard) == 1  # and not before
            say(hearing(server), hears, "u1", question().audio)
            told = await reading
            assert len(server.heard) == 2
        assert [one.text for one in told if one.final] == [WORDS]


async def test_a_server_that_does_not_answer_when_nothing_is_left(server: DeepgramServer) -> None:
    server.answers_finalize = False
    async with opened(hearing(server)) as stream:
        say(hearing(server), stream, "u1", AudioFrame(silence(0.1, RATE).pcm, RATE))
        assert (await heard(stream))[-1] == Transcript("", utterance="u1", language="en")
    assert len(server.heard) == 1


async def test_the_stream_ends_when_it_is_closed_while_it_connects(server: DeepgramServer) -> None:
    hears = hearing(server).stream()
    reading = asyncio.create_task(failure(hears))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await asyncio.wait_for(hears.aclose(), 5)
    with pytest.raises(pytest.fail.Exception):
        await asyncio.wait_for(reading, 5)


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
    "malformed": True,
    "expired_key": False,
}


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != "silence"])
async def test_a_fault_is_told_and_the_words_come_nevertheless(server: DeepgramServer, fault: Fault) -> None:
    server.order(fault)
    async with opened(hearing(server)) as stream:
        say(hearing(server), stream, "u1", question().audio)
        error = await failure(stream)
        assert error.provider == "deepgram"
        assert error.retryable is AGAIN[fault]
        assert error.retry_after == (2.0 if fault in ("429", "503") else None)
        assert SECRET not in f"{error} {error!r} {error.__cause__} {error.__context__!r}"
        told = await heard(stream)
    assert told[-1].final
    assert told[-1].utterance == "u1"
    assert words(told[-1].text) == words(WORDS)
    await server.until(lambda: server.under_way == 0)


async def test_words_that_were_final_are_not_asked_for_again(server: DeepgramServer) -> None:
    server.order("cut")
    server.cut_after = "final"
    text = " ".join([WORDS] * 3)
    async with opened(hearing(server)) as stream:
        stream.start_of_speech("u1", at=0.0)
        sound = spell(text, RATE)[0]
        for frame in frames(sound.pcm, RATE):
            stream.push(frame)
        stream.end_of_speech("u1")
        told = await heard(stream)
    assert words(told[-1].text) == words(text)
    assert len(server.heard) == 2
    assert server.heard[1].samples < len(sound.pcm)


async def test_silence_instead_of_words_is_no_failure(server: DeepgramServer) -> None:
    server.order("silence")
    async with opened(hearing(server)) as stream:
        say(hearing(server), stream, "u1", question().audio)
        say(hearing(server), stream, "u2", question().audio)
        told = await heard(stream, finals=2)
    assert [(one.utterance, one.text) for one in told if one.final] == [("u1", ""), ("u2", "")]


async def test_what_was_said_while_deepgram_was_away_is_heard_later(server: DeepgramServer) -> None:
    server.order("503", times=3)
    async with opened(hearing(server)) as stream:
        for name in ("u1", "u2"):
            await failure(stream)
            say(hearing(server), stream, name, question().audio)
        await failure(stream)
        finals = [one for one in await heard(stream, finals=2) if one.final]
    assert [(one.utterance, words(one.text)) for one in finals] == [("u1", words(WORDS)), ("u2", words(WORDS))]


async def test_a_server_that_stalls_twice_is_not_waited_for_again(server: DeepgramServer) -> None:
    server.order("stall", times=2)
    async with opened(hearing(server)) as stream:
        say(hearing(server), stream, "u1", question().audio)
        assert "says nothing" in str(await failure(stream))
        told = await heard(stream)
    assert told[-1] == Transcript("", utterance="u1", language="en")


async def test_a_failure_that_deepgram_tells_in_words_is_told(server: DeepgramServer) -> None:
    async with opened(hearing(server)) as stream, aclosing(aiter(stream)) as iterator:  # type: ignore[type-var]
        reading = asyncio.ensure_future(anext(iterator))
        await server.until(lambda: server.heard)
        await server.do(server.heard[0].socket.send_json({"type": "Error", "description": f"no such thing, {SECRET}"}))
        with pytest.raises(ProviderError, match=r"it fails: no such thing, \*\*\*"):
            await reading


async def test_what_the_plugin_does_not_know_is_ignored(server: DeepgramServer) -> None:
    async with opened(hearing(server)) as stream, listening(stream, server) as told:
        await server.until(lambda: server.heard)
        for message in ({"type": "Metadata"}, {"type": "SpeechStarted", "timestamp": 1.0}, {"type": "News", "x": 1}):
            await server.do(server.heard[0].socket.send_json(message))
        say(hearing(server), stream, "u1", question().audio)
        await server.until(lambda: any(one.final for one in told))
    assert len(server.heard) == 1


@pytest.mark.parametrize("code", [1008, 1011])
async def test_why_the_connection_ended_is_told(server: DeepgramServer, code: int) -> None:
    async with opened(hearing(server)) as stream, aclosing(aiter(stream)) as iterator:  # type: ignore[type-var]
        reading = asyncio.ensure_future(anext(iterator))
        await server.until(lambda: server.heard)
        await server.do(server.heard[0].socket.close(code=code, message=b"DATA-0000"))
        with pytest.raises(ProviderError, match=f"{code}, DATA-0000") as caught:
            await reading
        assert caught.value.retryable is (code == 1011)


async def test_nobody_is_there() -> None:
    async with opened(make("http://127.0.0.1:9")) as stream:
        error = await failure(stream)
    assert error.retryable
    assert "127.0.0.1 cannot be reached" in str(error)


async def test_who_never_answers_is_not_waited_for_longer_than_asked() -> None:
    async def nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(nothing, "127.0.0.1", 0) as listener:
        url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        stt = DeepgramSTT(DeepgramOptions(base_url=url, api_key=SECRET, connect_timeout=0.1))
        async with opened(stt) as stream:
            error = await failure(stream)
        assert str(error) == "deepgram: 127.0.0.1 did not answer within 0.1 s"


async def test_warming_up_says_whether_deepgram_is_there(server: DeepgramServer, stt: STT) -> None:
    await stt.warm_up()
    await server.until(lambda: server.under_way == 0)
    with pytest.raises(ProviderError, match="the key is refused"):
        await make(server.url, key="sk-another-key").warm_up()


# --- options ----------------------------------------------------------------------------------------------------------


async def test_what_deepgram_is_asked_for(server: DeepgramServer) -> None:
    stt = hearing(
        server,
        model="nova-2",
        language="de",
        keyterms=("Blue Door", "Ann"),
        endpointing=0.5,
        parameters={"mip_opt_out": "true", "filler_words": "false"},
    )
    async with opened(stt) as stream, listening(stream, server):
        await server.until(lambda: server.heard)
    asked = server.heard[0].query
    assert asked["model"] == "nova-2"
    assert asked["language"] == "de"
    assert asked["encoding"] == "linear16"
    assert asked["sample_rate"] == "16000"
    assert asked["endpointing"] == "500"
    assert asked["utterance_end_ms"] == "1000"
    assert asked["filler_words"] == "false"
    assert asked["mip_opt_out"] == "true"


def test_the_key_is_of_the_environment_where_none_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPGRAM_API_KEY", SECRET)
    built = registry.build("stt", ProviderSettings("deepgram"))
    assert isinstance(built, DeepgramSTT)
    assert built.sample_rate == RATE
    assert SECRET not in repr(DeepgramOptions(api_key=SECRET))


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({}, ("api_key",)),
        ({"api_key": "two words"}, ("api_key",)),
        ({"api_key": "k", "base_url": "deepgram.com"}, ("base_url",)),
        ({"api_key": "k", "endpointing": 0}, ("endpointing",)),
        ({"api_key": "k", "utterances": "mine"}, ("utterances",)),
        ({"api_key": "k", "modell": "x"}, ("modell",)),
    ],
)
def test_wrong_options_are_refused(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], path: tuple[str, ...]
) -> None:
    monkeypatch.delenv("DEEPGRAM_API_KEY", raising=False)
    with pytest.raises(PluginError) as caught:
        registry.check("stt", "deepgram", options)
    assert caught.value.path == path
