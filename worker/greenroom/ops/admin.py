"""The admin surface: what probes, Prometheus and operators ask a worker, answered from the daemon's own loop.

======================  ==============================================================================================
``GET /healthz``        200 while the worker is sound, 503 with reasons when it has to be started anew; no answer at all
                        from a loop that is stuck
``GET /readyz``         200 while a call would be taken, 503 with reasons when not; ``?agent=NAME``: for one agent;
                        ``?full=true``: a worker whose slots are all taken is ready too
``GET /metrics``        for Prometheus
``GET /status``         the whole of ``Status``; to strangers without callers and paths
``POST /drain``         take no more calls, stop when those that go on have ended; ``?now=true``: end them
``POST /handover``      start a new daemon in this one's place, as SIGUSR2 does; on the socket only
======================  ==============================================================================================

It is there twice: on a socket in the run directory, which nobody else can open, and on TCP. Over TCP whoever asks is a
stranger unless they show the token; where none is set, everybody on this machine is trusted while the address is
loopback, and nobody when it is not. Pages in a browser are always strangers.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import hmac
import ipaddress
import os
import re
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec
import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from greenroom.errors import GreenroomError, SettingsError
from greenroom.ops.facts import Facts, Reason, Status, unhealthy, unready
from greenroom.ops.metrics import Metrics
from greenroom.settings import AdminSettings

__all__ = ["SOCKET", "Admin", "is_loopback"]

SOCKET: Final = "admin.sock"
RETRY: Final = 1.0
"""Seconds between attempts to get a port that is taken."""
KEEPALIVE: Final = 75.0
MAX_BODY: Final = 4096
CLOSE_TIMEOUT: Final = 1.0

_LOOPBACK = re.compile(r"(?:127(?:\.\d{1,3}){3}|localhost|\[::1\])(?::\d{1,5})?")

log = structlog.get_logger(__name__)


def is_loopback(host: str) -> bool:
    """Whether an address to listen on can be reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Admin:
    """One worker's surface. ``run_dir``: where its socket is. Made and used on the daemon's loop."""

    def __init__(self, settings: AdminSettings, facts: Facts, *, metrics: Metrics, run_dir: Path) -> None:
        self.path = run_dir / SOCKET
        self._settings = settings
        self._facts = facts
        self._metrics = metrics
        self._runners: list[web.AppRunner] = []
        self._ours: tuple[int, int] | None = None
        self._port = 0
        self._retry: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The TCP port that it listens on; 0 while it does not."""
        return self._port

    async def start(self) -> None:
        """Listen on the socket, and on TCP as soon as the port is free: a worker without probes is better than none.

        Raises ``SettingsError`` when the socket cannot be made, or the address is none of this machine's.
        """
        await self._serve(_bound(self.path), trusted=True)
        self._ours = _identity(self.path)
        if not self._settings.enabled:
            return
        host = self._settings.host
        if not is_loopback(host) and not self._settings.token:
            log.warning("admin without token", host=host, closed="rooms in /status, /drain", mend="worker.admin.token")
        if not await self._listen():
            log.warning("admin port taken", host=host, port=self._settings.port, retry=RETRY)
            self._retry = asyncio.create_task(self._listen_later(), name="admin port")

    async def aclose(self) -> None:
        """Stop answering. The socket's file goes, unless a new daemon has put its own in its place."""
        if self._retry is not None:
            self._retry.cancel()
            with suppress(asyncio.CancelledError):
                await self._retry
        self._remove()
        for runner in self._runners:
            await runner.cleanup()
        self._runners.clear()
        self._port = 0

    def _remove(self) -> None:
        if self._ours is not None:
            with _alone_in(self.path.parent):
                if _identity(self.path) == self._ours:
                    self.path.unlink(missing_ok=True)
        self._ours = None

    async def _listen_later(self) -> None:
        try:
            while True:
                await asyncio.sleep(RETRY)
                if await self._listen():
                    return
        except SettingsError as error:
            log.error("admin does not listen", error=str(error))

    async def _listen(self) -> bool:
        """Listen on TCP; false while the port is taken."""
        host, port = self._settings.host, self._settings.port
        try:
            # Resolved by the loop's own threads: a name that no server answers for must not hold calls up.
            found = await asyncio.get_running_loop().getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            listening = socket.create_server(found[0][4][:2], family=found[0][0], backlog=128)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            problem = f"cannot listen on {host}:{port} ({error.strerror}); expected an address of this machine"
            raise SettingsError(problem, key="worker.admin") from error
        listening.setblocking(False)
        self._port = listening.getsockname()[1]
        await self._serve(listening, trusted=False)
        log.info("admin listens", host=host, port=self._port)
        return True

    async def _serve(self, listening: socket.socket, *, trusted: bool) -> None:
        """Answer on a socket that listens, and close it in the end."""
        runner = web.AppRunner(
            self._app(trusted=trusted), access_log=None, keepalive_timeout=KEEPALIVE, shutdown_timeout=CLOSE_TIMEOUT
        )
        self._runners.append(runner)
        try:
            await runner.setup()
            await web.SockSite(runner, listening).start()
        except BaseException:
            listening.close()
            raise

    def _app(self, *, trusted: bool) -> web.Application:
        guard = _Guard(self._settings, trusted=trusted)
        app = web.Application(middlewares=[_plain_errors()], client_max_size=MAX_BODY)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._show_metrics)
        app.router.add_get("/status", guard.told(self._status))
        app.router.add_post("/drain", guard.only(self._drain))
        if trusted:
            app.router.add_post("/handover", self._handover)
        return app

    # --- answers ------------------------------------------------------------------------------------------------------

    async def _healthz(self, request: web.Request) -> web.Response:
        status = self._facts.status()
        return _verdict(status, unhealthy(status), good="healthy", bad="unhealthy")

    async def _readyz(self, request: web.Request) -> web.Response:
        status = self._facts.status().public()
        reasons = unready(status, agent=request.query.get("agent"), full=_yes(request, "full"))
        return _verdict(status, reasons, good="ready", bad="not ready")

    async def _show_metrics(self, request: web.Request) -> web.Response:
        text, content_type = self._metrics.render(self._facts.status(), request.headers.get("Accept", ""))
        return web.Response(body=text, headers={"Content-Type": content_type})

    async def _status(self, request: web.Request, trusted: bool) -> web.Response:
        status = self._facts.status()
        return _json(status if trusted else status.public())

    async def _drain(self, request: web.Request) -> web.Response:
        now = _yes(request, "now")
        log.info("asked to drain", now=now)
        self._facts.drain(now=now)
        return _json(self._facts.status(), code=202)

    async def _handover(self, request: web.Request) -> web.Response:
        log.info("asked to hand over")
        try:
            await self._facts.hand_over()
        except GreenroomError as error:
            return _json({"error": str(error)}, code=409)
        return _json({"handed_over": True})


class _Guard:
    """Who may know of rooms, and change something."""

    def __init__(self, settings: AdminSettings, *, trusted: bool) -> None:
        self._token = settings.token.encode()
        self._loopback = is_loopback(settings.host)
        self._trusted = trusted

    def trusts(self, request: web.Request) -> bool:
        if self._trusted:
            return True
        if self._token:
            scheme, _, given = request.headers.get("Authorization", "").partition(" ")
            return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), self._token)
        # A page in a browser of this machine can send requests here: it names itself in Origin, or, where a name was
        # made to point here, that name in Host. One behind a proxy of this machine is not on it.
        return (
            self._loopback
            and "Origin" not in request.headers
            and "X-Forwarded-For" not in request.headers
            and "Forwarded" not in request.headers
            and _LOOPBACK.fullmatch(request.host) is not None
        )

    def told(self, handler: Callable[[web.Request, bool], Awaitable[web.Response]]) -> Handler:
        """``handler``, which is told whether who asks is trusted."""

        async def informed(request: web.Request) -> web.StreamResponse:
            return await handler(request, self.trusts(request))

        return informed

    def only(self, handler: Callable[[web.Request], Awaitable[web.Response]]) -> Handler:
        """``handler`` for who is trusted, a refusal for others."""

        async def guarded(request: web.Request) -> web.StreamResponse:
            if self.trusts(request):
                return await handler(request)
            log.warning("admin request refused", path=request.path, peer=request.remote)
            if not self._token:
                mend = "set worker.admin.token and send it, or ask on this machine (greenroom drain)"
                return _json({"error": f"not allowed from here; {mend}"}, code=403)
            answer = _json({"error": "expected Authorization: Bearer TOKEN, of worker.admin.token"}, code=401)
            answer.headers["WWW-Authenticate"] = 'Bearer realm="greenroom"'
            return answer

        return guarded


def _plain_errors() -> Middleware:
    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            response = await handler(request)
        except web.HTTPException as error:
            response = _json({"error": error.reason}, code=error.status)
            if "Allow" in error.headers:
                response.headers["Allow"] = error.headers["Allow"]
        response.headers["Cache-Control"] = "no-store"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    return middleware


def _verdict(status: Status, reasons: tuple[Reason, ...], *, good: str, bad: str) -> web.Response:
    told = {"status": bad if reasons else good, "reasons": reasons, "version": status.version, "lag": status.lag}
    return _json(told, code=503 if reasons else 200)


def _yes(request: web.Request, name: str) -> bool:
    return request.query.get(name, "").lower() in ("1", "true", "yes")


def _json(value: object, *, code: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(value) + b"\n", status=code, content_type="application/json")


def _bound(path: Path) -> socket.socket:
    """A socket at ``path`` for this user alone. It takes the place of what is there in one step."""
    beside = path.with_name(f".{os.getpid():x}")  # the whole has to fit into 107 bytes
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        beside.unlink(missing_ok=True)
        listening.bind(os.fspath(beside))
        beside.chmod(0o600)
        listening.listen(128)
        with _alone_in(path.parent):
            beside.rename(path)
    except OSError as error:
        listening.close()
        raise SettingsError(f"cannot listen on {path}: {error}", key="worker.run_dir") from error
    listening.setblocking(False)
    return listening


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """No other daemon changes what is in the folder meanwhile: one that leaves may not remove its heir's socket."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
