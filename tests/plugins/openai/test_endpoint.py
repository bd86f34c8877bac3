"""Addresses and keys, and the client's connections."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import pytest

from greenroom.errors import ProviderError
from greenroom.providers import LLM, ChatContext, OptionError, registry
from greenroom.settings import ProviderSettings
from greenroom.testing.contract.llm import conversation
from greenroom_plugins.openai.endpoint import Client, locate
from greenroom_plugins.openai.llm import OpenAILLM
from greenroom_plugins.openai.options import LLMOptions, TTSOptions
from greenroom_plugins.openai.tts import OpenAITTS
from tests.plugins.openai.cases import NOWHERE
from tests.plugins.openai.server import OpenAIServer
from tests.providers.contract.case import SECRET

KEYS = {"OPENAI_API_KEY": "sk-openai-key", "GROQ_API_KEY": "gsk_groq-key"}


@pytest.mark.parametrize(
    ("options", "environ", "url", "key"),
    [
        ({}, KEYS, "https://api.openai.com/v1", "sk-openai-key"),
        ({"api_key": "mine"}, KEYS, "https://api.openai.com/v1", "mine"),
        ({}, {**KEYS, "OPENAI_BASE_URL": "http://h:1/v1/"}, "http://h:1/v1", "sk-openai-key"),
        (
            {"base_url": "http://h:1/v1"},
            {**KEYS, "OPENAI_BASE_URL": "http://h:1/v1/"},
            "http://h:1/v1",
            "sk-openai-key",
        ),
        # A key goes to nobody but its owner.
        ({"base_url": "http://h:1/v1"}, KEYS, "http://h:1/v1", ""),
        ({"base_url": "http://h:1/v1"}, {**KEYS, "OPENAI_BASE_URL": "http://h:2/v1"}, "http://h:1/v1", ""),
        ({"base_url": "https://api.groq.com/openai/v1"}, KEYS, "https://api.groq.com/openai/v1", "gsk_groq-key"),
        ({"base_url": "http://h:1/v1", "profile": "groq"}, KEYS, "http://h:1/v1", "gsk_groq-key"),
        ({"base_url": "http://localhost:11434/v1"}, {}, "http://localhost:11434/v1", ""),
    ],
)
def test_a_key_goes_to_whom_it_belongs(options: dict[str, Any], environ: dict[str, str], url: str, key: str) -> None:
    endpoint = locate(LLMOptions(**options), environ=environ)
    assert (endpoint.url, endpoint.key) == (url, key)


@pytest.mark.parametrize(
    ("options", "environ", "path", "words"),
    [
        ({}, {}, ("api_key",), "no key for api.openai.com; expected it here or in OPENAI_API_KEY"),
        ({"base_url": "https://api.groq.com/openai/v1"}, {}, ("api_key",), "or in GROQ_API_KEY"),
        ({"base_url": "api.openai.com"}, {}, ("base_url",), "not an address; expected https://HOST/v1"),
        ({"base_url": "ws://h/v1"}, {}, ("base_url",), "not an address"),
        ({"base_url": "http://h:99999/v1"}, {}, ("base_url",), "not an address"),
        ({"base_url": "http://me:hunter2@h/v1"}, {}, ("base_url",), "a user or a password in it"),
        ({"base_url": "http://h/v1?key=hunter2"}, {}, ("base_url",), "a query or a fragment"),
        ({}, {"OPENAI_BASE_URL": "nowhere"}, ("base_url",), "not an address (of OPENAI_BASE_URL)"),
        ({"base_url": "http://h/v1", "api_version": "2024-10-21"}, {}, ("api_version",), "only Azure has it"),
    ],
)
def test_a_wrong_endpoint_is_reported_with_its_key(
    options: dict[str, Any], environ: dict[str, str], path: tuple[str, ...], words: str
) -> None:
    with pytest.raises(OptionError) as caught:
        locate(LLMOptions(**options), environ=environ)
    assert caught.value.path == path
    assert words in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_the_settings_are_checked_before_anything_is_loaded() -> None:
    with pytest.raises(OptionError, match=r"no key for api\.openai\.com"):
        registry.check("llm", "openai", {})
    with pytest.raises(OptionError, match="unknown key"):
        registry.check("tts", "openai", {"base_url": NOWHERE, "temprature": 1})
    with pytest.raises(OptionError, match="profile"):
        registry.check("stt", "openai", {"base_url": NOWHERE, "profile": "acme"})
    for kind in ("llm", "stt", "tts"):
        provider = registry.build(kind, ProviderSettings("openai", {"base_url": NOWHERE}))
        assert isinstance(provider, registry.KINDS[kind])


def test_no_secret_is_shown() -> None:
    options = LLMOptions(base_url=NOWHERE, api_key=SECRET, headers={"X-Token": SECRET}, model="m")
    endpoint = locate(options)
    for shown in (repr(options), repr(endpoint), repr(options.__rich_repr__()), str(options)):
        assert SECRET not in shown
    assert repr(options) == f"LLMOptions(base_url='{NOWHERE}', api_key=***, headers=***, model='m')"


async def asked(provider: LLM, context: ChatContext | None = None) -> None:
    async with aclosing(provider.chat(context or conversation("Be brief.", "Hello?"))) as chunks:
        async for _ in chunks:
            pass


async def test_the_key_and_the_headers_are_sent(
    server: OpenAIServer, llm: Callable[..., OpenAILLM], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-secret")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-secret")
    await asked(llm(headers={"X-Title": "The Blue Door"}))
    sent = server.asked[-1].headers
    assert sent["authorization"] == f"Bearer {SECRET}"
    assert sent["x-title"] == "The Blue Door"
    # Whom one works for is OpenAI's business alone.
    assert not [name for name in sent if name in ("openai-organization", "openai-project")]
    await asked(llm(profile="openai"))
    assert server.asked[-1].headers["openai-organization"] == "org-secret"


async def test_without_a_key_none_is_sent(
    server: OpenAIServer, llm: Callable[..., OpenAILLM], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    await asked(llm(api_key=""))
    assert "authorization" not in server.asked[-1].headers


async def test_azure_has_its_own_header(server: OpenAIServer, llm: Callable[..., OpenAILLM]) -> None:
    await asked(llm(profile="azure"))
    assert server.asked[-1].headers["api-key"] == SECRET


async def test_azures_older_interface(closing: Any) -> None:
    """The deployment is in the path and the version in the query: as the client sends it."""
    seen: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        provider = OpenAILLM(
            LLMOptions(
                base_url=f"http://127.0.0.1:{port}",
                api_key=SECRET,
                profile="azure",
                api_version="2024-10-21",
                model="house",
            )
        )
        closing.push_async_callback(provider.aclose)
        with pytest.raises(ProviderError, match="HTTP 401"):
            await asked(provider)
    assert seen[0].startswith("POST /openai/deployments/house/chat/completions?api-version=2024-10-21 ")
    assert f"api-key: {SECRET}" in seen[0]


async def test_what_is_warm_is_used(server: OpenAIServer, llm: Callable[..., OpenAILLM]) -> None:
    provider = llm()
    await provider.warm_up()
    assert server.warmed_up == 1
    for _ in range(3):
        await asked(provider)
    assert len(server.connections) == 1
    assert len(server.asked) == 3


async def test_warming_up_sends_no_key_and_says_what_fails(server: OpenAIServer) -> None:
    client = Client(LLMOptions(base_url=server.url, api_key=SECRET))
    await client.warm_up()
    await client.aclose()
    nobody = Client(TTSOptions(base_url=NOWHERE, api_key=SECRET))
    with pytest.raises(ProviderError, match=r"no connection to 127.0.0.1:9") as caught:
        await nobody.warm_up()
    assert caught.value.retryable
    await nobody.aclose()


async def test_closing_is_not_the_end(server: OpenAIServer, llm: Callable[..., OpenAILLM]) -> None:
    provider = llm()
    await asked(provider)
    await provider.aclose()
    await provider.aclose()
    await asked(provider)
    assert len(server.connections) == 2


def test_one_provider_serves_one_loop_after_another() -> None:
    async def once(provider: OpenAITTS, server: OpenAIServer) -> int:
        async with server:
            provider._client.endpoint = locate(TTSOptions(base_url=server.url))
            provider._client._made = None
            async with aclosing(provider.speak("Hello there.")) as audio:
                samples = sum([len(frame.pcm) async for frame in audio])
            await provider.aclose()
            return samples

    provider = OpenAITTS(TTSOptions(base_url=NOWHERE))
    assert asyncio.run(once(provider, OpenAIServer())) > 0
    assert asyncio.run(once(provider, OpenAIServer())) > 0


async def test_one_that_is_made_in_no_loop_is_made_off_the_loop(llm: Callable[..., OpenAILLM]) -> None:
    provider = llm()
    await asyncio.gather(*(asked(provider) for _ in range(5)))  # who comes first makes the client, for all
    assert provider._client._made is not None
