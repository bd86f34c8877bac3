"""Hostile recordings: whatever comes through that door, nothing is raised, little is made, and it does not take long.

``python -m tests.room.fuzz_preconnect --minutes 10`` tries for so long, and prints what it found. Each attempt is a
number: ``--attempt N`` does that one alone. ``make test`` tries some hundred (``tests/room/preconnect/test_fuzz.py``).
"""

from __future__ import annotations

import argparse
import faulthandler
import random
import sys
import time
from collections import Counter
from functools import lru_cache

import numpy as np

from greenroom.room.preconnect.attributes import Claim
from greenroom.room.preconnect.decoder import Decoder
from greenroom.room.preconnect.splice import Recording, splice, splice_late
from tests.room.preconnect.sounds import FRAGMENTED, encoded, stereo, voice, wav

__all__ = ["SLOW", "attempt"]

RATE = 16_000
MAX_SECONDS = 4.0
SLOW = 30.0
"""Seconds of the processor's for one attempt. Most take some hundredths of one: so long takes only what would hardly
end."""
TEXTS = (
    "",
    "0",
    "-1",
    "abc",
    "1000000000",
    "48000",
    "24000",
    "44100",
    "1",
    "2",
    "2.0",
    "nan",
    "٤",
    "\0",
    "TR_x",
    "9" * 400,
)
MIMES = ("", "audio/webm;codecs=opus", "video/mp4", "audio/pcm", "application/octet-stream", "audio/wav", "x" * 300)


@lru_cache(maxsize=1)
def recordings() -> tuple[bytes, ...]:
    """Good ones, to be spoiled."""
    pcm = voice(1.5, 48_000)
    return (
        encoded(pcm, 48_000, "webm"),
        encoded(pcm, 48_000, "webm", channels=2),
        encoded(pcm, 48_000, "ogg"),
        encoded(pcm, 48_000, "mp4", codec="aac"),
        encoded(pcm, 48_000, "mp4", codec="aac", options=FRAGMENTED),
        encoded(pcm, 48_000, "mp4", options=FRAGMENTED),
        encoded(pcm, 48_000, "matroska", codec="flac"),
        wav(stereo(pcm), 48_000, 2),
        pcm.tobytes(),
        b"",
    )


def attempt(number: int) -> str:
    """One hostile recording; what became of it. Raises ``AssertionError``, or what should not have been raised."""
    dice = random.Random(number)
    data = spoiled(bytearray(dice.choice(recordings())), dice)
    names = ("trackId", "sampleRate", "channels", "", "x")
    claim = Claim.of({dice.choice(names): dice.choice(TEXTS) for _ in range(dice.randrange(6))}, dice.choice(MIMES))
    assert claim.sample_rate == 0 or 8_000 <= claim.sample_rate <= 192_000
    assert claim.channels in (0, 1, 2)
    assert len(claim.track) <= 128
    began = time.process_time()
    decoder = Decoder(claim, sample_rate=RATE, max_seconds=MAX_SECONDS)
    pieces, at = [], 0
    while at < len(data) and not decoder.problem and not decoder.full:
        size = dice.choice((1, 2, 7, 100, 1500, 4096, 15_000)) if dice.random() < 0.3 else 4096
        pieces += decoder.push(data[at : at + size])
        at += size
    pieces += decoder.end()
    pcm = np.concatenate([np.zeros(0, dtype=np.int16), *pieces])
    assert len(pcm) <= round(MAX_SECONDS * RATE)
    assert pcm.dtype == np.int16
    assert decoder.push(b"more") == [] or not (decoder.problem or decoder.full)
    live = voice(3.0, RATE, seed=2)[: 512 * dice.randrange(60)]
    put = splice if dice.random() < 0.5 else splice_late
    put(Recording(pcm, RATE, ended=100.0 + dice.uniform(-3.0, 3.0)), live, 100.0, frame=512)
    spent = time.process_time() - began
    assert spent < SLOW, f"{spent:.1f} seconds"
    return decoder.problem.split(":")[0] or ("sound" if len(pcm) else "silence")


def spoiled(data: bytearray, dice: random.Random) -> bytes:
    """The bytes after some accidents."""
    for _ in range(dice.choice((0, 1, 1, 2, 3, 8, 50))):
        if not data:
            return dice.randbytes(dice.randrange(200))
        at, length = dice.randrange(len(data)), dice.choice((1, 1, 2, 4, 16, 300, 5000))
        match dice.randrange(7):
            case 0:
                data[at] ^= 1 << dice.randrange(8)
            case 1:
                data[at : at + length] = dice.randbytes(min(length, len(data) - at))
            case 2:
                del data[at : at + length]
            case 3:
                data[at:at] = dice.randbytes(length)
            case 4:
                data[at:at] = data[: dice.randrange(len(data))][:length]
            case 5:
                data[at : at + length] = bytes((dice.choice((0, 0xFF, 0x80, 0x7F)),)) * length
            case 6:  # sizes and counts stand in the beginning
                data[at % 600 % len(data)] = dice.choice((0, 1, 0x7F, 0x80, 0xFF))
    return bytes(data)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--attempt", type=int)
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args()
    faulthandler.enable()
    if options.attempt is not None:
        sys.stdout.write(f"{attempt(options.attempt)}\n")
        return 0
    number, ends, became = options.first, time.monotonic() + 60 * options.minutes, Counter[str]()
    while time.monotonic() < ends:
        try:
            became[attempt(number)] += 1
        except BaseException:
            sys.stdout.write(f"attempt {number} failed\n")
            raise
        number += 1
    sys.stdout.write(f"{number - options.first} attempts\n")
    for what, count in became.most_common():
        sys.stdout.write(f"{count:8} {what}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
