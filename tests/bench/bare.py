"""``python -m tests.bench.bare URL``: an agent that is LiveKit's client and nothing else.

It says ``ready``, reads a token, joins, publishes a track, and sounds once somebody has subscribed: what every
framework has to wait for, however little it does itself.
"""

from __future__ import annotations

import asyncio
import sys

import numpy as np
from livekit import rtc

RATE = 24_000
SECONDS = 2.0
PIECE = 0.05

__all__ = ["main"]


async def _sound(url: str, token: str) -> None:
    room, subscribed = rtc.Room(), asyncio.Event()
    room.on("local_track_subscribed", lambda _: subscribed.set())
    await room.connect(url, token, rtc.RoomOptions(auto_subscribe=False))
    source = rtc.AudioSource(RATE, 1, queue_size_ms=400)
    track = rtc.LocalAudioTrack.create_audio_track("agent", source)
    options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
    await room.local_participant.publish_track(track, options)
    await subscribed.wait()
    tone = (12_000 * np.sin(2 * np.pi * 440 * np.arange(round(PIECE * RATE)) / RATE)).astype(np.int16)
    for _ in range(round(SECONDS / PIECE)):
        await source.capture_frame(rtc.AudioFrame(tone.tobytes(), RATE, 1, len(tone)))
    await room.disconnect()


def main() -> None:
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    asyncio.run(_sound(sys.argv[1], sys.stdin.readline().strip()))


if __name__ == "__main__":
    main()
