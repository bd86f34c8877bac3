"""What stands in for LiveKit's native half: tracks that sound by the loop's clock, so that every run is the same.

The rest of a frame's way is greenroom's own code as it runs in a call, and frames are LiveKit's. At the far end of it
is a transcriber that keeps nothing.
"""

from __future__ import annotations

import asyncio
import ctypes
import itertools
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import cast
from unittest.mock import patch
from weakref import WeakValueDictionary

import numpy as np
from livekit import rtc
from livekit.rtc._ffi_client import FfiQueue
from livekit.rtc._proto import audio_frame_pb2, ffi_pb2

from greenroom.audio import AudioFrame
from greenroom.providers.stt import STT, STTStream, Transcript
from greenroom.room import stream
from greenroom.room.tally import TICK

__all__ = ["Deaf", "Source", "Track", "tone", "tracks"]

Sound = Callable[[int], bytes]
"""The next samples of a track, so many."""


class _Handle:
    """LiveKit's ``FfiHandle``: what its client knows something by."""

    def __init__(self, handle: int) -> None:
        self.handle = handle

    def dispose(self) -> None:
        _ended.add(self.handle)


class Track:
    """A track that sounds like this. Its name is ``sid``."""

    def __init__(self, sound: Sound, *, sid: str = "TR_guard") -> None:
        self.sid = sid
        self.sound = sound
        self._ffi_handle = _Handle(next(_numbers))
        _tracks[self._ffi_handle.handle] = self

    def rtc(self) -> rtc.RemoteAudioTrack:
        return cast("rtc.RemoteAudioTrack", self)


_numbers = itertools.count(1)
_tracks: WeakValueDictionary[int, Track] = WeakValueDictionary()
_ended: set[int] = set()


class _Client:
    """LiveKit's ``FfiClient``: a stream of a track gives a frame each ``frame_size_ms``, when its last sample was
    captured."""

    def __init__(self) -> None:
        self.queue: FfiQueue[ffi_pb2.FfiEvent] = FfiQueue()
        self._streams: set[asyncio.Task[None]] = set()

    def request(self, request: ffi_pb2.FfiRequest) -> ffi_pb2.FfiResponse:
        response, number = ffi_pb2.FfiResponse(), next(_numbers)
        response.new_audio_stream.stream.handle.id = number
        playing = asyncio.get_running_loop().create_task(self._play(request.new_audio_stream, number))
        self._streams.add(playing)
        playing.add_done_callback(self._streams.discard)
        return response

    async def _play(self, wanted: audio_frame_pb2.NewAudioStreamRequest, number: int) -> None:
        track, loop = _tracks[wanted.track_handle], asyncio.get_running_loop()
        size = wanted.sample_rate * wanted.frame_size_ms // 1000
        began, frames = loop.time(), 0
        while number not in _ended:
            frames += 1
            await asyncio.sleep(began + frames * size / wanted.sample_rate - loop.time())
            samples = ctypes.create_string_buffer(track.sound(size), 2 * size)
            event = self._event(number)
            info = event.audio_stream_event.frame_received.frame.info
            info.data_ptr = ctypes.addressof(samples)
            info.sample_rate, info.num_channels, info.samples_per_channel = wanted.sample_rate, 1, size
            self.queue.put(event)
            await asyncio.sleep(0)  # it is taken before its samples are gone
        event = self._event(number)
        event.audio_stream_event.eos.SetInParent()
        self.queue.put(event)

    def _event(self, number: int) -> ffi_pb2.FfiEvent:
        event = ffi_pb2.FfiEvent()
        event.audio_stream_event.stream_handle = number
        return event


class Source:
    """LiveKit's ``AudioSource``: what it is given leaves in pieces of ``TICK``, silence where there is nothing."""

    def __init__(self, sample_rate: int, num_channels: int, queue_size_ms: int) -> None:
        self._tick = 2 * round(TICK * sample_rate)
        self._pieces: deque[bytes] = deque()

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        data = bytes(frame.data)
        self._pieces.extend(data[at : at + self._tick] for at in range(0, len(data), self._tick))

    def clear_queue(self) -> None:
        self._pieces.clear()

    async def aclose(self) -> None:
        pass

    def sound(self, samples: int) -> bytes:
        count = 2 * samples // self._tick
        return b"".join(self._pieces.popleft() if self._pieces else bytes(self._tick) for _ in range(count))


@contextmanager
def tracks() -> Iterator[None]:
    """LiveKit's streams, sources and tracks are those of this module meanwhile."""

    def create(name: str, source: Source) -> Track:
        return Track(source.sound, sid=name)

    with (
        patch.object(stream, "FfiClient", SimpleNamespace(instance=_Client())),
        patch.object(stream, "FfiHandle", _Handle),
        patch.object(rtc, "AudioSource", Source),
        patch.object(rtc.LocalAudioTrack, "create_audio_track", staticmethod(create)),
    ):
        yield


def tone(amplitude: float, *, hertz: float = 220.0, sample_rate: int) -> Sound:
    """A sine wave that goes on for ever."""
    wave = amplitude * np.sin(2 * np.pi * hertz / sample_rate * np.arange(sample_rate))
    data, at = np.asarray(wave, dtype=np.int16).tobytes(), [0]

    def sound(samples: int) -> bytes:
        start, at[0] = at[0], (at[0] + 2 * samples) % len(data)
        piece = data[start : start + 2 * samples]
        return piece + data[: 2 * samples - len(piece)]

    return sound


class Deaf(STT):
    """Transcribes nothing."""

    def stream(self) -> STTStream:
        return _DeafStream()


class _DeafStream(STTStream):
    def __init__(self) -> None:
        self._closed = asyncio.Event()

    def push(self, frame: AudioFrame) -> None:
        pass

    def start_of_speech(self, utterance: str, *, at: float) -> None:
        pass

    def end_of_speech(self, utterance: str) -> None:
        pass

    async def __aiter__(self) -> AsyncIterator[Transcript]:
        nothing: tuple[Transcript, ...] = ()
        await self._closed.wait()
        for transcript in nothing:
            yield transcript

    async def aclose(self) -> None:
        self._closed.set()
