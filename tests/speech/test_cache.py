"""Speech that is kept: in memory and in files, bounded, and nothing broken is ever played."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from greenroom.audio import AudioFrame
from greenroom.providers import SynthesizedAudio
from greenroom.speech.cache import SpeechCache
from greenroom.speech.renditions import BrokenRendition, Rendition

RATE = 8000


def made(seconds: float = 0.5, text: str = "Hello.") -> Rendition:
    samples = np.arange(round(seconds * RATE), dtype=np.int16)
    pieces = [
        SynthesizedAudio(AudioFrame(samples, RATE), text, aligned=True),
        SynthesizedAudio(AudioFrame(samples, RATE)),
    ]
    rendition = Rendition.of(pieces)
    assert rendition is not None
    return rendition


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def same(one: Rendition | None, other: Rendition) -> bool:
    return one is not None and one.head == other.head and np.array_equal(one.pcm, other.pcm)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 300), st.text(max_size=20), st.booleans()), min_size=1, max_size=6))
def test_a_rendition_is_what_was_made_also_after_a_file(script: list[tuple[int, str, bool]]) -> None:
    pieces = [SynthesizedAudio(AudioFrame(np.arange(n, dtype=np.int16), RATE), text, yes) for n, text, yes in script]
    rendition = Rendition.of(pieces)
    if not sum(n for n, _, _ in script):
        assert rendition is None
        return
    assert rendition is not None
    for each in (rendition, Rendition.decode(rendition.encode())):
        got = list(each.pieces())
        assert [(len(piece.frame.pcm), piece.text, piece.aligned) for piece in got] == script
        assert all(piece.cached and piece.frame.sample_rate == RATE for piece in got)
        assert np.array_equal(np.concatenate([piece.frame.pcm for piece in got]), rendition.pcm)


@settings(deadline=None)
@given(st.data())
def test_bytes_that_are_broken_are_noticed(data: st.DataObject) -> None:
    whole = made().encode()
    if data.draw(st.booleans(), label="cut"):
        broken = whole[: data.draw(st.integers(0, len(whole) - 1))]
    else:
        place = data.draw(st.integers(0, len(whole) - 1))
        broken = whole[:place] + bytes([whole[place] ^ data.draw(st.integers(1, 255))]) + whole[place + 1 :]
    with pytest.raises(BrokenRendition):
        Rendition.decode(broken)


async def test_what_is_kept_is_found_by_another_process_too(tmp_path: Path) -> None:
    folder, rendition = tmp_path / "a" / "speech", made()
    cache = SpeechCache(folder)
    assert await cache.find("key", disk=True) is None
    await cache.keep("key", rendition, disk=True)
    assert await cache.find("key", disk=False) is rendition
    another = SpeechCache(folder)
    assert await another.find("key", disk=False) is None, "in memory it is not"
    assert same(await another.find("key", disk=True), rendition)
    assert same(await another.find("key", disk=False), rendition), "and now it is"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    (file,) = files(folder)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


async def test_without_leave_nothing_is_written(tmp_path: Path) -> None:
    for cache in (SpeechCache(tmp_path), SpeechCache(tmp_path, disk_mb=0), SpeechCache(None)):
        disk = cache.find("key", disk=True)
        assert await disk is None
        await cache.keep("key", made(), disk=False)
        assert await cache.find("key", disk=False) is not None
    await SpeechCache(tmp_path, disk_mb=0).keep("key", made(), disk=True)
    assert files(tmp_path) == []


@pytest.mark.parametrize("damage", [b"", b"nonsense", b"GRspeak1" + bytes(200)])
async def test_a_broken_file_is_dropped(tmp_path: Path, damage: bytes) -> None:
    await SpeechCache(tmp_path).keep("key", made(), disk=True)
    (file,) = files(tmp_path)
    file.write_bytes(damage)
    with capture_logs() as logs:
        assert await SpeechCache(tmp_path).find("key", disk=True) is None
    assert [line["event"] for line in logs] == ["cached speech is broken"]
    assert not file.exists()


async def test_memory_is_bounded_and_the_longest_unused_goes_first() -> None:
    size = made().size / 1_000_000
    cache = SpeechCache(None, memory_mb=2.5 * size)
    for key in ("a", "b"):
        await cache.keep(key, made(), disk=False)
    assert await cache.find("a", disk=False) is not None
    await cache.keep("c", made(), disk=False)
    await cache.keep("c", made(), disk=False)  # again: counted once
    there = [key for key in "abc" if await cache.find(key, disk=False) is not None]
    assert there == ["a", "c"]
    await cache.keep("huge", made(30.0), disk=False)
    assert await cache.find("huge", disk=False) is None
    assert await cache.find("a", disk=False) is not None, "what does not fit at all pushes nothing out"


async def test_the_disk_is_bounded_and_the_longest_unused_goes_first(tmp_path: Path) -> None:
    size = len(made().encode()) / 1_000_000
    cache = SpeechCache(tmp_path, memory_mb=0.000001, disk_mb=3.5 * size)
    for age, key in enumerate(("c", "b", "a")):
        await cache.keep(key, made(), disk=True)
        os.utime(tmp_path / f"{key}.speech", (1000.0 - age, 1000.0 - age))
    assert await cache.find("a", disk=True) is not None  # used: it is the youngest now
    await cache.keep("d", made(), disk=True)
    assert [file.stem for file in files(tmp_path)] == ["a", "c", "d"]


async def test_a_disk_that_fails_costs_no_words(tmp_path: Path) -> None:
    in_the_way = tmp_path / "speech"
    in_the_way.write_text("no folder")
    cache = SpeechCache(in_the_way)
    with capture_logs() as logs:
        await cache.keep("a", made(), disk=True)
        await cache.keep("b", made(), disk=True)
        assert await cache.find("c", disk=True) is None
    assert await cache.find("a", disk=True) is not None
    assert [line["event"] for line in logs] == ["speech cannot be written"], "told once"


async def test_many_may_write_the_same_at_once(tmp_path: Path) -> None:
    caches = [SpeechCache(tmp_path) for _ in range(8)]
    await asyncio.gather(*(cache.keep("key", made(), disk=True) for cache in caches))
    assert [file.name for file in files(tmp_path)] == ["key.speech"]
    assert same(SpeechCache(tmp_path).load("key"), made())
