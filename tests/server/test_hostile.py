"""A short run of hostile messages, and what longer runs have found."""

from __future__ import annotations

import struct
from collections import Counter

import pytest

from greenroom.jobs import ipc
from tests.server.hostile import MESSAGES, story


def test_nothing_that_comes_in_raises() -> None:
    became: Counter[str] = Counter()
    for number in range(120):
        became += story(number)
    assert became.total() >= 0.8 * 120 * MESSAGES
    # The stories reach into the machine, and not only as far as the decoder.
    for kind in ("Malformed", "OfferReceived", "Assigned", "Terminated", "PongReceived", "BadFrame", "frame Hello"):
        assert became[kind] > 10, kind


@pytest.mark.parametrize(
    "body",
    [
        b"\x82\xa4type\xa4Pong\xa1x" + b"\x91" * 100_000 + b"\xc0",
        b"\x82\xa4type\xa7Leaving\xa6reason\xa2\xff\xff",
        b"\x81\xa4type\xa2\xff\xff",
        b"\x82\xa4type\xa8Measured\xa7counted\xdd\xff\xff\xff\xff\xc0",
        b"\x82\xa4type\xaaConsidered\xaaattributes\xdf\xff\xff\xff\xff\xa1a\xa1b",
    ],
    ids=["nested", "a text that is none", "a type that is no text", "a count that is not true", "so many keys"],
)
def test_a_frame_that_no_decoder_likes_is_a_bad_frame(body: bytes) -> None:
    with pytest.raises(ipc.BadFrame):
        ipc.Frames(ipc.ChildMessage).feed(struct.pack(">I", len(body)) + body)
