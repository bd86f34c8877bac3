"""An agent that writes down what LiveKit handed to it, and what its session was given to hear.

``TapAgent`` is loaded by a worker like any agent. Its process watches three places of LiveKit's client (joining, byte
streams, the track's audio) without changing what passes them, and its transcriber keeps every frame. When the call ends
all of it is one file, ``ROOM.npz``, in the folder that ``GREENROOM_TAP`` names; ``Tapped.read`` reads it.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from livekit import rtc

from greenroom.audio import AudioFrame, Pcm
from greenroom.providers.stt import STT, STTStream, Transcript
from greenroom.room.track_audio import TrackAudio
from greenroom.session.agent import Agent

__all__ = ["FOLDER", "RATE", "TOPIC", "Piece", "TapAgent", "Tapped"]

FOLDER = "GREENROOM_TAP"
TOPIC = "lk.agent.pre-connect-audio-buffer"
RATE = 16_000
"""Hz, of what the session hears."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A frame: when it came, on the loop's clock; ``at``: its capture time as the agent sees it, where it has one."""

    came: float
    at: float
    pcm: Pcm


@dataclass
class Tapped:
    """One call. ``chunks``: of the pre-connect stream, with when they came. ``live``: what LiveKit made of the track.
    ``heard``: what the transcriber was given."""

    joined: float = 0.0
    info: dict[str, Any] = field(default_factory=dict)
    chunks: list[tuple[float, bytes]] = field(default_factory=list)
    ended: float = 0.0
    live_rate: int = RATE
    live: list[Piece] = field(default_factory=list)
    heard: list[Piece] = field(default_factory=list)

    def write(self, path: Path) -> None:
        head = {"joined": self.joined, "info": self.info, "ended": self.ended, "live_rate": self.live_rate}
        part = path.with_suffix(".part.npz")
        np.savez(
            part,
            head=np.frombuffer(json.dumps(head).encode(), dtype=np.uint8),
            chunk_times=np.array([came for came, _ in self.chunks]),
            chunk_sizes=np.array([len(data) for _, data in self.chunks], dtype=np.int64),
            chunk_bytes=np.frombuffer(b"".join(data for _, data in self.chunks), dtype=np.uint8),
            **_packed("live", self.live),
            **_packed("heard", self.heard),
        )
        part.rename(path)

    @staticmethod
    def read(path: Path) -> Tapped:
        with np.load(path) as file:
            head = json.loads(file["head"].tobytes())
            data, chunks = file["chunk_bytes"].tobytes(), []
            for came, size in zip(file["chunk_times"], file["chunk_sizes"], strict=True):
                chunks.append((float(came), data[:size]))
                data = data[size:]
            return Tapped(**head, chunks=chunks, live=_unpacked("live", file), heard=_unpacked("heard", file))


def _packed(name: str, pieces: list[Piece]) -> dict[str, Any]:
    return {
        f"{name}_times": np.array([(piece.came, piece.at, len(piece.pcm)) for piece in pieces]).reshape(-1, 3),
        f"{name}_pcm": np.concatenate([np.zeros(0, dtype=np.int16), *(piece.pcm for piece in pieces)]),
    }


def _unpacked(name: str, file: Any) -> list[Piece]:
    pcm, pieces, start = file[f"{name}_pcm"], [], 0
    for came, at, length in file[f"{name}_times"]:
        pieces.append(Piece(float(came), float(at), pcm[start : start + int(length)]))
        start += int(length)
    return pieces


class _Recorder(STTStream):
    def __init__(self, tapped: Tapped) -> None:
        self._tapped = tapped
        self._closed = asyncio.Event()

    def push(self, frame: AudioFrame) -> None:
        self._tapped.heard.append(Piece(asyncio.get_running_loop().time(), frame.at, frame.pcm.copy()))

    def start_of_speech(self, utterance: str, *, at: float) -> None:
        """Nothing is transcribed."""

    def end_of_speech(self, utterance: str) -> None:
        """Nothing is transcribed."""

    async def __aiter__(self) -> AsyncIterator[Transcript]:
        await self._closed.wait()
        nothing: list[Transcript] = []
        for each in nothing:
            yield each

    async def aclose(self) -> None:
        if not self._closed.is_set():
            self._closed.set()
            _tap.save()


class _RecordingSTT(STT):
    sample_rate = RATE

    def stream(self) -> STTStream:
        return _Recorder(_tap.tapped)


class _Tap:
    """One process serves one call, so there is one."""

    def __init__(self) -> None:
        self.tapped = Tapped()
        self._room = ""

    def save(self) -> None:
        if self._room and (folder := os.environ.get(FOLDER)):
            self.tapped.write(Path(folder) / f"{self._room}.npz")

    def install(self) -> None:
        """Watch LiveKit's client from now on, in this process."""
        connect, heard, next_bytes = rtc.Room.connect, TrackAudio._heard, rtc.ByteStreamReader.__anext__
        tapped = self.tapped

        async def connecting(room: rtc.Room, *args: Any, **named: Any) -> None:
            with suppress(ValueError):  # there is a handler already, as there should be
                room.register_byte_stream_handler(TOPIC, _drain)
            await connect(room, *args, **named)
            tapped.joined, self._room = asyncio.get_running_loop().time(), room.name

        def hearing(audio: TrackAudio, pcm: Pcm) -> None:
            tapped.live_rate = audio.sample_rate
            tapped.live.append(Piece(asyncio.get_running_loop().time(), 0.0, pcm))
            heard(audio, pcm)

        async def reading(reader: rtc.ByteStreamReader) -> bytes:
            info = reader.info
            if info.topic != TOPIC:
                return await next_bytes(reader)
            tapped.info = {"mime_type": info.mime_type, "attributes": dict(info.attributes or {})}
            try:
                data = await next_bytes(reader)
            except StopAsyncIteration:
                tapped.ended = asyncio.get_running_loop().time()
                raise
            tapped.chunks.append((asyncio.get_running_loop().time(), data))
            return data

        for owner, name, watcher in (
            (rtc.Room, "connect", connecting),
            (TrackAudio, "_heard", hearing),
            (rtc.ByteStreamReader, "__anext__", reading),
        ):
            setattr(owner, name, watcher)


def _drain(reader: rtc.ByteStreamReader, sender: str) -> None:
    """Take what nobody else takes, so that it is seen."""

    async def read() -> None:
        async for _ in reader:
            pass

    task = asyncio.get_running_loop().create_task(read())
    _draining.add(task)
    task.add_done_callback(_draining.discard)


_draining: set[asyncio.Task[None]] = set()
_tap = _Tap()


class TapAgent(Agent):
    """Hears, and never answers."""

    def __init__(self) -> None:
        _tap.install()
        super().__init__(stt=_RecordingSTT())
