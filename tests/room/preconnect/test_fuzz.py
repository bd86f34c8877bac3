"""A short run of the fuzz target, and the attributes, whatever they are."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greenroom.room.preconnect.attributes import RATES, Claim
from greenroom.room.preconnect.decoder import Decoder
from tests.room.fuzz_preconnect import attempt


@pytest.mark.parametrize("hundred", range(4))
def test_hostile_recordings(hundred: int) -> None:
    for number in range(hundred * 100, hundred * 100 + 100):
        attempt(number)


@given(
    st.dictionaries(st.sampled_from(["trackId", "sampleRate", "channels", "other"]), st.text(max_size=200)), st.text()
)
def test_attributes_and_mime_types_whatever_they_are(attributes: dict[str, str], mime: str) -> None:
    claim = Claim.of(attributes, mime)
    assert claim.sample_rate in (0, *RATES)
    assert claim.channels in (0, 1, 2)


HEADS = st.sampled_from([b"", b"\x1a\x45\xdf\xa3", b"OggS\0", b"\0\0\0\x18ftypmp42", b"RIFF\xff\xff\xff\xffWAVEfmt "])


@settings(max_examples=200, deadline=None)
@given(HEADS, st.lists(st.binary(max_size=300), max_size=20), st.integers(0, 48_000), st.integers(0, 2))
def test_any_bytes_at_all(head: bytes, pieces: list[bytes], rate: int, channels: int) -> None:
    decoder = Decoder(
        Claim(sample_rate=rate if rate in RATES else 0, channels=channels), sample_rate=16_000, max_seconds=1.0
    )
    made = [one for piece in (head, *pieces) for one in decoder.push(piece)] + decoder.end()
    assert sum(map(len, made)) <= 16_000
