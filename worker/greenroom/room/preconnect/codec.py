"""Packets of Opus and AAC into samples, by PyAV's decoders. PyAV is loaded with the first recording that is promised.

Only decoders are used, not PyAV's readers of containers: one of them was seen to lose the first packet of a recording,
and they are a far larger door for hostile bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from greenroom.audio import Pcm
from greenroom.room.preconnect.packets import Track

if TYPE_CHECKING:
    from av.audio.codeccontext import AudioCodecContext
    from av.audio.frame import AudioFrame

__all__ = ["PacketDecoder", "load"]

DECODERS = {"opus": ("libopus", "opus"), "aac": ("aac",)}
"""By preference."""


def load() -> None:
    """Load the decoders: a twentieth of a second or more, in which the interpreter may stand still for some 10 ms."""
    import av  # noqa: F401


class PacketDecoder:
    """One track's. Not for use in several threads at once, but for use in any."""

    def __init__(self, track: Track) -> None:
        import av
        from av.audio.codeccontext import AudioCodecContext

        name = next(name for name in DECODERS[track.codec] if name in av.codecs_available)
        context = av.CodecContext.create(name, "r")
        if not isinstance(context, AudioCodecContext):
            raise TypeError(f"{name} is no audio decoder")
        context.extradata = track.config
        context.sample_rate = track.sample_rate
        context.layout = "mono" if track.channels == 1 else "stereo"
        context.thread_count = 1
        self.sample_rate = track.sample_rate
        """Hz, of what the decoder last made."""
        self._context: AudioCodecContext = context
        self._packet = av.Packet
        self._error = av.FFmpegError

    def decode(self, data: bytes) -> Pcm | None:
        """The samples of one packet, its channels averaged; ``None`` where it is broken."""
        try:
            frames = self._context.decode(self._packet(data))
        except self._error:
            return None
        mono = [self._mono(frame) for frame in frames]
        return np.concatenate(mono) if mono else np.zeros(0, dtype=np.int16)

    def _mono(self, frame: AudioFrame) -> Pcm:
        self.sample_rate = frame.sample_rate
        samples = frame.to_ndarray()
        if not frame.format.is_planar:
            samples = samples.reshape(-1, frame.layout.nb_channels).T
        mean = samples.mean(axis=0, dtype=np.float64) if len(samples) > 1 else samples[0]
        if samples.dtype == np.int16:
            return np.asarray(np.rint(mean), dtype=np.int16)
        return np.asarray(np.clip(np.rint(mean * 32768.0), -32768, 32767), dtype=np.int16)
