"""Words to the service manager, as a datagram socket hears them."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from greenroom.ops.notify import Notifier


@pytest.fixture
def manager() -> Iterator[tuple[str, socket.socket]]:
    with TemporaryDirectory(prefix="gr-") as name, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        path = str(Path(name, "notify"))
        listening.bind(path)
        listening.settimeout(30)
        yield path, listening


def heard(listening: socket.socket) -> list[str]:
    return listening.recv(4096).decode().split("\n")


def test_its_words(manager: tuple[str, socket.socket]) -> None:
    path, listening = manager
    notifier = Notifier({"NOTIFY_SOCKET": path})
    notifier.ready("serving")
    assert heard(listening) == ["READY=1", "STATUS=serving"]
    notifier.reloading()
    reloading, since = heard(listening)
    assert reloading == "RELOADING=1"
    assert int(since.removeprefix("MONOTONIC_USEC=")) > 0
    notifier.stopping()
    assert heard(listening)[0] == "STOPPING=1"
    notifier.extend(1.5)
    assert heard(listening) == ["EXTEND_TIMEOUT_USEC=1500000"]
    notifier.handed_over(77)
    assert heard(listening) == ["MAINPID=77", "READY=1"]
    assert notifier.watchdog is None


def test_a_name_that_is_no_file() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0greenroom-test-{os.getpid()}")
        listening.settimeout(30)
        Notifier({"NOTIFY_SOCKET": f"@greenroom-test-{os.getpid()}"}).ready()
        assert heard(listening) == ["READY=1"]


async def test_signs_of_life(manager: tuple[str, socket.socket]) -> None:
    path, listening = manager
    notifier = Notifier({"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "40000", "WATCHDOG_PID": str(os.getpid())})
    assert notifier.watchdog == 0.04
    notifier.start()
    notifier.start()
    for _ in range(3):
        assert await asyncio.to_thread(heard, listening) == ["WATCHDOG=1"]
    notifier.close()


@pytest.mark.parametrize(
    "environ",
    [{"WATCHDOG_USEC": "40000", "WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "soon"}, {"WATCHDOG_USEC": "0"}, {}],
    ids=["another's", "no number", "off", "none"],
)
async def test_nobody_asks_for_them(environ: dict[str, str]) -> None:
    notifier = Notifier(environ)
    assert notifier.watchdog is None
    notifier.start()
    assert notifier._petting is None


@pytest.mark.parametrize("address", ["", "vsock:1:2", "/nowhere/at/all", "@nobody-listens-there"])
def test_what_cannot_be_sent_is_lost(address: str) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": address} if address else {})
    notifier.ready()
    notifier.stopping()
