"""A client's websocket whose failures are ``ProviderError``."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

import aiohttp
from yarl import URL

from greenroom.errors import ProviderError
from greenroom_plugins.remote.failure import refusal, retry_after, without

__all__ = ["Address", "Ended", "WebSocket"]

_LARGEST = 16 * 1024 * 1024  # bytes, of one message
_FAREWELL = 0.1  # seconds that the other side is given to say goodbye
_ABNORMAL = 1006


class Ended(Exception):
    """The other side has ended the connection, or it broke (1006). ``reason``: in the other side's words."""

    def __init__(self, code: int, reason: str = "") -> None:
        self.code = code
        self.reason = reason
        super().__init__(f"{code} {reason}".strip())


@dataclass(frozen=True, slots=True)
class Address:
    """Where to connect and as whom.

    ``provider``: the plugin's name, for errors. ``secret``: never shown, should the other side quote it. ``within``:
    seconds that connecting may take. ``explained``: headers of a refusal that say why, the first that is there counts.
    ``heartbeat``: seconds between pings that find a dead connection; only for a socket that is always being read.
    """

    url: str
    provider: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    secret: str = field(default="", repr=False)
    within: float = 5.0
    explained: tuple[str, ...] = ()
    heartbeat: float | None = None


class WebSocket:
    """One connection. ``receive`` and ``send`` raise ``Ended`` when there is none any more."""

    def __init__(self, session: aiohttp.ClientSession, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._session = session
        self._socket = socket

    @classmethod
    async def connect(cls, address: Address) -> WebSocket:
        """Raises ``ProviderError``; one that is retryable where the same address may be reached later."""
        url = URL(address.url)
        # A proxy of the environment is for the world outside, not for a server without TLS next door.
        session = aiohttp.ClientSession(trust_env=url.scheme in ("https", "wss"))
        connected = False
        try:
            async with asyncio.timeout(address.within):
                socket = await session.ws_connect(
                    url,
                    headers=dict(address.headers),
                    heartbeat=address.heartbeat,
                    max_msg_size=_LARGEST,
                    timeout=aiohttp.ClientWSTimeout(ws_close=_FAREWELL),
                )
            connected = True
            return cls(session, socket)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            failure = _unreachable(error, address)
        finally:
            if not connected:
                await session.close()
        raise failure  # out here, without what it came from: that holds the request, and the key in it

    @property
    def closed(self) -> bool:
        return self._socket.closed

    async def receive(self) -> str | bytes:
        """The next message. May be cancelled and called again without losing one."""
        message = await self._socket.receive()
        if message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
            data: str | bytes = message.data
            return data
        if message.type is aiohttp.WSMsgType.CLOSE:
            raise Ended(int(message.data), str(message.extra or ""))
        raise Ended(self._socket.close_code or _ABNORMAL)

    async def send(self, message: str | bytes) -> None:
        """Hand a message over; waits while the other side takes nothing."""
        try:
            if isinstance(message, str):
                await self._socket.send_str(message)
            else:
                await self._socket.send_bytes(message)
        except (ConnectionError, aiohttp.ClientError) as error:
            raise Ended(self._socket.close_code or _ABNORMAL) from error

    async def aclose(self) -> None:
        """Close at once, whatever the other side does."""
        try:
            await self._socket.close()
        finally:
            await self._session.close()


def _unreachable(error: BaseException, address: Address) -> ProviderError:
    """The error for a connection that was not made."""
    if isinstance(error, aiohttp.WSServerHandshakeError):
        headers: Mapping[str, str] = error.headers or {}
        said = next((headers[name] for name in address.explained if headers.get(name)), "")
        return refusal(error.status, said, provider=address.provider, secret=address.secret, after=retry_after(headers))
    host = URL(address.url).host or "it"
    if isinstance(error, TimeoutError):
        told, again = f"{host} did not answer within {address.within:g} s", True
    elif isinstance(error, aiohttp.InvalidURL | ValueError):
        told, again = f"{host} is not an address to connect to", False
    else:
        told, again = without(address.secret, f"{host} cannot be reached: {error}"), True
    return ProviderError(told, provider=address.provider, retryable=again)
