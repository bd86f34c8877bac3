"""Which jobs an agent takes, by what its settings say of them. Pure, and quick enough for the answer to an offer.

Rules:

- Without a rule every job is taken, with rules each that at least one rule fits.
- A rule fits when all of its expressions match: of the room's name, of the job's metadata, of attributes by name. An
  expression that is empty, or left out, asks for nothing.
- An expression has to match the whole text, line ends included, which ``.`` matches too. An attribute that is not there
  is an empty text.

The expressions are the operator's own and are trusted; they run in the daemon, so one that takes exponential time, such
as ``(a+)+b``, stops it for as long.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from greenroom.errors import SettingsError
from greenroom.settings import AcceptRule
from greenroom.wording import found

__all__ = ["AcceptRules"]


class AcceptRules:
    """The rules of one agent, compiled. ``key`` is where they stand, for errors: ``agents[0].accept``.

    Raises ``SettingsError`` for an expression that cannot be read; its key names the rule and the expression.
    """

    def __init__(self, rules: Sequence[AcceptRule], *, key: str = "accept") -> None:
        self._rules = tuple(_Rule(rule, f"{key}[{index}]") for index, rule in enumerate(rules))

    def takes(self, *, room: str, metadata: str, attributes: Mapping[str, str]) -> bool:
        """Whether a job in ``room`` with this ``metadata`` and these ``attributes`` is taken."""
        return not self._rules or any(rule.fits(room, metadata, attributes) for rule in self._rules)


class _Rule:
    def __init__(self, rule: AcceptRule, key: str) -> None:
        self._room = _compiled(rule.room, f"{key}.room")
        self._metadata = _compiled(rule.metadata, f"{key}.metadata")
        self._attributes = {
            name: _compiled(pattern, f"{key}.attributes.{name}") for name, pattern in rule.attributes.items()
        }

    def fits(self, room: str, metadata: str, attributes: Mapping[str, str]) -> bool:
        return (
            _matches(self._room, room)
            and _matches(self._metadata, metadata)
            and all(_matches(pattern, attributes.get(name, "")) for name, pattern in self._attributes.items())
        )


def _matches(pattern: re.Pattern[str] | None, text: str) -> bool:
    return pattern is None or pattern.fullmatch(text) is not None


def _compiled(pattern: str, key: str) -> re.Pattern[str] | None:
    if not pattern:
        return None
    try:
        return re.compile(pattern, re.DOTALL)
    except (re.error, RecursionError, OverflowError) as error:
        problem = f"{found(pattern)} cannot be read ({error})"
        raise SettingsError(f"{problem}; expected a regular expression, as Python's re takes it", key=key) from None
