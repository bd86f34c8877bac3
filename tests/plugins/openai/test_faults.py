"""All that can be wrong with an endpoint, for each kind: what the caller of the provider is told, and what not."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, get_args

import pytest

from greenroom.errors import ProviderError
from greenroom.providers import Provider, Transcript
from greenroom.testing.contract.llm import conversation
from greenroom.testing.contract.speech import buzz
from greenroom_plugins.openai.errors import LONGEST, _retry_after
from greenroom_plugins.openai.llm import OpenAILLM
from greenroom_plugins.openai.stt import OpenAISTT
from greenroom_plugins.openai.tts import OpenAITTS
from tests.plugins.openai.server import OpenAIServer
from tests.providers.contract.case import FAULTS, SECRET, Fault

Use = Callable[..., Callable[[], Any]]


@pytest.fixture(params=["llm", "stt", "stt, streamed", "tts"])
def use(request: pytest.FixtureRequest) -> tuple[str, Use]:
    """The kind, and what makes a provider with some options, ready to be used."""
    kind = str(request.param)
    make = request.getfixturevalue(kind[:3])

    def provider(**options: Any) -> Callable[[], Any]:
        made: Provider = make(**options, **({"stream": True} if "streamed" in kind else {}))
        return lambda: used(made)

    return kind, provider


async def used(provider: Provider) -> object:
    if isinstance(provider, OpenAILLM):
        async with aclosing(provider.chat(conversation("Be kind.", "Hello?"))) as chunks:
            return [chunk async for chunk in chunks]
    if isinstance(provider, OpenAISTT):
        return await provider.recognize(buzz(1.0, 16000))
    assert isinstance(provider, OpenAITTS)
    async with aclosing(provider.speak("Hello there, and welcome.")) as audio:
        return [frame async for frame in audio]


TOLD: dict[Fault, tuple[bool, str]] = {
    "401": (False, "HTTP 401"),
    "403": (False, "HTTP 403"),
    "404": (False, "HTTP 404"),
    "429": (True, "HTTP 429"),
    "500": (True, "HTTP 500"),
    "503": (True, "HTTP 503"),
    "stall": (True, "has gone silent"),
    "cut": (True, "broke"),
    "silence": (True, ""),
    "malformed": (True, ""),
    "expired_key": (False, "HTTP 401 from"),
}


def test_every_fault_is_in_the_table() -> None:
    assert set(TOLD) == set(FAULTS) == set(get_args(Fault))


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_is_told_and_the_next_request_goes_well(
    server: OpenAIServer, use: tuple[str, Use], fault: Fault
) -> None:
    kind, provider = use
    attempt = provider(patience=1.0) if fault == "stall" else provider()
    server.order(fault)
    if fault == "silence" and kind.startswith("stt"):
        assert (await attempt()).text == ""  # nobody spoke: no fault
    else:
        with pytest.raises(ProviderError) as caught:
            async with asyncio.timeout(30):
                await attempt()
        error = caught.value
        retryable, words = TOLD[fault]
        assert (error.provider, error.retryable) == ("openai", retryable), error
        assert words in str(error)
        # What a log would show of it, chained errors and all.
        assert SECRET not in "".join(traceback.format_exception(error))
        assert error.retry_after == {"429": 0.02, "503": 0.0}.get(fault)
        assert len(str(error)) < LONGEST + 20
    assert await attempt()
    await asyncio.wait_for(server.idle(), 20.0)


async def test_nobody_is_asked_twice(server: OpenAIServer, use: tuple[str, Use]) -> None:
    """Trying again is for whoever knows what the caller has heard already."""
    server.order("500", times=2)
    with pytest.raises(ProviderError):
        await use[1]()()
    assert len(server.asked) == 1


async def test_a_wrong_key_is_told_without_it(server: OpenAIServer, use: tuple[str, Use]) -> None:
    server.key = "sk-another-key-than-that"
    with pytest.raises(ProviderError, match="Incorrect API key provided") as caught:
        await use[1]()()
    assert SECRET not in str(caught.value)
    assert "***" in str(caught.value)


async def test_no_more_quota_is_not_a_matter_of_time(server: OpenAIServer, use: tuple[str, Use]) -> None:
    server.refuse(lambda body: True, status=429, message="You exceeded your current quota.", code="insufficient_quota")
    with pytest.raises(ProviderError, match="exceeded your current quota") as caught:
        await use[1]()()
    assert not caught.value.retryable


async def test_an_answer_without_headers_in_time(llm: Callable[..., OpenAILLM], closing: Any) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()  # until the client goes
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        provider = llm(base_url=f"http://127.0.0.1:{port}/v1", patience=0.1)
        with pytest.raises(ProviderError, match="has gone silent") as caught:
            await used(provider)
        assert caught.value.retryable
        await provider.aclose()


async def test_a_connection_that_closes_before_the_answer(llm: Callable[..., OpenAILLM]) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        with pytest.raises(ProviderError, match=r"the connection to 127.0.0.1:\d+ broke") as caught:
            await used(llm(base_url=f"http://127.0.0.1:{port}/v1"))
    assert caught.value.retryable


async def test_a_host_that_nobody_knows(llm: Callable[..., OpenAILLM]) -> None:
    with pytest.raises(ProviderError, match=r"no connection to nobody\.invalid") as caught:
        await used(llm(base_url="http://nobody.invalid/v1"))
    assert caught.value.retryable


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "2"}, 2.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "2", "retry-after-ms": "150"}, 0.15),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "1.2.3"}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
    ],
)
def test_how_long_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    assert _retry_after(headers) == seconds


def test_how_long_to_wait_until_a_date() -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    assert _retry_after({"retry-after": date}) == pytest.approx(30, abs=3)


async def test_one_stream_goes_on_after_a_fault(server: OpenAIServer, stt: Callable[..., OpenAISTT]) -> None:
    """As the session reads it: it iterates again, and the utterance is tried once more."""
    stream = stt(stream=True).stream()
    server.order("500")
    heard: list[Transcript] = []

    async def read() -> None:
        async for transcript in stream:
            heard.append(transcript)
            if transcript.final:
                return

    stream.start_of_speech("u1", at=0.0)
    stream.push(buzz(1.0, 16000))
    stream.end_of_speech("u1")
    with pytest.raises(ProviderError):
        await read()
    await read()
    await stream.aclose()
    assert (heard[-1].text, heard[-1].utterance) == ("hello there", "u1")


async def texts(*parts: str) -> AsyncIterator[str]:
    for part in parts:
        yield part


async def test_a_fault_in_the_second_sentence_comes_after_the_first(
    server: OpenAIServer, tts: Callable[..., OpenAITTS]
) -> None:
    samples = 0

    async def hear() -> None:
        nonlocal samples
        async with aclosing(tts().synthesize(texts("This is the first. ", "This is the second. "))) as pieces:
            async for piece in pieces:
                if not samples:
                    server.order("503")
                samples += len(piece.frame.pcm)

    with pytest.raises(ProviderError, match="HTTP 503"):
        await hear()
    assert samples > 24000 * 0.5
