"""The local server, and providers that are closed after a test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any, TypeAlias, TypeVar

import pytest
import pytest_asyncio

from greenroom.providers import Provider
from greenroom_plugins.openai.endpoint import Client
from greenroom_plugins.openai.llm import OpenAILLM
from greenroom_plugins.openai.options import LLMOptions, STTOptions, TTSOptions
from greenroom_plugins.openai.stt import OpenAISTT
from greenroom_plugins.openai.tts import OpenAITTS
from tests.plugins.openai.cases import NOWHERE
from tests.plugins.openai.server import OpenAIServer
from tests.providers.contract.case import SECRET

P = TypeVar("P", bound=Provider)
Keep: TypeAlias = Callable[[P], P]
Make: TypeAlias = Callable[..., Any]


@pytest.fixture(scope="session", autouse=True)
def _imported() -> None:
    """The client's import takes seconds on a busy machine, which no test of timeouts is to wait for."""
    Client(LLMOptions(base_url=NOWHERE)).load()


@pytest.fixture(autouse=True)
def _nothing_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "AZURE_OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest_asyncio.fixture
async def server() -> AsyncIterator[OpenAIServer]:
    async with OpenAIServer(gap=0.001) as server:
        yield server


@pytest_asyncio.fixture
async def closing() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


def _made(options: dict[str, Any], server: OpenAIServer) -> dict[str, Any]:
    return {"base_url": server.url, "api_key": SECRET, "patience": 20.0, **options}


@pytest.fixture
def llm(server: OpenAIServer, closing: AsyncExitStack) -> Callable[..., OpenAILLM]:
    def make(**options: Any) -> OpenAILLM:
        provider = OpenAILLM(LLMOptions(**_made(options, server)))
        closing.push_async_callback(provider.aclose)
        return provider

    return make


@pytest.fixture
def stt(server: OpenAIServer, closing: AsyncExitStack) -> Callable[..., OpenAISTT]:
    def make(**options: Any) -> OpenAISTT:
        provider = OpenAISTT(STTOptions(**_made(options, server)))
        closing.push_async_callback(provider.aclose)
        return provider

    return make


@pytest.fixture
def tts(server: OpenAIServer, closing: AsyncExitStack) -> Callable[..., OpenAITTS]:
    def make(**options: Any) -> OpenAITTS:
        provider = OpenAITTS(TTSOptions(**_made(options, server)))
        closing.push_async_callback(provider.aclose)
        return provider

    return make
