"""How much longer a call waits for a model in the host than for one of its own: the way there and back."""

from __future__ import annotations

import os
import statistics
import sys
import time
from pathlib import Path

from greenroom.audio import AudioFrame
from tests.models.conftest import keeping, python_path, settings
from tests.models.fakes import ECHO, RATE, install, sound

__all__ = ["SECONDS", "measure_way"]

SECONDS = 5
TIMES = 200


async def measure_way(folder: Path) -> float:
    """Seconds from an utterance of ``SECONDS`` to its words, where the model itself takes none; the median."""
    place = install(folder / "plugins")
    sys.path.insert(0, str(place))
    os.environ["PYTHONPATH"] = python_path(place)
    async with keeping(settings("stt"), folder) as kept:
        ear = kept.build("stt")
        frame = AudioFrame(sound(ECHO, samples=SECONDS * RATE).pcm, RATE)
        await ear.recognize(frame)  # it dials, and the host loads
        took = []
        for _ in range(TIMES):
            began = time.perf_counter()
            await ear.recognize(frame)
            took.append(time.perf_counter() - began)
    return statistics.median(took)
