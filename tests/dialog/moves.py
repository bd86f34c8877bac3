"""What may happen in a conversation, as data: the moves with their weights, and what may differ from the defaults.

A script is a row of bytes: the first few pick differences, each of the others a move out of a table of 256. That is one
choice to Hypothesis, which then spends a fifth of the time and not most of it, and it shrinks well: zero is no
difference and no move, so that what is left of a failing script are the moves that matter.
To add an event: a method of ``Conversation``, and a row here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, product
from typing import Any

from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from greenroom.dialog.deadair import DeadAirRules
from greenroom.dialog.dialog import DialogRules
from greenroom.dialog.endpoint import EndpointRules
from greenroom.dialog.interruption import InterruptionRules
from greenroom.dialog.turns import TurnRules

from .conversation import Circumstances, Conversation

__all__ = ["DIFFERENCES", "MOVES", "Move", "Row", "Script", "Talk", "circumstances", "converse", "scripts"]

LONGEST = 36
"""Moves in a script, at most."""
VARIETY = 4
"""Differences from the defaults, at most."""


@dataclass(frozen=True, slots=True)
class Move:
    """``name``: of a method of ``Conversation``."""

    name: str
    args: tuple[Any, ...] = ()

    def __repr__(self) -> str:
        return f"Move({', '.join(map(repr, (self.name, *([self.args] if self.args else []))))})"


@dataclass(frozen=True, slots=True)
class Row:
    """A move and its arguments; those that come more often are there more than once."""

    name: str
    args: Sequence[tuple[Any, ...]] = ((),)

    def moves(self) -> list[Move]:
        return [Move(self.name, args) for args in self.args]


def _often(name: str, times: int) -> Row:
    return Row(name, [()] * times)


def _each(*choices: Iterable[Any]) -> list[tuple[Any, ...]]:
    return list(product(*choices))


SPEECHES: tuple[dict[str, Any], ...] = (
    {},
    {"allow_interruptions": False},
    {"place": "next"},
    {"place": "replace"},
    {"priority": 10},
    {"allow_interruptions": False, "stoppable": True, "priority": 0},
    {"priority": 10, "place": "replace", "allow_interruptions": False},
    {"ttl": 1.0},
    {"ttl": 1.0, "priority": 0, "allow_interruptions": False},
    {"key": "k"},
    {"key": "k", "group": "g", "allow_interruptions": False},
    {"group": "g"},
    {"in_history": False},
    {"user_input": "given"},
)

MADE = (
    *["end"] * 4,
    "call",
    "only call",
    "only call",
    "empty",
    "two",
    "cancel",
    "tell",
    "reject",
    "replace",
    "again",
    "failed",
    "first",
)
STRAYS = (
    *("played", "generated", "synthesised", "tool", "words", "stopped"),
    *("hook", "judged", "agent", "protected", "interrupted", "started"),
)

MOVES: tuple[Row, ...] = (
    Row("all_goes_on", [("go on",)] * 22 + [("change",)] * 4 + [("stop",)]),
    Row("wait", [(0.05,)] * 6 + [(0.3,)] * 17 + [(0.7,)] * 12 + [(2.5,)] * 7 + [(8.0,)] * 3),
    _often("user_starts", 18),
    _often("user_stops", 14),
    Row(
        "words_come", _each((0,), (*["words"] * 5, "ended", "ended", "yes", "nothing")) + _each((1,), ("words", "yes"))
    ),
    Row("words_pass", [(True,), (True,), (False,), (False,), (False,)]),
    Row("user_types", [(False,)] * 5 + [(True,)]),
    Row("text_comes", _each((0,), MADE) + _each((1,), ("end", "end", "call", "failed"))),
    _often("track_goes_on", 18),
    Row("voice_comes", [(0, "failed"), (1, "failed"), (0, "sentence"), (0, "first"), (0, "end")]),
    _often("track_breaks", 1),
    Row("hook_returns", [("go on",)] * 7 + [("stop",), ("change",), ("reword",)]),
    Row("tool_returns", [(0, "result")] * 3 + [(1, "result"), (0, "nothing"), (0, "error"), (0, "agent")]),
    Row("say", _each(("generate_reply",), SPEECHES) + _each(("say",), SPEECHES[:8])),
    Row("interrupt", _each((0, 1), (False, True))),
    Row("interrupt_all", _each(("", "g"), (False, True))),
    Row("protect", _each((0, 1), (True, False))),
    Row("judgement_comes", [(0.9,), (0.9,), (0.1,)]),
    Row("end_turn", [(False,), (False,), (True,)]),
    _often("clear_turn", 1),
    Row("mute", [(True,), (False,), (False,)]),
    Row("listener", [(False,), (True,)]),
    _often("change_context", 2),
    _often("hand_off", 2),
    _often("agent_changes", 2),
    Row("stray", _each(STRAYS)),
    Row("close", [(True,), (False,)]),
)

DIFFERENCES: dict[str, tuple[Any, ...]] = {
    "hook": (False,),
    "names": (False,),
    "mute_voice": (True,),
    "late": (True,),
    "resumed": (True,),
    "detection": ("stt", "realtime", "manual"),
    "endpoint": (
        EndpointRules(dynamic=True),
        EndpointRules(judged_by="text"),
        EndpointRules(judged_by="audio"),
        EndpointRules(min_delay=0.0),
    ),
    "transcript_timeout": (0.6,),
    "max_duration": (2.0,),
    "interruption": (
        InterruptionRules(pause=False),
        InterruptionRules(enabled=False),
        InterruptionRules(min_words=2),
        InterruptionRules(pause_after=0.4, resume_after=0.2),
    ),
    "dead_air": (
        DeadAirRules(enabled=True, hold_phrase="One moment.", fallback_phrase="Again?", end_phrase="Goodbye."),
        DeadAirRules(enabled=True, hold_after=1.0, fallback_after=1.0, end_after=1.0),
    ),
    "mute": (("greeting",), ("tools",), ("speaking",), ("always",)),
    "max_tool_steps": (1, 0),
    "preemptive": (True, True, True),
    "preemptive_tts": (True,),
    "away_after": (3.0,),
}

_OF_TURNS = {"detection", "endpoint", "transcript_timeout", "max_duration"}
_OF_WORLD = {"hook", "names", "mute_voice", "late", "resumed"}


def circumstances(differences: dict[str, Any]) -> Circumstances:
    """The defaults, but for these."""
    turns = {key: value for key, value in differences.items() if key in _OF_TURNS}
    world = {key: value for key, value in differences.items() if key in _OF_WORLD}
    rules = {key: value for key, value in differences.items() if key not in (*turns, *world)}
    if rules.get("preemptive_tts"):
        rules["preemptive"] = True
    return Circumstances(DialogRules(turns=replace(TurnRules(transcript_timeout=3.0), **turns), **rules), **world)


@dataclass(frozen=True, slots=True)
class Script:
    """A conversation to be held. Its ``repr`` is what to write in a test to hold it again."""

    moves: list[Move]
    differences: dict[str, Any] = field(default_factory=dict)


_TABLE: list[Move | None] = [None, *chain.from_iterable(row.moves() for row in MOVES)]
_END = 254
"""From here on, a choice ends the script."""
assert len(_TABLE) == _END, f"{len(_TABLE)} moves are not {_END}"
_NONE = 120
"""Up to here, a choice makes no difference."""
_KINDS = [(name, value) for name, values in DIFFERENCES.items() for value in values]


def _script(choices: bytes) -> Script:
    differences = dict(_KINDS[choice % len(_KINDS)] for choice in choices[:VARIETY] if choice > _NONE)
    moves: list[Move] = []
    for choice in choices[VARIETY:]:
        if choice >= _END:
            break
        if (move := _TABLE[choice]) is not None:
            moves.append(move)
    return Script(moves, differences)


def scripts() -> st.SearchStrategy[Script]:
    return st.binary(min_size=VARIETY + LONGEST, max_size=VARIETY + LONGEST).map(_script)


def converse(script: Script) -> Conversation:
    """Hold a conversation to its end, and replay it. What led to a failure is told with it."""
    talk = Conversation(circumstances(script.differences))
    try:
        talk.begin()
        for move in script.moves:
            talk.make(move.name, move.args)
        talk.finish()
        talk.replay()
    except Exception:
        note(f"{script}\n\n{talk.story()}")
        raise
    return talk


class Talk(RuleBasedStateMachine):
    """The same moves as the rules of a state machine: Hypothesis chooses among them as it goes along."""

    talk: Conversation

    def __init__(self) -> None:
        super().__init__()
        self._whole = True

    @initialize(differences=st.lists(st.sampled_from(_KINDS), max_size=VARIETY))
    def begins(self, differences: list[tuple[str, Any]]) -> None:
        self.talk = Conversation(circumstances(dict(differences)))
        self.talk.begin()

    def teardown(self) -> None:
        if self._whole:
            self._told(self._finish)

    def _finish(self) -> None:
        self.talk.finish()
        self.talk.replay()

    def _told(self, act: Callable[[], None]) -> None:
        """What led to a failure is told with it; then there is nothing left to finish."""
        try:
            act()
        except Exception:
            self._whole = False
            note(self.talk.story())
            raise


def _rule(row: Row) -> Any:
    def act(self: Talk, args: tuple[Any, ...]) -> None:
        self._told(lambda: self.talk.make(row.name, args))

    act.__name__ = row.name
    return rule(args=st.sampled_from(row.args))(act)


for _row in MOVES:
    setattr(Talk, _row.name, _rule(_row))
