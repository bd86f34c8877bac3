from __future__ import annotations

import mmap
import os
import subprocess
import sys
from pathlib import Path

from greenroom.jobs.memory import available_mb, memory_mb


def test_it_grows_with_what_is_used() -> None:
    with mmap.mmap(-1, 64 << 20) as ballast:
        before = memory_mb(os.getpid())
        for page in range(0, len(ballast), mmap.PAGESIZE):
            ballast[page] = 1
        after = memory_mb(os.getpid())
    assert before is not None
    assert after is not None
    assert 50 < after - before < 80


def test_a_process_that_is_gone_uses_none() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert memory_mb(process.pid) is None


def test_a_process_that_has_ended_but_was_not_collected_uses_none() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert memory_mb(process.pid) is None
    process.wait()


def test_what_this_machine_has_left() -> None:
    left = available_mb()
    assert left is not None
    assert 0 < left < 1 << 24


def test_what_a_container_has_left(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:        8000000 kB\nMemFree:          100000 kB\nMemAvailable:    4194304 kB\n")
    (tmp_path / "memory.max").write_text(f"{512 << 20}\n")
    (tmp_path / "memory.current").write_text(f"{400 << 20}\n")
    (tmp_path / "memory.stat").write_text(f"anon 1\nfile 2\ninactive_file {100 << 20}\nactive_file 3\n")
    assert available_mb(meminfo=meminfo, cgroup=tmp_path) == 212
    (tmp_path / "memory.max").write_text("max\n")
    assert available_mb(meminfo=meminfo, cgroup=tmp_path) == 4096
    assert available_mb(meminfo=meminfo, cgroup=tmp_path / "none") == 4096
    assert available_mb(meminfo=tmp_path / "none", cgroup=tmp_path / "none") is None
