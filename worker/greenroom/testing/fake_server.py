"""The server's side of the agent protocol, in this process, on loopback: for tests of what talks to it.

::

    async with FakeServer() as server:
        link = Link(server.settings(), Registration("reception"), ...)
        ...
        worker = await server.worker()             # the next worker that registers
        answer = await worker.offer(job("AJ_1"))   # its answer
        await worker.assign(job("AJ_1"))
        update = await worker.job_updates.get()
        worker.cut()                               # the connection is gone, without a word

It behaves as the real server was seen to: it checks the token for the ``agent`` grant, answers pings before and after
the registration, and cuts the connection, without a close frame or a reason, on whatever it does not understand. It can
also be made to misbehave: see ``refuse``, ``hold_registration``, ``cut_on_accept`` and ``FakeWorker.go_silent``. It
judges nothing else, waits for nobody and keeps no time; a test bounds its waits with ``asyncio.timeout``.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self

import jwt
from aiohttp import WSMsgType, web
from google.protobuf.message import DecodeError
from livekit.api.access_token import TokenVerifier
from livekit.protocol import agent, models

from greenroom.settings import ServerSettings

__all__ = ["FakeServer", "FakeWorker", "job"]

_VERSION = "1.0.0-fake"


def job(job_id: str, *, room: str = "lobby", **fields: Any) -> agent.Job:
    """A job as the server describes it, with a TURN password that must not show anywhere. ``fields`` are ``Job``'s."""
    described = models.Room(name=room, sid=f"RM_{room}", turn_password="turn-password")  # noqa: S106
    return agent.Job(id=job_id, room=described, **fields)


class FakeWorker:
    """One connection that has registered, seen from the server.

    ``statuses``, ``answers`` and ``job_updates`` are queues of what the worker sent and nobody has taken yet;
    ``received`` counts all its messages by type (``register``, ``ping``, ``update_worker`` and so on).
    """

    def __init__(self, socket: web.WebSocketResponse, transport: asyncio.Transport) -> None:
        self.id = ""
        self.registration = agent.RegisterWorkerRequest()
        self.received: Counter[str] = Counter()
        self.statuses: asyncio.Queue[agent.UpdateWorkerStatus] = asyncio.Queue()
        self.answers: asyncio.Queue[agent.AvailabilityResponse] = asyncio.Queue()
        self.job_updates: asyncio.Queue[agent.UpdateJobStatus] = asyncio.Queue()
        self.gone = asyncio.Event()
        """Set when the connection has ended, whoever ended it."""
        self._socket = socket
        self._transport = transport
        self._silent = False

    async def offer(self, described: agent.Job) -> agent.AvailabilityResponse:
        """Offer a job and return the next answer."""
        await self.send(agent.ServerMessage(availability=agent.AvailabilityRequest(job=described)))
        return await self.answers.get()

    async def assign(self, described: agent.Job, *, token: str = "job-token", url: str | None = None) -> None:  # noqa: S107
        """Hand a job over, whether or not it was offered."""
        assignment = agent.JobAssignment(job=described, token=token, url=url)
        await self.send(agent.ServerMessage(assignment=assignment))

    async def terminate(self, job_id: str) -> None:
        """Say that a job is over."""
        await self.send(agent.ServerMessage(termination=agent.JobTermination(job_id=job_id)))

    async def send(self, message: agent.ServerMessage | bytes | str) -> None:
        """Send any message, any bytes, or a text frame."""
        if isinstance(message, str):
            await self._socket.send_str(message)
        else:
            await self._socket.send_bytes(message if isinstance(message, bytes) else message.SerializeToString())

    def go_silent(self) -> None:
        """Keep the connection and take what comes, but never answer again: a half-open connection."""
        self._silent = True

    def cut(self) -> None:
        """End the connection as the real server does: no close frame, no reason."""
        self._transport.abort()

    async def serve(self, confirm: Callable[[FakeWorker], Awaitable[None]]) -> None:
        """Take messages until the connection ends or one is illegal. ``confirm`` is awaited on the registration."""
        async for frame in self._socket:
            message = agent.WorkerMessage()
            try:
                message.ParseFromString(frame.data if frame.type is WSMsgType.BINARY else b"\xff")
            except DecodeError:
                return
            kind = message.WhichOneof("message")
            if kind is None or (kind != "ping" and (kind == "register") is bool(self.id)):
                return
            self.received[kind] += 1
            if kind == "register":
                self.registration = message.register
                await confirm(self)
            else:
                await self._take(message, kind)

    async def _take(self, message: agent.WorkerMessage, kind: str) -> None:
        match kind:
            case "availability":
                self.answers.put_nowait(message.availability)
            case "update_worker":
                self.statuses.put_nowait(message.update_worker)
            case "update_job":
                self.job_updates.put_nowait(message.update_job)
            case "ping" if not self._silent:
                pong = agent.WorkerPong(last_timestamp=message.ping.timestamp, timestamp=message.ping.timestamp)
                await self.send(agent.ServerMessage(pong=pong))


class FakeServer:
    """The server. ``requests`` counts connection requests, ``registrations`` those that became workers.

    ``path`` is the prefix of its address, such as ``/media``. Leaving the context ends all connections.
    """

    def __init__(self, *, path: str = "", api_key: str = "devkey", api_secret: str = "loopback" * 5) -> None:
        self.path = path
        self.api_key = api_key
        self.requests = 0
        self.registrations = 0
        self._api_secret = api_secret
        self._port = 0
        self._runner: web.AppRunner | None = None
        self._connections: set[FakeWorker] = set()
        self._workers: asyncio.Queue[FakeWorker] = asyncio.Queue()
        self._asked = asyncio.Condition()
        self._refusal: int | None = None
        self._hold_registration = False
        self._cut_on_accept = False

    @property
    def url(self) -> str:
        """What a worker is given as the server's address."""
        return f"ws://127.0.0.1:{self._port}{self.path}"

    def settings(self, **overrides: Any) -> ServerSettings:
        """Settings that reach this server. ``overrides`` are ``ServerSettings``' fields."""
        known = {"url": self.url, "api_key": self.api_key, "api_secret": self._api_secret}
        return ServerSettings(**{**known, **overrides})

    async def start(self) -> None:
        """Listen: on a free port, or, when started again, on the same."""
        app = web.Application()
        app.router.add_get(f"{self.path}/agent", self._connect)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True)
        await site.start()
        self._port = int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        """Cut every connection and stop to listen."""
        for connection in list(self._connections):
            connection.cut()
            await connection.gone.wait()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def worker(self) -> FakeWorker:
        """The next worker that registers, or the first that has and was not asked for yet."""
        return await self._workers.get()

    async def asked(self, requests: int) -> None:
        """Wait until there were this many connection requests in all."""
        async with self._asked:
            await self._asked.wait_for(lambda: self.requests >= requests)

    def refuse(self, status: int | None) -> None:
        """Answer connection requests with this HTTP status; ``None``: serve again."""
        self._refusal = status

    def hold_registration(self, hold: bool = True) -> None:
        """Never confirm a registration."""
        self._hold_registration = hold

    def cut_on_accept(self, cut: bool = True) -> None:
        """Accept connections, then cut them at once."""
        self._cut_on_accept = cut

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _connect(self, request: web.Request) -> web.StreamResponse:
        self.requests += 1
        async with self._asked:
            self._asked.notify_all()
        if self._refusal is not None:
            return web.Response(status=self._refusal)
        if not self._may_register(request.headers.get("Authorization", "")):
            return web.Response(status=401)
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        transport = request.transport
        if transport is None:
            return socket
        worker = FakeWorker(socket, transport)
        self._connections.add(worker)
        try:
            if not self._cut_on_accept:
                await worker.serve(self._confirm)
            worker.cut()
        finally:
            self._connections.discard(worker)
            worker.gone.set()
        return socket

    def _may_register(self, authorization: str) -> bool:
        scheme, _, token = authorization.partition(" ")
        try:
            claims = TokenVerifier(self.api_key, self._api_secret).verify(token)
        except jwt.PyJWTError:
            return False
        return scheme == "Bearer" and claims.video is not None and claims.video.agent is True

    async def _confirm(self, worker: FakeWorker) -> None:
        self.registrations += 1
        worker.id = f"AW_{self.registrations}"
        if self._hold_registration:
            return
        info = models.ServerInfo(version=_VERSION, node_id="ND_fake")
        await worker.send(
            agent.ServerMessage(register=agent.RegisterWorkerResponse(worker_id=worker.id, server_info=info))
        )
        self._workers.put_nowait(worker)
