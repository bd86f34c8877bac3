"""How patient one is with a model, and what is said of one that failed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from greenroom.errors import ProviderError

__all__ = ["Action", "Fault", "GaveUp", "Hedge", "Incident", "Rules", "fault_of"]

Fault: TypeAlias = Literal["error", "refused", "timeout", "stall", "cut", "silence"]
"""What was wrong. ``error``: it failed, and might not have; ``refused``: it would fail again; ``timeout``: nothing
came; ``stall``: nothing more came; ``cut``: it failed in the midst of an answer; ``silence``: it ended, and there was
nothing in it."""

Action: TypeAlias = Literal["retried", "fell_back", "hedged", "gave_up"]
"""What was done. ``retried``: it is asked again; ``fell_back``: another one is asked; ``hedged``: another one had been
asked already, and goes on; ``gave_up``: there was nothing left to do, and what it was asked for failed."""


@dataclass(frozen=True, slots=True)
class Rules:
    """``attempts``: how often one is asked for the same thing, in all. ``delay``: before the second time, doubled each
    time up to ``max_delay``, with jitter. ``timeout``: until something has to come, ``stall``: until something more has
    to. Seconds.
    """

    attempts: int = 2
    delay: float = 0.2
    max_delay: float = 2.0
    timeout: float = 10.0
    stall: float = 10.0


@dataclass(frozen=True, slots=True)
class Incident:
    """A model failed. ``provider``: the plugin's name, numbered where there are several of it; ``to``: who is asked
    now, empty for nobody."""

    kind: str
    provider: str
    fault: Fault
    action: Action
    error: ProviderError
    to: str = ""


@dataclass(frozen=True, slots=True)
class Hedge:
    """A model was late, and another one was asked beside it. ``won``: the other one answered first.

    ``tokens``: of the prompt that was read for nothing, as far as the provider counts them.
    """

    kind: str
    provider: str
    to: str
    won: bool
    tokens: int = 0


class GaveUp(ProviderError):
    """The last failure of all, with what it was."""

    def __init__(self, incident: Incident) -> None:
        error = incident.error
        super().__init__("", provider=error.provider, retryable=error.retryable, retry_after=error.retry_after)
        self.args = error.args
        self.incident = incident


def fault_of(error: ProviderError) -> Fault:
    """What a failure is before anything has come."""
    return "error" if error.retryable else "refused"
