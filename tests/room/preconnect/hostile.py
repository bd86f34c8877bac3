"""Recordings that are made to keep a decoder busy, and how long the loop that carries audio waits meanwhile.

``python -m tests.room.preconnect.hostile`` plays each of them to a decoder as the intake does, beside a loop that wants
to run every millisecond, and prints the longest that it had to wait, and how much the decoder computed in one of these
waits. ``idle`` is the same without a decoder.
"""

from __future__ import annotations

import asyncio
import struct
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

import numpy as np

from greenroom.audio import Pcm
from greenroom.room.preconnect.attributes import Claim
from greenroom.room.preconnect.codec import load
from greenroom.room.preconnect.decoder import Decoder
from greenroom.room.preconnect.decoding import Decoding
from tests.room.preconnect.sounds import FRAGMENTED, encoded, scratched, voice

__all__ = ["HOSTILE", "Waits", "hostile", "longest_wait"]

RATE = 16_000
MOST = 11_585_536
"""Bytes of a recording that the intake takes."""
PIECE = 15_000
"""Bytes that a client sends at once."""
BEAT = 0.001
"""Seconds."""
WEBM = b"\x1a\x45\xdf\xa3"


@cache
def good(kind: str) -> bytes:
    pcm = voice(3.0)
    match kind:
        case "webm" | "ogg":
            return encoded(pcm, 48_000, kind)
        case "fragments":
            return encoded(pcm, 48_000, "mp4", codec="aac", options=FRAGMENTED)
        case _:
            return encoded(pcm, 48_000, kind, codec="aac")


def minute() -> Pcm:
    return np.tile(voice(3.0), 20)


def webm_head() -> bytes:
    """Up to the first cluster."""
    data = good("webm")
    return data[: data.index(b"\x1f\x43\xb6\x75")]


def cluster(blocks: bytes) -> bytes:
    return b"\x1f\x43\xb6\x75\x01" + struct.pack(">Q", len(blocks))[1:] + blocks


def blocks(payload: bytes, count: int) -> bytes:
    """So many packets of one track."""
    one = b"\x81\0\0\x80" + payload
    return (b"\xa3" + bytes((0x80 | len(one),)) + one) * count


def box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", len(body) + 8, kind) + body


def with_table(kind: bytes, count: int) -> bytes:
    """An MP4 whose first table of a kind says that it has so many entries."""
    data = bytearray(good("mp4"))
    at = data.index(kind) + 8 + (4 if kind == b"stsz" else 0)
    data[at : at + 4] = struct.pack(">I", count)
    first, moov = int.from_bytes(data[:4]), data.index(b"moov") - 4
    return bytes(data[:first] + data[moov:] + data[first:moov])


HOSTILE: Mapping[str, Callable[[], bytes]] = MappingProxyType(
    {
        "a minute of WebM": lambda: encoded(minute(), 48_000, "webm"),
        "a minute of MP4": lambda: encoded(minute(), 48_000, "mp4", codec="aac"),
        "a minute of MP4 in fragments": lambda: encoded(minute(), 48_000, "mp4", codec="aac", options=FRAGMENTED),
        "a minute of samples": lambda: minute().tobytes(),
        "a minute of samples, scratch arrays": lambda: scratched(minute().tobytes(), 960),
        "WebM, one endless block": lambda: webm_head() + cluster(b"\xa3\x08\x7f\xff\xff\xff" + bytes(MOST - 500)),
        "WebM, endless padding": lambda: WEBM + b"\x8f" + bytes(15) + b"\xec\x80" * (MOST // 2 - 20),
        "WebM, a million empty packets": lambda: webm_head() + cluster(blocks(b"", MOST // 7)),
        "WebM, packets that are broken": lambda: webm_head() + cluster(blocks(b"\xff\xff\xff", MOST // 10)),
        "WebM, packets of 120 ms in 3 bytes": lambda: webm_head() + cluster(blocks(b"\x03\x46\0", MOST // 10)),
        "WebM, clusters without end": lambda: (
            webm_head() + b"\x1f\x43\xb6\x75\x01\xff\xff\xff\xff\xff\xff\xff" * 900_000
        ),
        "Ogg, pages without packets": lambda: good("ogg")[:400] + (b"OggS\0\0" + bytes(20) + b"\0") * (MOST // 27 - 20),
        "Ogg, pages of 255 empty packets": lambda: (
            good("ogg")[:400] + (b"OggS\0\0" + bytes(20) + b"\xff" + bytes(255)) * (MOST // 282 - 20)
        ),
        "Ogg, noise": lambda: good("ogg")[:400] + np.random.default_rng(1).bytes(MOST - 500),
        "Ogg, nearly pages": lambda: good("ogg")[:400] + b"Ogg" * (MOST // 3 - 200),
        "MP4, one endless box": lambda: (
            box(b"ftyp", b"mp42") + struct.pack(">I4s", 0x7FFFFFFF, b"moov") + bytes(MOST - 50)
        ),
        "MP4, a million boxes": lambda: box(b"ftyp", b"mp42") + box(b"free", b"") * (MOST // 8 - 2),
        "MP4, boxes in boxes": lambda: box(b"ftyp", b"mp42") + struct.pack(">I4s", 0x7FFFFFFF, b"moov") * 1_000_000,
        "MP4, four billion sizes": lambda: with_table(b"stsz", 0xFFFFFFFF),
        "MP4, four billion durations": lambda: with_table(b"stts", 0xFFFFFFFF),
        "MP4, four billion chunks": lambda: with_table(b"stco", 0xFFFFFFFF),
        "MP4, fragments without samples": lambda: good("fragments") + box(b"moof", b"") * (MOST // 8 - 20_000),
        "RIFF, chunks without end": lambda: b"RIFF\xff\xff\xff\xffWAVE" + b"junk\0\0\0\0" * (MOST // 8 - 2),
        "bytes that are no samples": lambda: np.random.default_rng(2).bytes(MOST),
        "silence": lambda: bytes(MOST),
    }
)


CLAIM = Claim(sample_rate=48_000, channels=1)


def hostile(name: str, size: int = MOST) -> bytes:
    """As many bytes of it as the intake takes, or fewer."""
    return HOSTILE[name]()[:size]


@dataclass
class Waits:
    """Seconds. ``waited``: by how much the loop's turn came too late, at most. ``computed``: how much the decoder's
    thread computed between two turns, at most: that is what it took from the loop, whatever else the machine does."""

    waited: float = 0.0
    computed: float = 0.0
    took: float = 0.0
    reason: str = ""


async def longest_wait(data: bytes) -> Waits:
    """Beside a decoder of these bytes; without bytes, beside nothing, for a second."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[str] = loop.create_future()
    pieces: list[Pcm] = []
    waits, began, thread = Waits(), loop.time(), None
    if data:
        before = set(threading.enumerate())
        decoder = Decoder(CLAIM, sample_rate=RATE, max_seconds=60.0)
        decoding = Decoding(decoder, made=lambda made: pieces.extend(made), done=done.set_result)
        thread = next(iter(set(threading.enumerate()) - before), None)
        for start in range(0, len(data), PIECE):
            decoding.push(data[start : start + PIECE])
        decoding.end()
    else:
        loop.call_later(1.0, done.set_result, "")
    computed = 0.0
    while not done.done():
        wanted = loop.time() + BEAT
        await asyncio.sleep(BEAT)
        waits.waited = max(waits.waited, loop.time() - wanted)
        if thread is not None and thread.ident is not None and thread.is_alive():
            with suppress(OSError):  # it has just ended
                last, computed = computed, time.clock_gettime(time.pthread_getcpuclockid(thread.ident))
                waits.computed = max(waits.computed, computed - last)
    waits.reason, waits.took = await done, loop.time() - began
    return waits


def main() -> int:
    load()
    say = sys.stdout.write
    say(f"{'':36} of three runs (ms): the loop waited    the decoder computed meanwhile    took (s)\n")
    for name in ("idle", *HOSTILE):
        data = b"" if name == "idle" else hostile(name)
        runs = [asyncio.run(longest_wait(data)) for _ in range(3)]
        waited = " ".join(f"{1000 * run.waited:6.1f}" for run in runs)
        computed = " ".join(f"{1000 * run.computed:6.1f}" for run in runs)
        say(f"{name:36} {waited:>38} {computed:>33} {runs[-1].took:11.2f}  {runs[-1].reason}\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
