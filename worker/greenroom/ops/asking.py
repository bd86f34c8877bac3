"""Asking a worker: the other end of ``ops.admin``, for the commands."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import aiohttp
import msgspec

from greenroom.directories import run_dir
from greenroom.errors import GreenroomError
from greenroom.ops.admin import SOCKET
from greenroom.ops.facts import Status
from greenroom.settings import WorkerSettings

__all__ = ["Door", "NoWorker", "ask_drain", "ask_status", "doors", "open_door"]

SERVICE_DIR = Path("/run/greenroom")
"""Where systemd puts the run directory of the unit that comes along: known to the service, not to who types."""
TIMEOUT = 10.0


class NoWorker(GreenroomError):
    """No worker answers there."""


@dataclass(frozen=True, slots=True)
class Door:
    """Where a worker may be asked: on a socket, or at an address."""

    socket: Path | None = None
    url: str = "http://worker"
    token: str = field(default="", repr=False)

    def __str__(self) -> str:
        return str(self.socket) if self.socket is not None else self.url


def doors(worker: WorkerSettings | None, environ: Mapping[str, str]) -> tuple[Door, ...]:
    """Where a worker with these settings is asked, the best first; without settings: where one is by default."""
    if worker is None:
        return Door(run_dir(environ) / SOCKET), Door(SERVICE_DIR / SOCKET)
    folder = Path(worker.run_dir) if worker.run_dir else run_dir(environ)
    found = [Door(folder / SOCKET)]
    if not worker.run_dir:
        found.append(Door(SERVICE_DIR / SOCKET))
    if worker.admin.enabled and worker.admin.port:
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(worker.admin.host, worker.admin.host)  # noqa: S104
        shown = f"[{host}]" if ":" in host else host
        found.append(Door(url=f"http://{shown}:{worker.admin.port}", token=worker.admin.token))
    return tuple(found)


async def open_door(candidates: tuple[Door, ...]) -> tuple[Door, Status]:
    """The first door behind which a worker answers, and its answer. Raises ``NoWorker``."""
    tried = []
    for door in candidates:
        try:
            return door, await ask_status(door)
        except NoWorker as error:
            tried.append(str(error))
    raise NoWorker("; ".join(tried))


async def ask_status(door: Door, *, timeout: float = TIMEOUT) -> Status:
    """What the worker says of itself. Raises ``NoWorker``, and ``GreenroomError`` for an answer that is none."""
    return _status(door, *await _ask(door, "GET", "/status", timeout=timeout))


async def ask_drain(door: Door, *, now: bool = False, timeout: float = TIMEOUT) -> Status:
    """Have the worker drain. Raises as ``ask_status`` does, and when the worker does not take it from us."""
    return _status(door, *await _ask(door, "POST", f"/drain{'?now=true' if now else ''}", timeout=timeout))


async def _ask(door: Door, method: Literal["GET", "POST"], path: str, *, timeout: float) -> tuple[int, bytes]:
    connector = aiohttp.UnixConnector(os.fspath(door.socket)) if door.socket is not None else aiohttp.TCPConnector()
    headers = {"Authorization": f"Bearer {door.token}"} if door.token else {}
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=timeout)) as session,
            session.request(method, f"{door.url.rstrip('/')}{path}", headers=headers, allow_redirects=False) as answer,
        ):
            return answer.status, await answer.read()
    except TimeoutError:
        raise NoWorker(f"{door}: no answer within {timeout:g} s") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        number = error.errno if isinstance(error, OSError) else None
        reason = os.strerror(number) if number else f"{type(error).__name__}: {error}"
        raise NoWorker(f"{door}: {reason}") from None


def _status(door: Door, code: int, body: bytes) -> Status:
    if code >= 400:
        raise GreenroomError(f"{door}: {_error(body)} (HTTP {code})")
    try:
        return msgspec.json.decode(body, type=Status)
    except msgspec.MsgspecError:
        raise GreenroomError(f"{door}: not a worker's answer; expected a greenroom worker") from None


def _error(body: bytes) -> str:
    try:
        return str(msgspec.json.decode(body, type=dict[str, str]).get("error", ""))
    except msgspec.MsgspecError:
        return body[:200].decode(errors="replace").strip()
