"""Which words of the text begin at which sample. Pure: no I/O, no clock.

Cartesia names the words of the text as they are written, with the times at which they begin. Each is looked for in the
text from where the last one ended; what lies between, spaces and punctuation and words that Cartesia left out, belongs
to the word before it. Joined, the labels are the text.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Label", "Labels"]

_WORD = re.compile(r"\w+")
TYPICAL_RATE = 15.0
"""Characters spoken in a second."""
_AHEAD = 12
"""Words that Cartesia may have left out before the one that it names."""
_OPENING = "([{<“‘«„¿¡\"'`*_"
_AFTER = re.compile(rf"\W*?(?=[{re.escape(_OPENING)}]*\w|\Z)")  # an opening mark belongs to what comes after it


@dataclass(frozen=True, slots=True)
class Label:
    """``text`` whose sound begins at ``sample``; ``aligned``: and did not begin before."""

    sample: int
    text: str
    aligned: bool


@dataclass(frozen=True, slots=True)
class _Word:
    """A word from ``begin`` to ``end`` of the text, whose sound begins at ``sample``."""

    sample: int
    begin: int
    end: int


class Labels:
    """The text of one speech on its way to its audio."""

    def __init__(self, sample_rate: int) -> None:
        self._rate = sample_rate
        self._text = ""
        self._given = 0
        self._found = 0
        self._due: deque[_Word] = deque()

    def write(self, text: str) -> None:
        """More of the text, spoken or not."""
        self._text += text

    @property
    def pending(self) -> int:
        """Characters after the last word that was named."""
        return len(self._text) - self._found

    def named(self, words: Sequence[str], starts: Sequence[float], *, base: int) -> None:
        """Cartesia has said when words begin: seconds from sample ``base`` on."""
        for name, start in zip(words, starts, strict=False):
            if (place := self._find(name)) is None:
                continue
            begin, self._found = place
            sample = base + round(start * self._rate)
            self._due.append(_Word(max(sample, self._due[-1].sample if self._due else 0), begin, self._found))

    def cut(self, start: int, end: int) -> list[Label]:
        """The labels of the samples from ``start`` to ``end``, in order; those of before begin there."""
        labels: list[Label] = []
        while self._due and self._due[0].sample < end:
            word = self._due.popleft()
            until = max(self._given, self._before(self._due[0]) if self._due else self._after(word))
            text, self._given = self._text[self._given : until], until
            if not text:
                continue  # it was guessed
            sample, aligned = max(word.sample, start), word.sample >= start
            if labels and labels[-1].sample == sample:
                last = labels.pop()
                text, aligned = last.text + text, last.aligned and aligned
            labels.append(Label(sample, text, aligned))
        return labels

    def guess(self, start: int, end: int) -> list[Label]:
        """Labels for samples about which nothing is known, as a voice typically speaks; the first word is no guess."""
        labels: list[Label] = []
        while (word := _WORD.search(self._text, self._given)) is not None:
            sample = round(self._given / TYPICAL_RATE * self._rate)
            if sample >= end:
                break
            until = self._after(_Word(sample, word.start(), word.end()))
            labels.append(Label(max(sample, start), self._text[self._given : until], self._given == 0))
            self._given = until
        return labels

    def rest(self) -> str:
        """The text that no label has told, once there is no more audio."""
        text, self._given = self._text[self._given :], len(self._text)
        return text

    def _before(self, word: _Word) -> int:
        """Where what belongs to a word begins."""
        begin = word.begin
        while begin > 0 and self._text[begin - 1] in _OPENING:
            begin -= 1
        return begin

    def _after(self, word: _Word) -> int:
        """Where what belongs to a word is over, as far as the text is known."""
        match = _AFTER.match(self._text, word.end)
        return match.end() if match is not None else word.end

    def _find(self, word: str) -> tuple[int, int] | None:
        """Where a word begins and ends in the text that is not taken yet."""
        wanted = [match[0].casefold() for match in _WORD.finditer(word)]
        if not wanted:
            return None
        ahead: list[re.Match[str]] = []
        for match in _WORD.finditer(self._text, self._found):
            ahead.append(match)
            if len(ahead) >= _AHEAD + len(wanted):
                break
        spoken = [match[0].casefold() for match in ahead]
        for index in range(len(spoken) - len(wanted) + 1):
            if spoken[index : index + len(wanted)] == wanted:
                return ahead[index].start(), ahead[index + len(wanted) - 1].end()
        return self._inside(wanted[0]) if len(wanted) == 1 else None

    def _inside(self, word: str) -> tuple[int, int] | None:
        """Where a word is in a text that has no spaces between words."""
        match = _WORD.search(self._text, self._found)
        if match is None or match[0].isascii() or len(match[0].casefold()) != len(match[0]):
            return None
        place = match[0].casefold().find(word)
        return None if place < 0 else (match.start() + place, match.start() + place + len(word))
