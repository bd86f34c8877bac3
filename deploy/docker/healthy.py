"""Whether the worker in this container is alive: exit code 0 when ``/healthz`` says so, 1 when not, with a word why.

It asks on the admin socket in the run directory, which is there whatever the settings say of ports and tokens. Started
every few seconds, so it is the standard library alone, without its site.
"""

from __future__ import annotations

import http.client
import os
import socket
import sys

__all__ = ["main"]

TIMEOUT = 4.0


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("worker", timeout=TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def main() -> int:
    path = os.path.join(os.environ["RUNTIME_DIRECTORY"], "admin.sock")
    connection = _Connection(path)
    try:
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        body = answer.read().decode(errors="replace").strip()
    except (OSError, http.client.HTTPException) as error:
        sys.stdout.write(f"no answer on {path}: {error!r}\n")
        return 1
    finally:
        connection.close()
    sys.stdout.write(f"{body}\n")
    return 0 if answer.status == 200 else 1


if __name__ == "__main__":
    sys.exit(main())
