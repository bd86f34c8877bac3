"""The page and the two questions that it asks, served on loopback only.

``POST /token`` opens a fresh room and answers with a token for it, so whoever can reach it can call the agent. That is
why the address is loopback, and why requests that another site makes a browser send are refused: by the ``Host``
header (a name that was made to point here), by ``Origin`` (another page), and by the content type (a plain form).
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from greenroom.embedded.workerprocess import WorkerState
from greenroom.server.dispatch import mint_user_token
from greenroom.settings import ServerSettings

__all__ = ["HOST", "ConsoleState", "Entrance", "console_app", "open_room", "serve", "static_directory"]

HOST = "127.0.0.1"
_LOOPBACK = re.compile(r"(?:127\.0\.0\.1|localhost|\[::1\])(?::\d{1,5})?")
_MAX_BODY = 4096
_NOT_BUILT = """<!doctype html><meta charset="utf-8"><title>greenroom</title>
<h1>The page is not built</h1><p>Run <code>make setup</code> in the project's folder, then reload.</p>
"""


@dataclass(frozen=True, slots=True)
class Entrance:
    """A way into a room: where, with what, and as whom."""

    url: str
    token: str
    room: str
    identity: str

    def __repr__(self) -> str:
        return f"Entrance(url={self.url!r}, token='***', room={self.room!r}, identity={self.identity!r})"


@dataclass(frozen=True, slots=True)
class ConsoleState:
    """What the page may know. ``worker``: the state of the worker and, when it failed, a sentence about why."""

    server: ServerSettings
    agents: Callable[[], tuple[str, ...]]
    worker: Callable[[], tuple[WorkerState, str]]


def open_room(server: ServerSettings, *, agent: str, prefix: str = "talk", identity: str = "") -> Entrance:
    """A token for a fresh room that ``agent`` is called to; an unnamed agent comes to every room uncalled."""
    room = f"{prefix}-{secrets.token_hex(4)}"
    identity = identity or f"guest-{secrets.token_hex(3)}"
    token = mint_user_token(server, room=room, identity=identity, agent_name=agent or None)
    return Entrance(server.url, token, room, identity)


def static_directory() -> Path:
    """Where the built page is, or would be."""
    return Path(str(files("greenroom.embedded") / "static"))


def console_app(state: ConsoleState, *, static: Path) -> web.Application:
    """The application. ``static``: the directory of the built page."""

    async def page(request: web.Request) -> web.StreamResponse:
        name = request.match_info.get("name") or "index.html"
        file = static / name
        if file.parent == static and file.is_file():
            return web.FileResponse(file)
        if name == "index.html":
            return web.Response(text=_NOT_BUILT, content_type="text/html", status=500)
        raise web.HTTPNotFound

    async def agents(_: web.Request) -> web.StreamResponse:
        worker, problem = state.worker()
        known = "failed" if worker == "stopped" else worker
        return web.json_response(
            {
                "agents": [{"name": name} for name in state.agents()],
                "worker": {"state": known, "detail": problem.partition("\n")[0]},
            }
        )

    async def token(request: web.Request) -> web.StreamResponse:
        if request.content_type != "application/json":
            return _refusal(415, "expected application/json")
        try:
            wanted = await request.json()
        except ValueError:
            return _refusal(400, "the body is not JSON")
        names = state.agents() or ("",)
        agent = wanted.get("agent", names[0]) if isinstance(wanted, dict) else None
        if agent not in names:
            return _refusal(404, f"there is no agent {agent!r}; there is {', '.join(map(repr, names))}")
        entrance = open_room(state.server, agent=agent)
        return web.json_response(
            {
                "url": entrance.url,
                "token": entrance.token,
                "room": entrance.room,
                "identity": entrance.identity,
            }
        )

    app = web.Application(middlewares=[_guard(state.server.url)], client_max_size=_MAX_BODY)
    app.add_routes(
        [
            web.get("/", page),
            web.get("/agents", agents),
            web.post("/token", token),
            web.get("/{name:[a-z]+[.][a-z]+}", page),
        ]
    )
    return app


def _refusal(status: int, reason: str) -> web.Response:
    return web.json_response({"error": reason}, status=status)


def _guard(media_server: str) -> Middleware:
    """Refuses foreign requests, and says in each answer what the page may do."""
    headers = {
        "Cache-Control": "no-store",
        "Content-Security-Policy": _policy(media_server),
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        response: web.StreamResponse
        origin = request.headers.get("Origin")
        if not _LOOPBACK.fullmatch(request.host):
            response = _refusal(403, "this page is served to loopback addresses only")
        elif origin is not None and urlsplit(origin).netloc != request.host:
            response = _refusal(403, "this page answers only itself")
        else:
            try:
                response = await handler(request)
            except web.HTTPException as error:
                response = _refusal(error.status, error.reason)
        response.headers.update(headers)
        return response

    return guard


def _policy(media_server: str) -> str:
    """Only our own files, and the media server in each of its spellings."""
    address = urlsplit(media_server).netloc
    schemes = ("wss", "https") if urlsplit(media_server).scheme in ("wss", "https") else ("ws", "http")
    connect = " ".join(f"{scheme}://{address}" for scheme in schemes)
    # LiveKit's hosted servers send their clients on to a region's own name.
    regions = "wss://*.livekit.cloud https://*.livekit.cloud" if address.endswith(".livekit.cloud") else ""
    return "; ".join(
        [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self'",
            "media-src 'self' blob: mediastream:",
            f"connect-src 'self' {connect} {regions}".rstrip(),
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
    )


async def serve(app: web.Application, *, port: int) -> tuple[web.AppRunner, int]:
    """Serve on loopback at ``port`` (0: any); return the runner, to be cleaned up, and the port. Raises ``OSError``."""
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, HOST, port)
        await site.start()
    except OSError:
        await runner.cleanup()
        raise
    bound: int = runner.addresses[0][1]
    return runner, bound
