"""A track's audio, handed over by LiveKit's client to who wants it, on the loop, with nothing between them.

LiveKit's own ``rtc.AudioStream`` is given the frames of every stream in the process, wakes a task for each of them, and
passes its own through a second queue to a second task. A call has two streams for as long as it lasts, and that was a
fifth of the time that Python spent in it.
"""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import Callable
from contextlib import suppress

import numpy as np
from livekit import rtc
from livekit.rtc._ffi_client import FfiClient, FfiHandle
from livekit.rtc._proto import audio_frame_pb2, ffi_pb2

from greenroom.audio import Pcm

__all__ = ["TrackStream"]

SAMPLE = np.dtype(np.int16).itemsize


class TrackStream:
    """Calls ``take`` with each ``frame_ms`` milliseconds of the track, mono at ``sample_rate``, read-only.

    ``take`` runs on the loop, soon after the frame's last sample has arrived. To be closed.
    """

    def __init__(self, track: rtc.Track, *, sample_rate: int, frame_ms: int, take: Callable[[Pcm], None]) -> None:
        self._take = take
        self._loop = asyncio.get_running_loop()
        self._ended = self._loop.create_future()
        self._closed = False
        self._number = 0
        """By which LiveKit's client knows the stream; 0 until it has said."""
        client = FfiClient.instance
        self._subscription = client.queue.subscribe(self._loop, filter_fn=self._noticed)
        request = ffi_pb2.FfiRequest()
        wanted = request.new_audio_stream
        wanted.track_handle = track._ffi_handle.handle  # noqa: SLF001  # as LiveKit's own stream does
        wanted.type = audio_frame_pb2.AudioStreamType.AUDIO_STREAM_NATIVE
        wanted.sample_rate, wanted.num_channels = sample_rate, 1
        wanted.frame_size_ms = frame_ms
        wanted.queue_size_frames = 0  # without a limit: what is lost is decided by who keeps it
        self._handle = FfiHandle(client.request(request).new_audio_stream.stream.handle.id)
        self._number = self._handle.handle

    async def ended(self) -> None:
        """Returns when the track is over, or this is closed."""
        await asyncio.shield(self._ended)

    async def aclose(self) -> None:
        """Take no more; returns when LiveKit's client has stopped."""
        self._closed = True
        self._handle.dispose()
        await self.ended()

    def _noticed(self, event: ffi_pb2.FfiEvent) -> bool:
        """In a thread of LiveKit's client, with every event there is. Never wanted in the subscription's own queue."""
        heard = event.audio_stream_event  # one about no stream at all, where the event is another
        # One that came before the stream's number is known is looked at on the loop, when it is.
        if heard.stream_handle and self._number in (0, heard.stream_handle):
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._arrived, heard)
        return False

    def _arrived(self, event: audio_frame_pb2.AudioStreamEvent) -> None:
        if event.stream_handle != self._number:
            return
        if event.HasField("frame_received"):
            frame = event.frame_received.frame
            info = frame.info
            data = ctypes.string_at(info.data_ptr, info.samples_per_channel * info.num_channels * SAMPLE)
            FfiHandle(frame.handle.id).dispose()
            if not self._closed:
                self._take(np.frombuffer(data, dtype=np.int16))
        elif event.HasField("eos") and not self._ended.done():
            FfiClient.instance.queue.unsubscribe(self._subscription)
            self._ended.set_result(None)
