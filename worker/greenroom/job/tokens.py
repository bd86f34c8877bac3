"""A job's token made anew, without LiveKit's client for the server, whose import would hold a call up."""

from __future__ import annotations

import base64
import binascii
import hmac
import json
from typing import TYPE_CHECKING, Any

from greenroom.clock import wall

if TYPE_CHECKING:
    from greenroom.jobs.ipc import JobInfo
    from greenroom.settings import ServerSettings

__all__ = ["agent_token", "api_token", "issued", "outlives"]

LIFE = 3600.0
"""Seconds that a token holds. Once in a room, the server renews it by itself."""
LEEWAY = 10.0
"""Seconds by which clocks may differ."""


def agent_token(job: JobInfo, server: ServerSettings) -> str:
    """A token for the job's room with all that its own says, and a life of its own."""
    claims = _claims(job.token) or {
        "sub": job.identity,
        "kind": "agent",
        "attributes": job.attributes,
        "video": {
            "room": job.room,
            "roomJoin": True,
            "agent": True,
            "canPublish": True,
            "canSubscribe": True,
            "canPublishData": True,
            "canUpdateOwnMetadata": True,
        },
    }
    return _signed(claims, server)


def api_token(server: ServerSettings, grants: dict[str, Any]) -> str:
    """A token for a request to the server's API."""
    return _signed({"video": grants}, server)


def outlives(token: str, seconds: float) -> bool:
    """Whether a token holds for so long; ``True`` for one that does not say it, of which only the server knows."""
    expires = _claims(token).get("exp")
    return not isinstance(expires, int | float) or expires - wall() > seconds


def issued(token: str) -> float | None:
    """When a token was made, on the issuer's clock, seconds since the epoch; ``None`` where it does not say that."""
    claims = _claims(token)
    when = claims.get("iat", claims.get("nbf"))
    return float(when) if isinstance(when, int | float) else None


def _claims(token: str) -> dict[str, Any]:
    """What a token says, unchecked: the server is who has to believe it. Empty when it is no such token."""
    parts = token.split(".")
    if len(parts) != 3:
        return {}
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (binascii.Error, ValueError):
        return {}
    return claims if isinstance(claims, dict) else {}


def _signed(claims: dict[str, Any], server: ServerSettings) -> str:
    now = int(wall())
    times = {"iss": server.api_key, "nbf": int(now - LEEWAY), "exp": int(now + LIFE)}
    told = {key: value for key, value in claims.items() if key not in ("iat", "jti")} | times
    body = f"{_encoded({'alg': 'HS256', 'typ': 'JWT'})}.{_encoded(told)}"
    digest = hmac.digest(server.api_secret.encode(), body.encode(), "sha256")
    return f"{body}.{_base64(digest)}"


def _encoded(value: dict[str, Any]) -> str:
    return _base64(json.dumps(value, separators=(",", ":")).encode())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
