"""LiveKit's library in a process of its own: what it says of itself, and to whom."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from greenroom.jobs.forks import PREFERRED

FAILING = """
import asyncio, logging, sys
from greenroom.room import library
from livekit import rtc
from livekit.rtc._ffi_client import FfiClient

said = []
logger = logging.getLogger("livekit")
logger.setLevel(sys.argv[1])
logger.addFilter(lambda record: said.append(record.getMessage()))


async def connect():
    try:
        await rtc.Room().connect("ws://127.0.0.1:1", "token")
    except rtc.ConnectError:
        await asyncio.sleep(0.3)


asyncio.run(connect())
assert FfiClient.instance._ffi_lib is library.LIBRARY
print(sum("connecting" in line for line in said))
"""


def failing(level: str) -> subprocess.CompletedProcess[str]:
    """A connection that cannot be made, and how many lines of the library's log say so."""
    environment = os.environ | {"RUST_LOG": PREFERRED["RUST_LOG"]}
    return subprocess.run(
        [sys.executable, "-c", FAILING, level], env=environment, capture_output=True, text=True, check=True
    )


@pytest.mark.parametrize("level", ["INFO", "WARNING"])
def test_its_log_is_asked_for_by_nobody_who_does_not_read_it(level: str) -> None:
    run = failing(level)
    assert (run.stdout, run.stderr) == ("0\n", "")


def test_at_debug_its_log_is_python_s() -> None:
    run = failing("DEBUG")
    assert int(run.stdout) > 0
    assert run.stderr == ""
