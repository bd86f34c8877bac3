"""Words that are spoken as others."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from greenroom.speech.rewriting import Edit, TextFilter

__all__ = ["Pronunciation"]

# Of scripts that put no space between words, or none before what belongs to one: a word may begin or end anywhere.
_SPACELESS = (
    r"\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u2e80-\ud7af\uf900-\ufaff\uff66-\uffdc\U0001b000-\U0003ffff"
)
_INSIDE = rf"[^\W{_SPACELESS}]"
_IS_INSIDE = re.compile(_INSIDE)


class Pronunciation(TextFilter):
    """Whole words, or several of them, and what is spoken for each. Of two that fit the longer one is taken.

    Without ``case_sensitive`` "nginx" stands for "Nginx" too. Raises ``ValueError`` for a word that is empty.
    """

    def __init__(self, words: Mapping[str, str], *, case_sensitive: bool = False) -> None:
        if any(not word.strip() for word in words):
            raise ValueError("a word to be pronounced is empty; expected letters, digits or signs")
        self._cased = case_sensitive
        ordered = sorted(words, key=len, reverse=True)
        self._words = [self._same(word) for word in ordered]
        self._spoken = [words[word] for word in ordered]
        self._longest = len(ordered[0]) if ordered else 0
        pattern = "|".join(f"({_whole(word)})" for word in ordered) or r"(?!)"
        self._pattern = re.compile(pattern, 0 if case_sensitive else re.IGNORECASE)

    def scan(self, text: str, *, before: str, final: bool) -> tuple[list[Edit], int]:
        whole, begin = before + text, len(before)
        edits = [
            Edit(match.start() - begin, match.end() - begin, self._spoken[(match.lastindex or 1) - 1])
            for match in self._pattern.finditer(whole, begin)
        ]
        certain = len(text) if final else min(self._open(whole, begin, edits), default=len(text))
        return [edit for edit in edits if edit.end <= certain], certain

    def _open(self, whole: str, begin: int, edits: list[Edit]) -> Iterator[int]:
        """Where a word may have begun that is not there to its end."""
        for at in range(max(begin, len(whole) - self._longest), len(whole)):
            if any(edit.start < at - begin < edit.end for edit in edits):
                continue
            rest = self._same(whole[at:])
            inside = at > 0 and _IS_INSIDE.match(whole[at - 1]) and _IS_INSIDE.match(whole[at])
            if not inside and any(word.startswith(rest) for word in self._words):
                yield at - begin

    def _same(self, word: str) -> str:
        return word if self._cased else word.casefold()


def _whole(word: str) -> str:
    """A pattern for the word where it stands by itself."""
    before = rf"(?<!{_INSIDE})" if _IS_INSIDE.match(word[0]) else ""
    after = rf"(?!{_INSIDE})" if _IS_INSIDE.match(word[-1]) else ""
    return f"{before}{re.escape(word)}{after}"
