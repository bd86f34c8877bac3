"""Where requests go, with which key, and the client that makes them.

A key from the environment goes only to whom it belongs: ``OPENAI_API_KEY`` to OpenAI itself and to what
``OPENAI_BASE_URL`` names, a vendor's own variable to that vendor.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from greenroom.errors import ProviderError
from greenroom.providers import OptionError
from greenroom_plugins.openai.errors import PROVIDER, translated
from greenroom_plugins.openai.options import EndpointOptions
from greenroom_plugins.openai.profiles import PROFILES, Profile, profile_of

if TYPE_CHECKING:
    import httpx2
    from openai import AsyncOpenAI, AsyncStream

__all__ = ["Client", "Endpoint", "locate", "reading"]

OPENAI = "https://api.openai.com/v1"
_SHORTEST_SECRET = 4


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address and what is needed there. ``key`` is empty where none is."""

    url: str
    profile: Profile
    key: str = field(default="", repr=False)
    api_version: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def host(self) -> str:
        """For messages."""
        return urlsplit(self.url).netloc

    @property
    def secrets(self) -> tuple[str, ...]:
        """What no message may hold. Shorter values would mask ordinary words."""
        return tuple(value for value in (self.key, *self.headers.values()) if len(value) >= _SHORTEST_SECRET)

    def translated(self) -> AbstractContextManager[None]:
        """Raises what fails within as a ``ProviderError`` that names the host and holds no secret."""
        return translated(self.host, self.secrets)


def locate(options: EndpointOptions, *, environ: Mapping[str, str] | None = None) -> Endpoint:
    """The endpoint that the options and the environment name. Raises ``OptionError``."""
    environ = os.environ if environ is None else environ
    theirs = environ.get("OPENAI_BASE_URL", "")
    url = (options.base_url or theirs or OPENAI).rstrip("/")
    problem = _problem(url)
    if problem:
        source = "" if options.base_url else " (of OPENAI_BASE_URL)"
        raise OptionError(f"{problem}{source}; expected https://HOST/v1 or http://HOST:PORT/v1", path=("base_url",))
    profile = PROFILES[options.profile] if options.profile else profile_of(url)
    variables = [profile.key_variable] if profile.key_variable else []
    if theirs and url == theirs.rstrip("/"):
        variables.append("OPENAI_API_KEY")
    key = next(filter(None, (options.api_key, *(environ.get(name, "") for name in variables))), "")
    if profile.needs_key and not key:
        where = " or ".join(variables)
        raise OptionError(f"no key for {urlsplit(url).netloc}; expected it here or in {where}", path=("api_key",))
    if options.api_version and profile.name != "azure":
        raise OptionError("only Azure has it; expected nothing, or profile: azure", path=("api_version",))
    return Endpoint(url, profile, key, options.api_version, options.headers)


def _problem(url: str) -> str:
    """Why this is no endpoint's address; never shows what may be a password."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "not an address"
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        return "not an address"
    if "@" in parts.netloc:
        return "an address with a user or a password in it"
    return "an address with a query or a fragment" if parts.query or parts.fragment else ""


class Client:
    """The official client, made when it is first needed, and anew on another event loop.

    It never tries twice by itself: what to do about a failure is decided where all providers' failures are.
    """

    def __init__(self, options: EndpointOptions) -> None:
        self.endpoint = locate(options)
        self._options = options
        self._making = threading.Lock()
        self._made: tuple[httpx2.AsyncClient, AsyncOpenAI] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def load(self) -> None:
        """Import and make it. Blocks: certificates are read."""
        with self._making:
            if self._made is None:
                self._made = self._make()

    async def ready(self) -> AsyncOpenAI:
        """The client, for this loop."""
        return (await self._ready())[1]

    async def warm_up(self) -> None:
        """Have a connection open. Any answer will do, so no key is sent. Raises ``ProviderError``."""
        with self.endpoint.translated():
            http, _ = await self._ready()
            await http.head(self.endpoint.url, follow_redirects=False)

    async def aclose(self) -> None:
        """Close the connections. What is asked for after that opens others."""
        made, self._made = self._made, None
        loop, self._loop = self._loop, None
        if made is not None and loop in (None, asyncio.get_running_loop()):
            await made[0].aclose()

    async def _ready(self) -> tuple[httpx2.AsyncClient, AsyncOpenAI]:
        loop = asyncio.get_running_loop()
        if self._loop not in (None, loop):
            self._made = None  # its connections belong to a loop that is gone
        while (made := self._made) is None:
            await asyncio.to_thread(self.load)
        self._loop = loop
        return made

    def _make(self) -> tuple[httpx2.AsyncClient, AsyncOpenAI]:
        try:
            import httpx2
            import openai
        except ImportError as error:
            raise ProviderError(f"{error}; pip install 'greenroom[openai]'", provider=PROVIDER) from error
        options, endpoint = self._options, self.endpoint
        timeout = httpx2.Timeout(options.patience, connect=options.connect_timeout)
        limits = httpx2.Limits(keepalive_expiry=options.keepalive, max_keepalive_connections=8)
        http = openai.DefaultAsyncHttpx2Client(
            timeout=timeout, limits=limits, event_hooks={"request": [_withholding(endpoint)]}
        )
        headers: dict[str, Any] = dict(endpoint.headers)
        common: dict[str, Any] = {"timeout": timeout, "max_retries": 0, "http_client": http}
        if endpoint.api_version:
            azure = openai.AsyncAzureOpenAI(
                azure_endpoint=endpoint.url,
                api_version=endpoint.api_version,
                api_key=endpoint.key,
                default_headers=headers,
                **common,
            )
            return http, _complete(azure)
        if endpoint.profile.name == "azure":
            headers = {"api-key": endpoint.key, **headers}
        client = openai.AsyncOpenAI(
            base_url=endpoint.url, api_key=endpoint.key or "none", default_headers=headers, **common
        )
        return http, _complete(client)


@asynccontextmanager
async def reading(stream: AsyncStream[Any]) -> AsyncIterator[AsyncStream[Any]]:
    """A streamed answer that leaves nothing behind when it is not read to its end.

    Its ``close()`` gives the connection back, and leaves ten generators halfway, in a cycle with the stream: the
    garbage collector would finish them, at any time and in any thread, while the event loop finishes some of them
    itself (``ValueError: async generator already executing``). So the outermost is closed here, and the others follow.
    """
    outermost: Any = getattr(stream, "_iterator", None)  # private: a client without it is one to look at again
    try:
        yield stream
    finally:
        try:
            if outermost is not None:
                await outermost.aclose()
        finally:
            await stream.close()


def _complete(client: AsyncOpenAI) -> AsyncOpenAI:
    """With what the client imports and builds at the first request, for which the event loop would be held."""
    from openai.types.audio import Transcription
    from openai.types.chat import ChatCompletionChunk

    _ = client.chat.completions, client.audio.transcriptions, client.audio.speech
    for answer in (ChatCompletionChunk, Transcription):
        answer.model_rebuild()
    return client


def _withholding(endpoint: Endpoint) -> Callable[[httpx2.Request], Awaitable[None]]:
    """Takes from each request what the client adds by itself and this endpoint is not to see: a made-up key, and for
    whom one works at OpenAI, which the client knows from the environment."""
    names = [] if endpoint.key else ["Authorization"]
    if endpoint.profile.name != "openai":
        names += ["OpenAI-Organization", "OpenAI-Project"]
    names = [name for name in names if name.lower() not in {given.lower() for given in endpoint.headers}]

    async def withhold(request: httpx2.Request) -> None:
        for name in names:
            request.headers.pop(name, None)

    return withhold
