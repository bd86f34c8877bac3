"""A dispatch of our own: a worker that nobody else asks for, and a room that calls it.

The worker registers under a name made for this once, and refuses what it is offered, so no call is touched. The token
of the room's one participant asks for that worker, in place of the agents that the server would call by itself.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import aiohttp
from livekit.api.livekit_api import LiveKitAPI
from livekit.api.twirp_client import TwirpError
from livekit.protocol.room import DeleteRoomRequest

from greenroom.doctor.findings import Finding, note, right, wrong
from greenroom.errors import Rejected
from greenroom.redaction import redact
from greenroom.server.dispatch import mint_user_token
from greenroom.server.events import Answer, LinkState, Offer, Refusal
from greenroom.server.link import Link, Registration
from greenroom.settings import ServerSettings

if TYPE_CHECKING:
    from livekit import rtc

__all__ = ["PREFIX", "Probe"]

PREFIX: Final = "greenroom-doctor-"
"""Of the names of the worker and of the room."""
REGISTERED_WITHIN: Final = 10.0
JOINED_WITHIN: Final = 20.0
OFFERED_WITHIN: Final = 10.0
"""A burst of other dispatches may hold ours up for some seconds."""
SLOW_OFFER: Final = 3.0
OLDEST: Final = (1, 8)
"""The server's version that brought dispatches by name."""
TESTED: Final = (1, 13)
API_TIMEOUT: Final = 5.0


class Probe:
    """One examination's. The methods are called in this order: ``register``, ``dispatch``, ``aclose``."""

    def __init__(self, server: ServerSettings) -> None:
        self.name = f"{PREFIX}{secrets.token_hex(4)}"
        self._server = server
        self._asked = asyncio.Event()
        self._registered = asyncio.Event()
        self._offered: float | None = None
        self._room_made = False
        self._link = Link(
            server,
            Registration(self.name, "", "room"),
            decide=self._decide,
            start=lambda assignment: None,
            end=lambda job_id, reason: None,
            give_up=lambda job_id: None,
            on_state=self._state_changed,
        )
        self._running: asyncio.Task[None] | None = None

    async def register(self) -> list[Finding]:
        """As a worker does."""
        topic = "registering"
        began = time.monotonic()
        self._running = asyncio.create_task(self._link.run(), name="probe")
        registered = asyncio.create_task(self._registered.wait())
        try:
            await asyncio.wait((self._running, registered), timeout=REGISTERED_WITHIN, return_when="FIRST_COMPLETED")
        finally:
            registered.cancel()
        if self._running.done():
            try:
                self._running.result()
                problem = "the connection ended"
            except Rejected as error:
                problem = str(error)
            return [wrong(topic, f"no worker is let in: {problem}", mend="correct the path in server.url")]
        if not self._registered.is_set():
            text = f"no worker could be registered within {REGISTERED_WITHIN:g} s, though the server answers"
            mend = "have proxies in front of the server pass websockets on, at the path /agent too"
            return [wrong(topic, text, mend=mend)]
        self._link.set_capacity(1, 1)
        took = (time.monotonic() - began) * 1000
        return [right(topic, f"a worker is registered in {took:.0f} ms"), _version(self._link.server_version)]

    async def dispatch(self) -> list[Finding]:
        """A room that asks for our worker, entered as a caller enters it."""
        began = time.monotonic()
        joined = await self._join()
        with suppress(TimeoutError):
            async with asyncio.timeout(OFFERED_WITHIN if not joined.mend else 0.0):
                await self._asked.wait()
        return [joined, *self._dispatched(began, joined)]

    async def aclose(self) -> None:
        """Nothing of it is left on the server."""
        if self._running is not None:
            await self._link.aclose()
            await asyncio.gather(self._running, return_exceptions=True)
        if self._room_made:
            await self._delete_room()

    def _dispatched(self, began: float, joined: Finding) -> list[Finding]:
        topic = "dispatching"
        if self._offered is None:
            if joined.mend:
                return []  # there was no room that could have asked for it
            text = f"the server did not offer a job to a worker that is registered, within {OFFERED_WITHIN:g} s"
            mend = "see the server's log; nodes of a cluster have to share one Redis"
            return [wrong(topic, text, mend=mend)]
        took = self._offered - began
        text = f"a room that asks for a worker reaches it, {took * 1000:.0f} ms after somebody began to join"
        if took > SLOW_OFFER:
            mend = "look for workers that answer offers late or never: each holds the others up for 3 seconds"
            return [note(topic, text, mend=mend)]
        return [right(topic, text)]

    async def _join(self) -> Finding:
        from livekit import rtc  # the media client, which only this needs

        topic = "media"
        token = mint_user_token(self._server, room=self.name, identity="doctor", agent_name=self.name)
        room = rtc.Room()
        began = time.monotonic()
        try:
            async with asyncio.timeout(JOINED_WITHIN):
                await self._connect(room, token)
        except (rtc.ConnectError, TimeoutError) as error:
            text = redact(str(error)) or f"no connection within {JOINED_WITHIN:g} s"
            mend = (
                "open the server's media ports to callers and workers (rtc.udp_port or rtc.port_range_*, and "
                "rtc.tcp_port), and have it name an address that they reach (rtc.node_ip, rtc.use_external_ip)"
            )
            return wrong(topic, f"a room is not entered: {text}", mend=mend)
        finally:
            await room.disconnect()
        return right(topic, f"a room is entered, with its media, in {(time.monotonic() - began) * 1000:.0f} ms")

    async def _connect(self, room: rtc.Room, token: str) -> None:
        from livekit import rtc

        self._room_made = True
        await room.connect(self._server.url, token, rtc.RoomOptions(connect_timeout=JOINED_WITHIN / 2))

    def _decide(self, offer: Offer) -> Answer:
        self._offered = time.monotonic()
        self._asked.set()
        return Refusal("an examination")

    def _state_changed(self, state: LinkState) -> None:
        if state is LinkState.REGISTERED:
            self._registered.set()

    async def _delete_room(self) -> None:
        """It would be gone by itself in a while."""
        limit = aiohttp.ClientTimeout(total=API_TIMEOUT)
        async with LiveKitAPI(self._server.url, self._server.api_key, self._server.api_secret, timeout=limit) as api:
            with suppress(TwirpError, aiohttp.ClientError, OSError, TimeoutError):
                await api.room.delete_room(DeleteRoomRequest(room=self.name))


def _version(version: str) -> Finding:
    topic = "version"
    found = re.match(r"(\d+)\.(\d+)", version)
    if found is None:
        return note(topic, f"LiveKit server of version {version or 'unknown'}")
    number = int(found[1]), int(found[2])
    if number < OLDEST:
        return wrong(topic, f"LiveKit server {version} knows no agents by name", mend="update it to 1.8 or newer")
    if number < TESTED:
        return note(topic, f"LiveKit server {version}; greenroom is tested with 1.13", mend="update it")
    return right(topic, f"LiveKit server {version}")
