from __future__ import annotations

import os
import subprocess
import sys

from greenroom.jobs.memory import memory_mb


def test_it_grows_with_what_is_used() -> None:
    before = memory_mb(os.getpid())
    ballast = bytearray(b"x" * (64 << 20))
    after = memory_mb(os.getpid())
    assert before is not None
    assert after is not None
    assert 50 < after - before < 80
    del ballast


def test_a_process_that_is_gone_uses_none() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert memory_mb(process.pid) is None


def test_a_process_that_has_ended_but_was_not_collected_uses_none() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert memory_mb(process.pid) is None
    process.wait()
