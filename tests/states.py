"""Draws ``docs/states.md`` from the machines' transition tables: ``python -m tests.states > docs/states.md``."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any

from greenroom.dialog.deadair import GUARDING
from greenroom.dialog.speech import MAKING, SOUNDING
from greenroom.dialog.turns import TAKING
from greenroom.jobs import drain, lifecycle, recovery
from greenroom.providers.resilience import health, listening, request
from greenroom.room import caller, connection
from greenroom.room.preconnect import watch
from greenroom.server import protocol

__all__ = ["page"]

HEAD = """# The machines' states

Generated from the transition tables by `make states`; a test holds it current. The rules in words stand above each
table in the code. An event that has no row in a state is dropped, with a reason.
"""


def page() -> str:
    """The whole page."""
    parts = [
        HEAD,
        _rows(
            "The line to the server: `server/protocol.py`",
            ((row.state, row.event, row.next, row.rule) for row in protocol.TRANSITIONS),
        ),
        _rows(
            "A job's process: `jobs/lifecycle.py`",
            ((row.state, row.event, row.to, row.rule) for row in lifecycle.TRANSITIONS),
        ),
        _rows(
            "A call over its processes: `jobs/recovery.py`",
            ((row.state, row.event, row.to, row.rule) for row in recovery.TRANSITIONS),
        ),
        _rows(
            "The worker's end: `jobs/drain.py`",
            ((row.state, row.event, row.to, row.rule) for row in drain.TRANSITIONS),
        ),
        _rows(
            "The caller in the room: `room/caller.py`",
            (
                (state, event, target, "")
                for state, events in caller.TABLE.items()
                for event, targets in events.items()
                for target in targets
            ),
        ),
        _rows(
            "The agent's own connection to the room: `room/connection.py`",
            (
                (state, event, target, "")
                for state, events in connection.TABLE.items()
                for event, targets in events.items()
                for target in targets
            ),
        ),
        _rows(
            "The recording that precedes a track: `room/preconnect/watch.py`",
            (
                (state, event, target, "")
                for state, events in watch.TABLE.items()
                for event, targets in events.items()
                for target in targets
            ),
        ),
        _graph("The user's turn: `dialog/turns.py`", TAKING),
        _graph("The making of a speech: `dialog/speech.py`", MAKING),
        _graph("The sounding of a speech: `dialog/speech.py`", SOUNDING),
        _graph("The guard against dead air: `dialog/deadair.py`", GUARDING),
        _graph("A request to models: `providers/resilience/request.py`", request.TURNS),
        _graph("The stream of a transcriber: `providers/resilience/listening.py`", listening.TURNS),
        _graph("A model's health: `providers/resilience/health.py`", health.TURNS),
    ]
    return "\n".join(parts)


def _name(state: object) -> str:
    return str(getattr(state, "value", state)).replace("_", " ")


def _rows(title: str, rows: Iterable[tuple[object, type, object, str]]) -> str:
    lines = [f"## {title}", "", "| state | event | next | what follows |", "|---|---|---|---|"]
    lines += [
        f"| {_name(state)} | `{event.__name__}` | {_name(target)} | {rule} |" for state, event, target, rule in rows
    ]
    return "\n".join(lines) + "\n"


def _graph(title: str, table: Mapping[Any, frozenset[Any]]) -> str:
    lines = [f"## {title}", "", "```mermaid", "stateDiagram-v2"]
    for state, targets in table.items():
        lines += [f"    {_name(state)} --> {_name(target)}" for target in sorted(targets, key=str)]
        if not targets:
            lines.append(f"    {_name(state)} --> [*]")
    return "\n".join([*lines, "```", ""])


if __name__ == "__main__":
    sys.stdout.write(page())
