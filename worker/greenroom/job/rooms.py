"""Asks the media server whether a room is still there: joining one that was deleted would make it anew."""

from __future__ import annotations

import http.client
import json
from contextlib import closing
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from greenroom.errors import LinkLost
from greenroom.job.tokens import api_token

if TYPE_CHECKING:
    from greenroom.settings import ServerSettings

__all__ = ["RoomFound", "find_room"]

TIMEOUT = 2.0
"""Seconds for the answer; without one the room is joined, and what comes of that is the answer."""
LARGEST = 1024 * 1024
_METHOD = "/twirp/livekit.RoomService/ListRooms"


@dataclass(frozen=True, slots=True)
class RoomFound:
    """``participants``: in it, agents not counted. ``created``: when, on the server's clock, in seconds since 1970."""

    sid: str
    participants: int
    created: float = 0.0


def find_room(server: ServerSettings, name: str) -> RoomFound | None:
    """The room of this name; ``None`` when there is none. Blocks: for a thread. Raises ``LinkLost`` without an answer.

    Without aiohttp: its import alone takes longer than the question.
    """
    address = urlsplit(server.url)
    secure = address.scheme in ("wss", "https")
    kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    headers = {"Authorization": f"Bearer {api_token(server, {'roomList': True})}", "Content-Type": "application/json"}
    try:
        with closing(kind(address.hostname or "", address.port, timeout=TIMEOUT)) as connection:
            path = address.path.rstrip("/") + _METHOD
            connection.request("POST", path, json.dumps({"names": [name]}), headers)
            answer = connection.getresponse()
            status, body = answer.status, answer.read(LARGEST)
    except (OSError, http.client.HTTPException) as error:
        raise LinkLost(f"the server was asked for its rooms: {str(error) or type(error).__name__}") from None
    if status != HTTPStatus.OK:
        raise LinkLost(f"the server was asked for its rooms, and answered {status}")
    return _found(body, name)


def _found(body: bytes, name: str) -> RoomFound | None:
    try:
        rooms: list[dict[str, Any]] = json.loads(body).get("rooms", [])
        room = next((room for room in rooms if room["name"] == name), None)
        if room is None:
            return None
        count = room.get("num_participants", room.get("numParticipants", 0))
        created = room.get("creation_time", room.get("creationTime", 0))
        return RoomFound(str(room.get("sid", "")), int(count), float(created))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LinkLost(f"the server was asked for its rooms, and answered something else: {error}") from None
