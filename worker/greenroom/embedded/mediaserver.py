"""A real LiveKit server on this machine's loopback, for development and tests.

::

    async with MediaServer() as server:
        ...  # server.url, server.api_key, server.api_secret

``find`` and ``ensure`` say where the program comes from (see ``greenroom.embedded.binary``); from a shell,
``python -m greenroom.embedded.mediaserver ensure`` obtains it and prints its path.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import hmac
import json
import os
import secrets
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, TextIO

import aiohttp

from greenroom.embedded.binary import (
    IMAGE,
    VERSION,
    Binary,
    MediaServerError,
    MediaServerUnavailable,
    Progress,
    ensure,
    find,
    silent,
)

__all__ = [
    "VERSION",
    "Binary",
    "MediaServer",
    "MediaServerError",
    "MediaServerFailed",
    "MediaServerUnavailable",
    "Ports",
    "ensure",
    "find",
    "main",
]

HOST = "127.0.0.1"
START_TIMEOUT = 30.0
STOP_TIMEOUT = 3.0
POLL_INTERVAL = 0.05
PORT_ATTEMPTS = 5
TAIL_LINES = 20
PORT_TAKEN = "address already in use"

LEASH = """\
trap 'again=yes; kill -TERM "$server" 2>/dev/null' TERM
exec 3<&0 </dev/null
"$@" 3<&- &
server=$!
(read -r _ <&3; [ -z "$SCRATCH" ] || rm -rf "$SCRATCH"; kill -KILL "$server") &
watcher=$!
exec 3<&-
again=yes
status=127
while [ "$again" ]; do
  again=
  wait "$server"
  code=$?
  [ "$code" = 127 ] || status=$code
done
kill "$watcher" 2>/dev/null
exit "$status"
"""
"""The server lives as long as this shell's standard input is open. We hold the other end, and the kernel closes it when
we die, however we die; then the temporary files go too. Standard input also reaches into a container, where a signal to
its client does not."""


class MediaServerFailed(MediaServerError):
    """The LiveKit server did not start; the message ends with the last lines of its log."""


class _PortTaken(MediaServerFailed):
    """Somebody else has one of the ports."""


@dataclass(frozen=True, kw_only=True)
class Ports:
    """Loopback ports: ``signal`` for HTTP and websockets, ``tcp`` and ``udp`` for media."""

    signal: int
    tcp: int
    udp: int

    @staticmethod
    def free() -> Ports:
        """Three that nobody has now; somebody may take one before the server does."""
        with ExitStack() as stack:
            kinds = (socket.SOCK_STREAM, socket.SOCK_STREAM, socket.SOCK_DGRAM)
            sockets = [stack.enter_context(socket.socket(socket.AF_INET, kind)) for kind in kinds]
            for each in sockets:
                each.bind((HOST, 0))
            signal, tcp, udp = (each.getsockname()[1] for each in sockets)
            return Ports(signal=signal, tcp=tcp, udp=udp)


class MediaServer:
    """One LiveKit server process, started by ``start`` or ``async with``, that never outlives this process.

    Ports and credentials stay the same from one start to the next. ``ports`` are free ones where none are given;
    ``options`` are further keys of the server's configuration (``{"redis": {...}}``); the log goes to ``log_file``,
    else to a temporary file that goes with the server. ``progress`` is told what takes long, on the event loop.
    """

    def __init__(
        self,
        *,
        ports: Ports | None = None,
        api_key: str = "",
        api_secret: str = "",
        options: Mapping[str, Any] | None = None,
        log_file: Path | None = None,
        progress: Progress = silent,
    ) -> None:
        self.api_key = api_key or f"key-{secrets.token_hex(6)}"
        self.api_secret = api_secret or secrets.token_urlsafe(36)
        self._ports = ports
        self._options = dict(options or {})
        self._log_file = log_file
        self._progress = progress
        self._log_start = 0
        self._directory: Path | None = None
        self._process: asyncio.subprocess.Process | None = None

    def __repr__(self) -> str:
        state = "running" if self.running else "stopped"
        return f"<MediaServer {self.url if self._ports else 'without ports yet'} {state}>"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def ports(self) -> Ports:
        """Known from the first start on, or from the beginning where they were given."""
        if self._ports is None:
            raise MediaServerError("the LiveKit server has no ports before its first start")
        return self._ports

    @property
    def url(self) -> str:
        """``ws://`` address of the server."""
        return f"ws://{HOST}:{self.ports.signal}"

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.returncode is None

    def log_tail(self, *, lines: int = TAIL_LINES) -> str:
        """The last lines that the server has logged since its last start, empty where there are none."""
        file = self._log_file or (self._directory / "log" if self._directory else None)
        if file is None or not file.exists():
            return ""
        with file.open("rb") as log:
            log.seek(self._log_start)
            return "\n".join(log.read().decode(errors="replace").splitlines()[-lines:])

    async def start(self) -> None:
        """Return once the server answers. Obtains the program first, which may take minutes the first time.

        Raises ``MediaServerUnavailable`` or ``MediaServerFailed``; does nothing while the server runs.
        """
        if self.running:
            return
        binary = await self._obtain()
        try:
            await self._launch_on_ports(binary)
        except BaseException:
            await self._discard()
            raise

    async def stop(self, *, grace: float = 0.5) -> None:
        """Ask the server to go, insist after ``grace`` seconds, and return when it has gone.

        Asked once, it waits for all participants to leave their rooms; asked twice, it disconnects them.
        """
        process, self._process = self._process, None
        if process:
            await _end(process, grace=grace)
        await self._discard()

    async def kill(self) -> None:
        """End the server at once, as a crash would: nobody is told anything. ``start`` brings it back."""
        process, self._process = self._process, None
        if process:
            await _kill(process)
        await self._discard()

    async def restart(self, *, grace: float = 0.5) -> None:
        """``stop`` and ``start`` again, on the same ports with the same credentials."""
        await self.stop(grace=grace)
        await self.start()

    async def wait(self) -> int:
        """Return the exit status once the server has gone, by itself or by ``stop``."""
        return await self._process.wait() if self._process else 0

    async def _obtain(self) -> Binary:
        """``ensure`` in a thread, which is made to give up when this is cancelled."""
        loop = asyncio.get_running_loop()
        abandoned = threading.Event()

        def report(line: str) -> None:
            if abandoned.is_set():
                raise MediaServerUnavailable("obtaining the LiveKit server was cancelled")
            loop.call_soon_threadsafe(self._progress, line)

        try:
            return await asyncio.to_thread(ensure, report)
        except asyncio.CancelledError:
            abandoned.set()
            raise

    async def _launch_on_ports(self, binary: Binary) -> None:
        for attempt in range(1, PORT_ATTEMPTS + 1):
            ports = self._ports or Ports.free()
            try:
                await self._launch(binary, ports)
            except _PortTaken:
                if self._ports or attempt == PORT_ATTEMPTS:
                    raise
            else:
                self._ports = ports
                return

    async def _discard(self) -> None:
        """Remove the temporary files, the secret among them."""
        directory, self._directory = self._directory, None
        if directory:
            await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)

    async def _launch(self, binary: Binary, ports: Ports) -> None:
        config, output = await asyncio.to_thread(self._prepare, ports)
        command, env = _contained(binary, config) if binary.origin == "docker" else _native(binary, config)
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
                env=env,
                start_new_session=True,
            )
        finally:
            output.close()
        try:
            await self._healthy(process, ports)
        except BaseException:
            await _kill(process)
            raise
        self._process = process

    def _prepare(self, ports: Ports) -> tuple[Path, BinaryIO]:
        """The configuration, readable by this user only, and the log, opened for appending."""
        if self._directory is None:
            self._directory = Path(tempfile.mkdtemp(prefix="greenroom-livekit-"))
        config = self._directory / "livekit.yaml"
        config.touch(mode=0o600)
        config.write_text(self._configuration(ports))
        output = (self._log_file or self._directory / "log").open("ab")
        self._log_start = output.tell()
        return config, output

    def _configuration(self, ports: Ports) -> str:
        """JSON, which every YAML reader reads."""
        settings = {
            "port": ports.signal,
            "bind_addresses": [HOST],
            "rtc": {
                "tcp_port": ports.tcp,
                "udp_port": ports.udp,
                "node_ip": HOST,
                "use_external_ip": False,
                "enable_loopback_candidate": True,
            },
            "keys": {self.api_key: self.api_secret},
        }
        return json.dumps(settings | self._options)

    async def _healthy(self, process: asyncio.subprocess.Process, ports: Ports) -> None:
        """Return once this very server answers: one that lost the race for its port to another does not pass."""
        try:
            async with asyncio.timeout(START_TIMEOUT), aiohttp.ClientSession() as client:
                while not await self._answers(client, ports):
                    with suppress(TimeoutError):
                        async with asyncio.timeout(POLL_INTERVAL):
                            await process.wait()
                    if process.returncode is not None:
                        raise self._failure(f"ended with exit status {process.returncode}", ports=ports)
        except TimeoutError:
            raise self._failure(f"did not answer within {START_TIMEOUT:.0f} s", ports=ports) from None

    async def _answers(self, client: aiohttp.ClientSession, ports: Ports) -> bool:
        """Healthy by its own word, and it knows our secret."""
        origin = f"http://{HOST}:{ports.signal}"
        rooms = f"{origin}/twirp/livekit.RoomService/ListRooms"
        credentials = {"Authorization": f"Bearer {_token(self.api_key, self.api_secret)}"}
        limit = aiohttp.ClientTimeout(total=2)
        try:
            async with client.get(origin, timeout=limit) as response:
                if response.status != HTTPStatus.OK or await response.text() != "OK":
                    return False
            async with client.post(rooms, json={}, headers=credentials, timeout=limit) as response:
                return response.status == HTTPStatus.OK
        except (aiohttp.ClientError, TimeoutError):
            return False

    def _failure(self, what: str, *, ports: Ports) -> MediaServerFailed:
        tail = self.log_tail()
        if PORT_TAKEN in tail:
            wanted = f"{ports.signal} and {ports.tcp} (TCP) and {ports.udp} (UDP)"
            return _PortTaken(f"the LiveKit server needs ports {wanted} of {HOST}; one is taken\n{tail}")
        return MediaServerFailed(f"the LiveKit server {what}; the end of its log:\n{tail or '(empty)'}")


def _native(binary: Binary, config: Path) -> tuple[list[str], dict[str, str]]:
    """The server takes settings from a score of environment variables, so it gets none of ours."""
    kept = {name: os.environ[name] for name in ("HOME", "PATH", "TMPDIR") if name in os.environ}
    command = ["/bin/sh", "-c", LEASH, "livekit-server", str(binary.path), "--config", str(config)]
    return command, {**kept, "SCRATCH": str(config.parent)}


def _contained(binary: Binary, config: Path) -> tuple[list[str], dict[str, str]]:
    """The configuration travels in the environment: the engine may not be able to read this user's files."""
    run = [str(binary.path), "run", "--rm", "--interactive", "--network", "host", "--env", "LIVEKIT_CONFIG"]
    inside = ["--entrypoint", "/bin/sh", IMAGE, "-c", LEASH, "livekit-server", "/livekit-server"]
    return [*run, *inside], {**os.environ, "LIVEKIT_CONFIG": config.read_text()}


async def _end(process: asyncio.subprocess.Process, *, grace: float) -> None:
    for patience in (grace, STOP_TIMEOUT):
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.terminate()
            with suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await process.wait()
    await _kill(process)


async def _kill(process: asyncio.subprocess.Process) -> None:
    """Let go of the leash, which kills the server; then of the process, should that not have been enough."""
    if process.stdin:
        process.stdin.close()
    with suppress(TimeoutError):
        async with asyncio.timeout(STOP_TIMEOUT):
            await process.wait()
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _token(api_key: str, api_secret: str) -> str:
    """An access token for the room service that is good for ten seconds."""
    claims = {"iss": api_key, "exp": int(time.time()) + 10, "video": {"roomList": True}}
    parts = [_base64url(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims)]
    signature = hmac.new(api_secret.encode(), ".".join(parts).encode(), hashlib.sha256).digest()
    return ".".join([*parts, _base64url(signature)])


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def main(arguments: list[str] | None = None) -> int:
    """``ensure`` obtains the server where it must; ``find`` only looks. Both print where it is and return 0, else 1."""
    parser = argparse.ArgumentParser(prog="python -m greenroom.embedded.mediaserver", description=main.__doc__)
    parser.add_argument("action", choices=["ensure", "find"])
    action = parser.parse_args(arguments).action
    try:
        binary = find() if action == "find" else ensure(lambda line: _say(sys.stderr, line))
    except MediaServerUnavailable as error:
        _say(sys.stderr, f"error: {error}")
        return 1
    if binary is None:
        return 1
    _say(sys.stdout, str(binary.path))
    return 0


def _say(stream: TextIO, line: str) -> None:
    stream.write(f"{line}\n")
    stream.flush()


if __name__ == "__main__":
    sys.exit(main())
