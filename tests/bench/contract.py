"""What the driver and the workers have agreed on; ``README.md`` has it in words. Times are seconds."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

__all__ = [
    "AGENT",
    "FLOOR",
    "LLM_FIRST",
    "PREEMPTIVE_FLOOR",
    "REGISTERED",
    "STT_DELAY",
    "TONE",
    "TTS_FIRST",
    "Knobs",
]

AGENT = "bench"
"""The name that a worker registers under, and is dispatched by."""
REGISTERED = "registered"
"""A worker prints a line with this word once it is."""
STT_DELAY = 0.200
"""From the last voiced 10 ms to the final transcript."""
LLM_FIRST = 0.100
TTS_FIRST = 0.050
TONE = 440.0
"""Hz, of every reply."""


@dataclass(frozen=True, slots=True)
class Knobs:
    """What a dispatch asks for, as JSON in its metadata.

    ``reply_s``: length of a reply's audio. ``preemptive``: ask the model at the final transcript, before the turn is
    committed. ``endpointing``: from the end of speech to the commit. ``vad_silence``: silence that ends speech.
    ``interrupt_min``: speech over a reply that interrupts it. ``greet``: say something once the session is ready.
    """

    reply_s: float = 2.0
    preemptive: bool = False
    endpointing: float = 0.3
    vad_silence: float = 0.25
    interrupt_min: float = 0.5
    greet: bool = False

    @staticmethod
    def of(metadata: str) -> Knobs:
        return Knobs(**json.loads(metadata or "{}"))

    def encode(self) -> str:
        return json.dumps(asdict(self))


FLOOR = max(Knobs().endpointing, STT_DELAY) + LLM_FIRST + TTS_FIRST
"""A turn of an ideal framework without transport."""
PREEMPTIVE_FLOOR = max(Knobs().endpointing, STT_DELAY + LLM_FIRST) + TTS_FIRST
