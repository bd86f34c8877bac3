"""The fork server's memory, made ready to be shared."""

from __future__ import annotations

import subprocess
import sys

import pytest

PRIVATE = """
def private():
    with open("/proc/self/smaps_rollup") as lines:
        return sum(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty"))
"""
"""What the scripts have in common: how much memory is a process's own. KB."""

DIRTIED = """
import gc, os, sys
from greenroom.jobs import heap

# A heap with gaps: every second object of many pages is gone.
kept = [bytes(40) for _ in range(200_000)][::2]
if sys.argv[1] == "filled":
    heap.trim()
    assert heap.fill() > 90_000
gc.freeze()


reader, writer = os.pipe()
if not os.fork():
    before = private()
    mine = [bytes(40) for _ in range(10_000)]
    os.write(writer, str(private() - before).encode())
    os._exit(0)
os.wait()
print(os.read(reader, 100).decode())
"""


def dirtied(how: str) -> int:
    """KB that a fork writes to for 10 000 small objects, 0.8 MB with what holds them."""
    run = subprocess.run([sys.executable, "-c", PRIVATE + DIRTIED, how], capture_output=True, text=True, check=True)
    return int(run.stdout)


def test_a_fork_writes_to_pages_of_its_own() -> None:
    assert dirtied("filled") < 0.75 * dirtied("as it is")
    assert dirtied("filled") < 1_300


LIBRARY = """
import ctypes, os, sys
from greenroom.jobs import heap

library = ctypes.CDLL(None)
library.malloc.restype = ctypes.c_void_p
# A gap of 200 bytes in every page of 4 MB.
gaps = [(library.malloc(200), library.malloc(3_872))[0] for _ in range(1_000)]
for gap in gaps:
    library.free(ctypes.c_void_p(gap))
if sys.argv[1] == "filled":
    heap.trim()
    assert heap.fill() > 900


reader, writer = os.pipe()
if not os.fork():
    for _ in range(900):
        ctypes.memset(library.malloc(200), 1, 200)
    os.write(writer, str(private()).encode())
    os._exit(0)
os.wait()
print(os.read(reader, 100).decode())
"""


def test_what_libraries_make_after_a_fork_lies_together_too() -> None:
    def dirtied(how: str) -> int:
        run = subprocess.run([sys.executable, "-c", PRIVATE + LIBRARY, how], capture_output=True, text=True, check=True)
        return int(run.stdout)

    assert dirtied("filled") < 1_200  # KB, of which 180 are those 900 pieces
    assert dirtied("as it is") > 3_000


FORGOTTEN = """
import ctypes
import numpy
from greenroom.jobs import heap


def files():
    with open("/proc/self/smaps_rollup") as lines:
        sizes = {line.split()[0]: int(line.split()[1]) for line in lines if line[0].isupper()}
    return sizes["Rss:"] - sizes["Anonymous:"]


before = files()
heap.trim()
after = files()
assert (numpy.eye(40) @ numpy.eye(40)).sum() == 40  # the libraries are as they were
import decimal, sqlite3  # and others can be loaded
assert decimal.Decimal("0.1") * 3 == decimal.Decimal("0.3")
print(before, after)
"""


def test_pages_of_libraries_that_were_read_once_are_given_back() -> None:
    run = subprocess.run([sys.executable, "-c", FORGOTTEN], capture_output=True, text=True, check=True)
    before, after = map(int, run.stdout.split())
    # How many pages a read brings in depends on what the kernel's cache holds; nearly all of them are given back.
    assert after < 0.6 * before, (before, after)  # KB


REFERRED = """
import gc, os, sys
from greenroom.jobs import heap

made = [f"text {number}" for number in range(100_000)]
functions = [eval(f"lambda: {number}.5") for number in range(1_000)]
count = heap.immortalize() if sys.argv[1] == "immortal" else 0
gc.freeze()


reader, writer = os.pipe()
if not os.fork():
    before = private()
    again = list(made)
    assert [again[0], again[-1]] == ["text 0", "text 99999"]
    assert sum(function() for function in functions) == 500_000
    later = [object() for _ in range(1_000)]
    assert sys.getrefcount(later[0]) == 2, "what is made later is counted as ever"
    os.write(writer, str(private() - before).encode())
    os._exit(0)
assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
print(count, os.read(reader, 100).decode())
"""


def referred(how: str) -> tuple[int, int]:
    run = subprocess.run([sys.executable, "-c", PRIVATE + REFERRED, how], capture_output=True, text=True, check=True)
    count, dirtied = map(int, run.stdout.split())
    return count, dirtied  # KB


@pytest.mark.skipif(sys.version_info < (3, 12), reason="this Python counts the references to every object")
def test_a_fork_does_not_write_to_what_it_refers_to() -> None:
    count, dirtied = referred("immortal")
    assert count > 101_000
    assert dirtied < 2_000  # a list of 0.8 MB, and what comes with it
    assert referred("counted")[1] > 5_000


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="this Python does not count the references to every object")
def test_where_all_references_are_counted_nothing_changes() -> None:
    count, dirtied = referred("immortal")
    assert count == 0
    assert dirtied > 5_000
