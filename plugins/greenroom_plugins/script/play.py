"""Which rule answers a conversation. Pure: the conversation in, a decision out; nothing is remembered in between.

A conversation is read as a row of cues, each of which asked for an answer: what the user said, or what tools returned.
Playing the rules over the cues of the past gives the state and how often each rule has answered, and so the present
answer.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from greenroom.providers import ChatContext, FunctionCallOutput, Message
from greenroom_plugins.script.options import START, Rule, listed

__all__ = ["Answer", "answer"]

_NOBODY = -1  # the index under which answers of no rule are counted


@dataclass(frozen=True, slots=True)
class Answer:
    """What to do. ``rule`` is ``None`` when none fits; ``turn`` counts the answers that it gave before.

    ``groups``: what placeholders stand for. ``unprompted``: nobody asked. ``output``: what is to be said of a tool that
    no rule speaks for, or ``None``.
    """

    rule: Rule | None
    turn: int
    groups: Mapping[str, str]
    unprompted: bool = False
    output: str | None = None


@dataclass(slots=True)
class _Cue:
    said: str
    outputs: list[FunctionCallOutput] = field(default_factory=list)
    answered: bool = False


@dataclass(slots=True)
class _Conversation:
    cues: list[_Cue] = field(default_factory=list)
    unprompted: int = 0
    instructions: str = ""
    instructed: bool = False
    """The instructions came last: they are for this very reply."""


def answer(rules: Sequence[Rule], context: ChatContext, *, may_call: bool = True) -> Answer:
    """What the rules answer to the conversation. Without ``may_call`` a rule that only calls a tool does not fit."""
    conversation = _read(context)
    asked = bool(conversation.cues) and not conversation.cues[-1].answered
    if conversation.instructed or not asked:
        for rule in rules:
            if (groups := _search(rule.instructions, conversation.instructions)) is not None and rule.instructions:
                return Answer(rule, conversation.unprompted, groups, unprompted=True)
        if not asked:
            return Answer(None, conversation.unprompted, {}, unprompted=True)
    return _play(rules, conversation.cues, may_call)


def _read(context: ChatContext) -> _Conversation:
    conversation = _Conversation()
    said = ""
    within_step = False  # outputs that follow each other belong to one step
    for index, item in enumerate(context):
        conversation.instructed = False
        if isinstance(item, FunctionCallOutput):
            if not within_step:
                conversation.cues.append(_Cue(said))
            conversation.cues[-1].outputs.append(item)
        elif isinstance(item, Message):
            if item.role == "user":
                said = item.text
                conversation.cues.append(_Cue(said))
            elif item.role == "system":
                conversation.instructions, conversation.instructed = item.text, index > 0
            elif conversation.cues and not conversation.cues[-1].answered:
                conversation.cues[-1].answered = True
            else:
                conversation.unprompted += 1
        within_step = isinstance(item, FunctionCallOutput)
    return conversation


def _play(rules: Sequence[Rule], cues: Sequence[_Cue], may_call: bool) -> Answer:
    state = START
    turns: Counter[int] = Counter()
    *past, present = cues
    for cue in past:
        index, _ = _fitting(rules, cue, state, may_call=True)
        turns[index] += 1
        if index != _NOBODY and rules[index].goto:
            state = rules[index].goto
    index, groups = _fitting(rules, present, state, may_call=may_call)
    if index != _NOBODY:
        return Answer(rules[index], turns[index], groups)
    failed = any(output.is_error for output in present.outputs)
    spoken = " ".join(_words(output.output) for output in present.outputs)
    return Answer(None, turns[_NOBODY], {}, output=spoken if present.outputs and not failed else None)


def _fitting(rules: Sequence[Rule], cue: _Cue, state: str, *, may_call: bool) -> tuple[int, Mapping[str, str]]:
    for index, rule in enumerate(rules):
        if rule.instructions or (rule.state and state not in listed(rule.state)):
            continue
        if not (rule.say or rule.goto or may_call):
            continue
        groups = _fits(rule, cue)
        if groups is not None:
            return index, groups
    return _NOBODY, {}


def _fits(rule: Rule, cue: _Cue) -> Mapping[str, str] | None:
    """What the placeholders stand for, or ``None`` when the rule does not fit."""
    groups = _search(rule.when, cue.said)
    if groups is None:
        return None
    if not (rule.after or rule.failed):
        return None if cue.outputs else groups
    for output in reversed(cue.outputs):
        if output.name in listed(rule.failed if output.is_error else rule.after):
            return {**groups, "output": _words(output.output)}
    return None


def _search(patterns: str | tuple[str, ...], text: str) -> dict[str, str] | None:
    """The groups of the first pattern that matches; none are needed where there is no pattern."""
    if not patterns:
        return {}
    for pattern in listed(patterns):
        if match := _compiled(pattern).search(text):
            numbered = {str(number): group or "" for number, group in enumerate((match.group(), *match.groups()))}
            return {**numbered, **{name: value or "" for name, value in match.groupdict().items()}}
    return None


def _words(output: str) -> str:
    """A tool's answer as words: text that was made JSON is made text again."""
    try:
        value = json.loads(output)
    except ValueError:
        return output
    return value if isinstance(value, str) else output


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)
