"""All that is done to calls, in the order of the table."""

from __future__ import annotations

from tests.faults.daemons import DaemonKilled, Reloaded, TakenOver
from tests.faults.dispatches import DispatchLost
from tests.faults.endurance import ShortCalls
from tests.faults.hostile import HostileServer
from tests.faults.jobs import MidAnswer, MidSentence, MidTool, Silence, TooOften
from tests.faults.journals import journal_scenarios
from tests.faults.misbehaviour import Blocks, Clings, Leaks, NeverConnects, Raises
from tests.faults.scenario import Scenario
from tests.faults.servers import server_scenarios

__all__ = ["SCENARIOS"]

SCENARIOS: tuple[type[Scenario], ...] = (
    MidSentence,
    MidAnswer,
    MidTool,
    Silence,
    TooOften,
    DaemonKilled,
    TakenOver,
    Reloaded,
    *server_scenarios(),
    DispatchLost,
    Blocks,
    Leaks,
    Raises,
    NeverConnects,
    Clings,
    *journal_scenarios(),
    ShortCalls,
    HostileServer,
)
