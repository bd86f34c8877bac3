"""Frames of the model host's line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.models import wire
from greenroom.models.wire import (
    MAX_FRAME,
    Ask,
    BadFrame,
    Cancel,
    ClientMessage,
    Done,
    Failed,
    Frames,
    Greeting,
    HostMessage,
    Judge,
    Likelihood,
    Loaded,
    Piece,
    Recognize,
    Said,
    Sound,
    Speak,
    Use,
    Words,
)

ASKED: list[ClientMessage] = [
    Use(1, "stt", "whisper", {"model": "tiny.en", "context": 15.0}),
    Ask(2, 1, Recognize(b"\x01\x00\xff\xff", 16_000)),
    Ask(3, 1, Speak("Grüß Gott, 你好."), again=True),
    Ask(4, 1, Judge((Said("Message", {"id": "m1", "role": "user", "text": "well"}),), "well", "en", None)),
    Cancel(2),
]
ANSWERED: list[HostMessage] = [
    Greeting("1.0"),
    Loaded(1),
    Loaded(1, "no weights", True),
    Piece(2, Words("hello", "en", 0.5)),
    Piece(3, Sound(b"\x00\x01", 24_000)),
    Piece(4, Likelihood(0.25)),
    Done(2),
    Failed(3, "not now", True),
]


@given(st.lists(st.integers(1, 40), min_size=1, max_size=30))
def test_messages_come_out_of_any_pieces(cuts: list[int]) -> None:
    data = b"".join(wire.encode(message) for message in ASKED)
    frames: Frames[ClientMessage] = Frames(ClientMessage)
    heard: list[ClientMessage] = []
    for cut in cuts:
        heard += frames.feed(data[:cut])
        data = data[cut:]
    assert heard + frames.feed(data) == ASKED


def test_answers_come_as_they_were_sent() -> None:
    frames: Frames[HostMessage] = Frames(HostMessage)
    assert frames.feed(b"".join(wire.encode(message) for message in ANSWERED)) == ANSWERED


@pytest.mark.parametrize(
    "data",
    [
        (MAX_FRAME + 1).to_bytes(4, "big"),
        b"\x00\x00\x00\x01\xc1",
        wire.encode(Done(1)),  # the host's, from a job
        b"\x00\x00\x00\x0a\x81\xa4type\xa3Who",
    ],
    ids=["too large", "no map", "other direction", "unknown"],
)
def test_what_is_no_message_is_a_bad_frame(data: bytes) -> None:
    with pytest.raises(BadFrame):
        Frames[ClientMessage](ClientMessage).feed(data)


def test_options_are_not_shown() -> None:
    use = Use(1, "tts", "acme", {"api_key": "sk-very-secret"})
    assert "secret" not in repr(use)
    assert "secret" not in repr(wire.Wanted("tts", "acme", {"api_key": "sk-very-secret"}))
    assert "secret" not in repr(wire.Keep((wire.Wanted("tts", "acme", {"api_key": "sk-very-secret"}),)))
