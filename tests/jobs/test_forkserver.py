from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from greenroom.jobs import ipc
from greenroom.jobs.exits import Exit
from greenroom.jobs.forkserver import Forker

REQUEST = ipc.Fork("slot", "/run/jobs.sock", "module:Class", 5.0)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield ours, theirs


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOMEM])
def test_a_fork_that_fails_is_reported(pair: tuple[socket.socket, socket.socket], number: int) -> None:
    def fork() -> int:
        raise OSError(number, os.strerror(number))

    ours, theirs = pair
    forker = Forker(theirs, become=lambda _: 0, fork=fork)
    try:
        forker.fork(REQUEST)
        forker.fork(REQUEST)
    finally:
        forker.close()
    for _ in range(2):
        notice = ipc.unpack_notice(ours.recv(4096))
        assert notice == ipc.ForkFailed("slot", f"fork: {os.strerror(number)}")


def test_what_cannot_be_preloaded_is_named() -> None:
    # In a process of its own: this one may have threads, which is what preload looks for.
    code = "from greenroom.jobs.forkserver import preload; print(preload(['json', 'no.such', 'plugin:nobody']))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "'no.such': \"ModuleNotFoundError: No module named 'no'\"" in out
    assert "no plugin is called 'nobody'" in out
    assert "json" not in out


def test_a_plugin_is_preloaded_by_its_own_list() -> None:
    code = (
        "import sys; from greenroom.jobs.forkserver import preload; from importlib.metadata import entry_points\n"
        "(entry,) = entry_points(group='greenroom.plugins', name='silero')\n"
        "assert preload(['plugin:silero']) == {}; assert set(entry.load().preload) <= sys.modules.keys()"
    )
    env = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", code], check=True, env=env)


def test_preload_sees_a_thread() -> None:
    code = (
        "import sys; from greenroom.jobs.forkserver import preload, ThreadStarted\n"
        "try: preload(['json', 'tests.jobs.threaded'])\n"
        "except ThreadStarted as error: sys.exit(error.args[0] != 'tests.jobs.threaded')\n"
        "sys.exit(2)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_whole_preload_of_a_worker_starts_no_thread(pair: tuple[socket.socket, socket.socket]) -> None:
    """What jobs import may be imported before the fork: a release that starts a thread for it is noticed here."""
    from greenroom.jobs.forks import ENVIRONMENT
    from greenroom.jobs.pool import PRELOAD

    ours, theirs = pair
    server = subprocess.Popen(
        [sys.executable, "-P", "-m", "greenroom.jobs.forkserver", str(theirs.fileno()), *PRELOAD],
        pass_fds=(theirs.fileno(),),
        env=os.environ | ENVIRONMENT,
    )
    theirs.close()
    ours.settimeout(60)
    notice = ipc.unpack_notice(ours.recv(65_536))
    assert isinstance(notice, ipc.Preloaded)
    assert notice.failed == {}
    ours.close()
    assert server.wait(30) == Exit.OK


def test_importing_the_pool_stays_small() -> None:
    """The daemon never loads what only a job needs."""
    code = (
        "import sys, greenroom.jobs.pool\n"
        "print([name for name in ('numpy', 'livekit.rtc', 'aiohttp', 'uvloop', 'greenroom.job', 'greenroom.jobs.child')"
        " if name in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
