"""What is not heard to its end leaves nothing that the garbage collector would have to finish."""

from __future__ import annotations

import asyncio
import gc
import inspect
from collections.abc import Callable, Iterator
from contextlib import aclosing

import pytest

from greenroom_plugins.openai.llm import OpenAILLM
from greenroom_plugins.openai.stt import OpenAISTT
from greenroom_plugins.openai.tts import OpenAITTS
from tests.plugins.openai.server import OpenAIServer, Said
from tests.plugins.openai.test_llm import CONTEXT
from tests.plugins.openai.test_stt import SPEECH


@pytest.fixture(autouse=True)
def _nothing_is_collected() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def halfway(until: Callable[[list[str]], bool] = lambda left: not left) -> list[str]:
    """The client's generators that have begun and not ended, once there are none, or else after a second."""
    left: list[str] = []
    for _ in range(50):
        generators = (one for one in gc.get_objects() if inspect.isasyncgen(one) and one.ag_frame is not None)
        left = sorted(one.__qualname__ for one in generators if "site-packages" in one.ag_code.co_filename)
        if until(left):
            break
        await asyncio.sleep(0.02)
    return left


async def test_an_answer_that_is_broken_off(server: OpenAIServer, llm: Callable[..., OpenAILLM]) -> None:
    server.brain = lambda body: Said("word " * 5000)
    async with aclosing(llm().chat(CONTEXT)) as chunks:
        await anext(chunks)
        assert len(await halfway(until=bool)) > 5
    assert await halfway() == []


async def test_an_answer_whose_reader_is_cancelled(server: OpenAIServer, llm: Callable[..., OpenAILLM]) -> None:
    server.brain, server.gap = lambda body: Said("word " * 5000), 1.0

    async def listen() -> None:
        async with aclosing(llm().chat(CONTEXT)) as chunks:
            async for _ in chunks:
                pass

    listening = asyncio.create_task(listen())
    assert len(await halfway(until=lambda left: len(left) > 5)) > 5
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
    assert await halfway() == []


async def test_a_transcript_that_comes_in_pieces(server: OpenAIServer, stt: Callable[..., OpenAISTT]) -> None:
    heard = await stt(stream=True, model="gpt-4o-transcribe").recognize(SPEECH)
    assert heard.text
    assert await halfway() == []


async def test_a_speech_that_is_broken_off(server: OpenAIServer, tts: Callable[..., OpenAITTS]) -> None:
    async with aclosing(tts().speak("word " * 50)) as frames:
        await anext(frames)
    assert await halfway() == []
