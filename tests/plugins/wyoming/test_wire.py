"""Events to bytes and back, however the stream is cut; what is no event is said to be none."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greenroom_plugins.wyoming.wire import Decoder, Event, Malformed, encode

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
EVENTS = st.builds(
    Event, st.text(max_size=20), st.dictionaries(st.text(max_size=8), VALUES, max_size=4), st.binary(max_size=50)
)


@settings(max_examples=50, deadline=None)
@given(st.lists(EVENTS, max_size=4), st.lists(st.integers(1, 40), min_size=1, max_size=20))
def test_whatever_is_sent_arrives_however_it_is_cut(events: list[Event], cuts: list[int]) -> None:
    stream = b"".join(encode(event) for event in events)
    decoder, arrived, at = Decoder(), [], 0
    while at < len(stream):
        step = cuts[at % len(cuts)]
        arrived += decoder.push(stream[at : at + step])
        at += step
    assert arrived == events
    assert not decoder.torn


def test_an_event_as_the_protocol_describes_it() -> None:
    raw = encode(Event("audio-chunk", {"rate": 16000}, b"\x01\x02"))
    line, rest = raw.split(b"\n", 1)
    header = json.loads(line)
    assert header["type"] == "audio-chunk"
    assert header["payload_length"] == 2
    assert json.loads(rest[: header["data_length"]]) == {"rate": 16000}
    assert rest[header["data_length"] :] == b"\x01\x02"


def test_data_in_the_header_and_after_it_add_up() -> None:
    extra = b'{"b": 2, "c": 3}'
    line = json.dumps({"type": "x", "data": {"a": 1, "b": 1}, "data_length": len(extra)}).encode()
    assert Decoder().push(line + b"\n" + extra) == [Event("x", {"a": 1, "b": 2, "c": 3})]


def test_lengths_may_be_null() -> None:
    assert Decoder().push(b'{"type": "x", "data": null, "data_length": null, "payload_length": null}\n') == [Event("x")]


@pytest.mark.parametrize(
    "line",
    [
        b"no json",
        b"\xff\xfe",
        b"[1]",
        b"{}",
        b'{"type": 3}',
        b'{"type": "x", "data": []} ' + b'{"type": "x", "data": [1]}',
        b'{"type": "x", "data": [1]}',
        b'{"type": "x", "data_length": -1}',
        b'{"type": "x", "data_length": "3"}',
        b'{"type": "x", "payload_length": 1e3}',
        b'{"type": "x", "payload_length": true}',
        b'{"type": "x", "payload_length": 99999999999}',
        b'{"type": "x", "data_length": 1}\n3',
        b"[" * 100_000,
    ],
)
def test_what_is_no_event(line: bytes) -> None:
    with pytest.raises(Malformed):
        Decoder().push(line + b"\n")


def test_a_line_without_an_end() -> None:
    decoder = Decoder()
    for _ in range(32):
        assert decoder.push(b" " * 32768) == []
    with pytest.raises(Malformed, match="a line of more than"):
        decoder.push(b" ")


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_noise_never_does_anything_else(noise: bytes) -> None:
    decoder = Decoder()
    try:
        events = decoder.push(noise)
    except Malformed:
        return
    assert all(isinstance(event, Event) for event in events)


@pytest.mark.parametrize(("value", "text", "number"), [("x", "x", 0), (3, "", 3), (None, "", 0), (True, "", 0)])
def test_values_of_another_kind_are_none(value: Any, text: str, number: int) -> None:
    event = Event("x", {"key": value})
    assert (event.text("key"), event.number("key")) == (text, number)
