"""The rules as the YAML has them, checked as far as they can be before anybody speaks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from msgspec import Meta, Struct

from greenroom.providers import OptionError
from greenroom.providers.plugin import KeyPath

__all__ = ["PLACEHOLDER", "START", "Call", "Rule", "ScriptOptions", "listed"]

START = "start"
"""The state in which every conversation begins."""

PLACEHOLDER = re.compile(r"\{\{|\}\}|\{(?P<name>\w+)\}")

Words = str | tuple[str, ...]
Delay = Annotated[float, Meta(ge=0, le=60)]


def listed(words: Words) -> tuple[str, ...]:
    """One or several, as several."""
    return (words,) if isinstance(words, str) else words


class Call(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A tool to call; placeholders are filled in wherever the arguments hold text."""

    tool: Annotated[str, Meta(min_length=1)]
    arguments: dict[str, Any] = {}


class Rule(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """When, and what then. The package's docstring says what each key does."""

    when: Words = ()
    after: Words = ()
    failed: Words = ()
    instructions: Words = ()
    state: Words = ()
    goto: str = ""
    say: Words = ()
    call: Call | tuple[Call, ...] = ()

    def __post_init__(self) -> None:
        for key, patterns in (("when", self.when), ("instructions", self.instructions)):
            for place, pattern in _placed(key, patterns):
                _compiled(pattern, place)
        if not (self.when or self.after or self.failed or self.instructions):
            raise OptionError("the rule never fits; expected one of: when, after, failed, instructions")
        if self.instructions and (self.when or self.after or self.failed):
            raise OptionError("a rule for instructions has no other trigger", path=("instructions",))
        if self.instructions and self.goto:
            raise OptionError("a reply that nobody asked for cannot change the state", path=("goto",))
        if not (self.say or self.call or self.goto):
            raise OptionError("the rule does nothing; expected one of: say, call, goto")
        self._check_placeholders()

    @property
    def calls(self) -> tuple[Call, ...]:
        return (self.call,) if isinstance(self.call, Call) else self.call

    def _check_placeholders(self) -> None:
        known = {"0", "time", "date"}
        for pattern in (*listed(self.when), *listed(self.instructions)):
            compiled = re.compile(pattern)
            known |= {str(number) for number in range(1, compiled.groups + 1)} | set(compiled.groupindex)
        if self.after or self.failed:
            known.add("output")
        texts = list(_placed("say", self.say))
        for index, call in enumerate(self.calls):
            place: KeyPath = ("call",) if isinstance(self.call, Call) else ("call", index)
            texts += _texts(call.arguments, (*place, "arguments"))
        for path, text in texts:
            for match in PLACEHOLDER.finditer(text):
                if match["name"] is not None and match["name"] not in known:
                    raise OptionError(
                        f"nothing is called {match.group()}; expected one of: {', '.join(sorted(known))}", path=path
                    )


class ScriptOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What may stand beside ``plugin: script``."""

    rules: tuple[Rule, ...] = ()
    otherwise: Words = "Sorry, I did not understand that."
    unprompted: Words = "Hello. How can I help you?"
    first_token: Delay = 0.0
    gap: Delay = 0.0
    timezone: str = ""
    time_format: str = "%-I:%M %p"
    date_format: str = "%A, %B %-d"

    def __post_init__(self) -> None:
        states = {state for rule in self.rules for state in listed(rule.state)}
        targets = {rule.goto for rule in self.rules if rule.goto}
        for index, rule in enumerate(self.rules):
            if rule.goto and rule.goto not in states | {START}:
                expected = ", ".join(sorted(states | {START}))
                raise OptionError(
                    f"no rule has the state `{rule.goto}`; known: {expected}", path=("rules", index, "goto")
                )
            for state in listed(rule.state):
                if state not in targets | {START}:
                    raise OptionError(f"no rule leads to the state `{state}`", path=("rules", index, "state"))
        if self.timezone:
            try:
                ZoneInfo(self.timezone)
            except (KeyError, ValueError, OSError) as error:
                raise OptionError(
                    f"no time zone is named `{self.timezone}`; expected one like Europe/Berlin", path=("timezone",)
                ) from error


def _placed(key: str, words: Words) -> Iterator[tuple[KeyPath, str]]:
    """Each word with the path to it."""
    if isinstance(words, str):
        yield (key,), words
    else:
        yield from (((key, index), word) for index, word in enumerate(words))


def _texts(value: object, path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    """Every text inside a value of JSON's types, with the path to it."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(item, (*path, str(key)))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _texts(item, (*path, index))


def _compiled(pattern: str, path: KeyPath) -> re.Pattern[str]:
    try:
        return re.compile(pattern, re.IGNORECASE)
    except re.error as error:
        raise OptionError(f"not a regular expression: {error}", path=path) from error
