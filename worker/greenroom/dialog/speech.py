"""One speech: what is being made for it, and what is being heard of it.

The two sides are independent. Making may run ahead; sounding waits its turn. A speech that calls tools has several
steps, each made and sounded in order; between them it yields the floor, so that a tool may speak.

Making::

    NONE -> RUNNING -> MADE -> RUNNING (next step) ...
                    -> FAILED
            any     -> CANCELLED

Sounding::

    PARKED (begun before its turn was committed) -> QUEUED
    QUEUED -> AUTHORISED -> PLAYING -> YIELDED -> QUEUED (next step) ...
                         ->            QUEUED (next step is there already)
                                       PAUSED -> PLAYING (it was a false alarm)
                         -> STOPPING -> ENDED
    any    -> ENDED

Only one speech is ever in AUTHORISED, PLAYING, PAUSED or STOPPING.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from greenroom.dialog.events import EndReason, Place, RequestedCall, SpeechSource
from greenroom.dialog.history import ChatItem
from greenroom.errors import LocalProtocolError

__all__ = ["MAKING", "SOUNDING", "Making", "Sounding", "Speech", "Step"]


class Making(StrEnum):
    NONE = "none"
    RUNNING = "running"
    MADE = "made"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Sounding(StrEnum):
    PARKED = "parked"
    QUEUED = "queued"
    AUTHORISED = "authorised"
    PLAYING = "playing"
    PAUSED = "paused"
    STOPPING = "stopping"
    YIELDED = "yielded"
    ENDED = "ended"


MAKING: dict[Making, frozenset[Making]] = {
    Making.NONE: frozenset({Making.RUNNING}),
    Making.RUNNING: frozenset({Making.MADE, Making.FAILED, Making.CANCELLED}),
    Making.MADE: frozenset({Making.RUNNING, Making.CANCELLED}),
    Making.FAILED: frozenset({Making.CANCELLED}),
    Making.CANCELLED: frozenset(),
}
"""Where the making of a speech may go from each state."""

SOUNDING: dict[Sounding, frozenset[Sounding]] = {
    Sounding.PARKED: frozenset({Sounding.QUEUED}),
    Sounding.QUEUED: frozenset({Sounding.AUTHORISED, Sounding.ENDED}),
    Sounding.AUTHORISED: frozenset(
        {Sounding.PLAYING, Sounding.STOPPING, Sounding.YIELDED, Sounding.QUEUED, Sounding.ENDED}
    ),
    Sounding.PLAYING: frozenset(
        {Sounding.PAUSED, Sounding.STOPPING, Sounding.YIELDED, Sounding.QUEUED, Sounding.ENDED}
    ),
    Sounding.PAUSED: frozenset({Sounding.PLAYING, Sounding.STOPPING, Sounding.ENDED}),
    Sounding.STOPPING: frozenset({Sounding.ENDED}),
    Sounding.YIELDED: frozenset({Sounding.QUEUED, Sounding.ENDED}),
    Sounding.ENDED: frozenset(),
}
"""Where the sounding of a speech may go from each state."""

ON_THE_FLOOR = frozenset({Sounding.AUTHORISED, Sounding.PLAYING, Sounding.PAUSED, Sounding.STOPPING})


@dataclass(slots=True)
class Step:
    """One round of text, and the tools that it ``asked`` for. ``calls``: those that have not returned."""

    number: int
    ended: bool = False
    text: str = ""
    asked: tuple[RequestedCall, ...] = ()
    calls: set[str] = field(default_factory=set)
    wants_reply: bool = False
    sounded: bool = False
    synthesised: bool = False
    results: list[ChatItem] = field(default_factory=list)


@dataclass(slots=True)
class Speech:
    """The scheduler's record of a speech. ``order`` sorts the queue: smaller first. ``sounds``: its
    step has begun to, and was neither paused nor over.
    """

    id: str
    source: SpeechSource
    priority: int
    place: Place
    arrival: int
    allow_interruptions: bool
    in_history: bool
    requested: float
    stoppable: bool = False
    ttl: float | None = None
    key: str = ""
    group: str = ""
    making: Making = Making.NONE
    sounding: Sounding = Sounding.QUEUED
    heard: bool = False
    sounds: bool = False
    error: str = ""
    end_reason: EndReason | None = None
    steps: list[Step] = field(default_factory=list)
    calls: dict[str, RequestedCall] = field(default_factory=dict)
    sounding_step: int = 1
    handoff: str = ""

    @property
    def order(self) -> tuple[int, int, int]:
        """Priority, then place (a speech that goes on after its tools is ahead of its equals), then arrival."""
        rank = 0 if self.sounding_step > 1 else 1 if self.place != "queue" else 2
        return (-self.priority, rank, self.arrival)

    @property
    def on_the_floor(self) -> bool:
        return self.sounding in ON_THE_FLOOR

    @property
    def step(self) -> Step:
        """The step that is being made or was made last."""
        return self.steps[-1]

    @property
    def audible(self) -> bool:
        return self.sounds and self.sounding in (Sounding.PLAYING, Sounding.STOPPING)

    def expires(self) -> float | None:
        """When a waiting speech that nobody has heard is no longer worth saying."""
        if self.ttl is None or self.heard or self.sounding is not Sounding.QUEUED:
            return None
        return self.requested + self.ttl

    def make(self, state: Making) -> None:
        if state not in MAKING[self.making]:
            raise LocalProtocolError(f"speech {self.id}: making cannot go from {self.making} to {state}")
        self.making = state

    def sound(self, state: Sounding) -> None:
        if state not in SOUNDING[self.sounding]:
            raise LocalProtocolError(f"speech {self.id}: sounding cannot go from {self.sounding} to {state}")
        self.sounding = state

    def step_numbered(self, number: int) -> Step | None:
        return self.steps[number - 1] if 1 <= number <= len(self.steps) else None
