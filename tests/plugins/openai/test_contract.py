"""What every provider has to keep, against the local server."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from greenroom.providers import LLM, STT, TTS, ChatContext
from greenroom.testing.contract import LLMContract, STTContract, TTSContract
from greenroom.testing.contract.llm import conversation
from greenroom_plugins.openai.llm import OpenAILLM
from greenroom_plugins.openai.stt import OpenAISTT
from greenroom_plugins.openai.tts import OpenAITTS
from tests.plugins.openai.cases import NOWHERE


class TestLLM(LLMContract):
    @pytest.fixture
    def provider(self, llm: Callable[..., OpenAILLM]) -> LLM:
        return llm()

    @pytest.fixture
    def failing(self, llm: Callable[..., OpenAILLM]) -> LLM:
        return llm(base_url=NOWHERE)

    @pytest.fixture
    def calling(self) -> ChatContext:
        return conversation("You are a friendly receptionist.", "What is the weather in Paris?")


class TestSTT(STTContract):
    @pytest.fixture(params=[False, True], ids=["whole", "streamed"])
    def provider(self, request: pytest.FixtureRequest, stt: Callable[..., OpenAISTT]) -> STT:
        return stt(stream=request.param)

    @pytest.fixture
    def failing(self, stt: Callable[..., OpenAISTT]) -> STT:
        return stt(base_url=NOWHERE)


class TestTTS(TTSContract):
    @pytest.fixture(params=["pcm", "wav"])
    def provider(self, request: pytest.FixtureRequest, tts: Callable[..., OpenAITTS]) -> TTS:
        return tts(response_format=request.param)

    @pytest.fixture
    def failing(self, tts: Callable[..., OpenAITTS]) -> TTS:
        return tts(base_url=NOWHERE)
