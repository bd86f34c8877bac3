"""The way to the media server: its address, its clock, and whether it takes our credentials."""

from __future__ import annotations

import asyncio
import ssl
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final

import aiohttp
from yarl import URL

from greenroom.clock import wall
from greenroom.doctor.findings import Finding, note, right, wrong
from greenroom.errors import SettingsError
from greenroom.server.link import agent_url, mint_worker_token
from greenroom.settings import ServerSettings

__all__ = ["Reached", "clock", "credentials", "reach"]

TIMEOUT: Final = 5.0
NO_TOKEN: Final = "none"  # noqa: S105
LONGEST: Final = 2000
"""Bytes of an answer that are looked at."""
NOTABLE_SKEW: Final = 5.0
AHEAD: Final = 55.0
"""Seconds that our clock may be ahead: the server takes a token that begins within 60 seconds of its own time."""
BEHIND: Final = 600.0
"""Seconds that our clock may be behind: a worker's token lives for 10 minutes, and the server forgives one more."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    text: str
    date: str


@dataclass(frozen=True, slots=True)
class Reached:
    """``livekit``: it answers as a LiveKit server does. ``skew``: seconds that our clock is ahead of its clock."""

    livekit: bool
    skew: float | None


async def reach(session: aiohttp.ClientSession, server: ServerSettings) -> tuple[Finding, Reached | None]:
    """Whether something answers there, and what. ``None``: nothing does."""
    topic = "server"
    try:
        base = _base(server)
    except SettingsError as error:
        return wrong(topic, f"server.url: {error.message}", mend="write it as wss://calls.example.com"), None
    began, asked = time.monotonic(), wall()
    try:
        front, agents = await _get(session, base), await _get(session, base / "agent", token=NO_TOKEN)
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        text, mend = _unreachable(error, base)
        return wrong(topic, f"{base}: {text}", mend=mend), None
    took = (time.monotonic() - began) / 2
    skew = _skew(front.date, asked=asked, took=took)
    # A LiveKit server looks at a token before it finds that this is no websocket; others know no such path.
    if agents.status == 401:
        return right(topic, f"{base} answers in {took * 1000:.0f} ms"), Reached(True, skew)
    text = f"{base}: what answers is no LiveKit server (HTTP {front.status}, and {agents.status} for {base / 'agent'})"
    mend = "server.url is the address of the LiveKit server, with the path that a proxy in front of it expects"
    return wrong(topic, text, mend=mend), Reached(False, skew)


def clock(reached: Reached) -> Finding:
    """Whether the two clocks agree well enough for tokens."""
    topic, skew = "clock", reached.skew
    if skew is None:
        return note(topic, "the server does not say what time it has")
    how = f"this machine's clock is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} the server's"
    mend = "set both by NTP (timedatectl set-ntp true)"
    if skew > AHEAD or skew < -BEHIND:
        return wrong(topic, f"{how}: it refuses our tokens as {'not valid yet' if skew > 0 else 'expired'}", mend=mend)
    if abs(skew) > NOTABLE_SKEW:
        return note(topic, how, mend=mend)
    return right(topic, "agrees with the server's")


async def credentials(session: aiohttp.ClientSession, server: ServerSettings, reached: Reached) -> Finding:
    """Whether the server takes a worker's token that is made with our key and secret."""
    topic, key = "credentials", server.api_key
    try:
        answer = await _get(session, _base(server) / "agent", token=mint_worker_token(server))
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        return wrong(topic, f"no answer ({_short(error)})", mend="try again")
    if answer.status == 404:  # it knows the path for websockets only, and the token was looked at before
        return right(topic, f"api_key {key} and its secret are accepted")
    # The server's own words hold our token: they are looked at, never shown.
    said = answer.text.lower()
    if "api key" in said:
        return wrong(
            topic, f"the server does not know api_key {key}", mend="use a key of `keys` in the server's settings"
        )
    if "signature" in said:
        mend = f"set server.api_secret, or LIVEKIT_API_SECRET, to what stands beside {key} in the server's `keys`"
        return wrong(topic, f"api_secret is not the one that belongs to api_key {key}", mend=mend)
    if "expired" in said or "not valid yet" in said:
        when = "expired" if "expired" in said else "not valid yet"
        return wrong(topic, f"the server takes a fresh token for {when}", mend="set both clocks by NTP")
    return wrong(topic, f"the server answers HTTP {answer.status} to api_key {key}", mend="see the server's log")


async def _get(session: aiohttp.ClientSession, url: URL, *, token: str = "") -> Answer:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with asyncio.timeout(TIMEOUT), session.get(url, headers=headers, allow_redirects=False) as answer:
        body = await answer.content.read(LONGEST)
        return Answer(answer.status, body.decode(errors="replace"), answer.headers.get("Date", ""))


def _base(server: ServerSettings) -> URL:
    """The server's address for HTTP."""
    address = agent_url(server.url)
    return address.with_scheme({"ws": "http", "wss": "https"}[address.scheme]).parent


def _skew(date: str, *, asked: float, took: float) -> float | None:
    try:
        told = parsedate_to_datetime(date).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None
    # The header's time is cut to a whole second, and was written some time between question and answer.
    return asked + took / 2 - (told + 0.5)


def _unreachable(error: BaseException, base: URL) -> tuple[str, str]:
    """What went wrong, and its mend."""
    match error:
        case aiohttp.ClientConnectorDNSError():
            return f"no host of the name {base.host} is known", "correct server.url, or this machine's DNS"
        case aiohttp.ClientConnectorCertificateError():
            return (
                f"its certificate is not accepted ({_short(error.certificate_error)})",
                "a certificate for this name, of an authority that this machine trusts (SSL_CERT_FILE)",
            )
        case aiohttp.ClientSSLError() | ssl.SSLError():
            return "it does not speak TLS there", "ws:// instead of wss:// in server.url, or the port that has TLS"
        case TimeoutError():
            return (
                f"no answer within {TIMEOUT:g} s",
                f"let TCP port {base.port} through the firewalls between this machine and the server",
            )
        case aiohttp.ClientConnectorError() if isinstance(error.os_error, ConnectionRefusedError):
            return (
                f"nothing listens on port {base.port}",
                "start the server, or correct the port in server.url (LiveKit's own is 7880)",
            )
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientOSError() if base.scheme == "http":
            return f"the connection is cut ({_short(error)})", "wss:// in server.url, if the server is behind TLS"
        case _:
            return _short(error), "correct server.url"


def _short(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:200]
