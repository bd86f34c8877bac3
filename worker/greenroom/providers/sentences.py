"""Cuts a stream of text into sentences, as early as it is safe to.

A cut depends on the text alone, never on how the stream happened to be cut into pieces, and joined the sentences are
the text, spaces included. What a cut needs to know lies at most one character ahead, or, after an abbreviation that may
end a sentence ("at 5 p.m.") and after a number ("am 3. Mai"), one word ahead.

Which full stops belong to an abbreviation is a matter of the language. For English, and where nobody says which it is,
the rules are below; for some 300 others they are the library sentencex's.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import AsyncGenerator, AsyncIterable, Iterator
from functools import lru_cache

import sentencex

__all__ = ["SentenceSplitter", "sentences", "speakable"]

# Ends of sentences. A space must follow Latin punctuation: it proves that "3." is not the beginning of "3.5", and that
# the question mark is not inside an address. Scripts without spaces need the next character, which may close a quote.
_END = re.compile(
    r"""(?P<latin>[.!?…।॥؟۔։።፧၊။។៕‽]+["'”’»)\]}*_`]*\s)"""
    r"""|(?P<wide>[。！？]+["'”’）」』】》]*(?=[^。！？"'”’）」』】》]))"""
    r"""|(?P<line>\n)"""
)
_GREEK = re.compile(r"""[;;]+["'”’»)\]}*_`]*\s""")
_CLAUSE = re.compile(r"""[,;:—–]["'”’)]*\s|[、，；：](?=.)""", re.DOTALL)
_SPACE = re.compile(r"\s")
_JOINERS = "\u200d\ufe0e\ufe0f"

_START = r"(?:^|[\s(\[\"'“‘])"
# The full stop of these does not end a sentence: a name or a number goes on after it.
_NEVER = re.compile(
    _START + r"(?:[A-HJ-Z]|Mr|Mrs|Ms|Dr|Prof|Rev|Gen|Sen|Rep|Gov|Capt|Lt|Col|Sgt|St|Mt|Ft|Messrs|vs|cf|viz|"
    r"e\.\s?g|i\.\s?e|approx|(?:[A-Z]\.)+[A-Z])\.$"
)
_NUMBERED = re.compile(r"(?:^|\n)\s*[(\[]?(?:\d{1,3}|[a-zA-Z])\.$")  # "1." that opens a line of a list
# These end one only when what follows looks like a beginning.
_BEFORE_DIGIT = re.compile(_START + r"(?:Nos?|Fig|Vol|Art|Sec|Ch|pp?|ca|tel|ext)\.$", re.IGNORECASE)
_PERHAPS = re.compile(
    _START + r"(?:a\.\s?m|p\.\s?m|etc|Inc|Ltd|Co|Corp|Bros|Jr|Sr|Ph\.\s?D|M\.\s?D|"
    r"Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec|Mon|Tue|Wed|Thu|Fri|hrs?|mins?|secs?)\.$",
    re.IGNORECASE,
)

_LETTERS = re.compile(  # of "J.", "т. е." and "t.ex.", in any script
    r"(?:^|[\W_])((?:[^\W\d_]\.\s?|[^\W\d_]{1,3}\.)*[^\W\d_]{1,3})\.$"
)
_MARKS = str.maketrans("", "", "\"'“”‘’«»()[]{}*_`")
_NEXT = "Xylophone"
"""A word that begins a sentence and belongs to no abbreviation."""


def speakable(text: str) -> bool:
    """Whether there is a word in it: a letter or a digit of any script."""
    return any(character.isalnum() for character in text)


async def sentences(
    text: AsyncIterable[str], *, shortest: int = 12, longest: int = 250, first_clause: int = 0, language: str = ""
) -> AsyncGenerator[str, None]:
    """Yield sentences with the spaces after them; joined, they are the text. See ``SentenceSplitter``."""
    splitter = SentenceSplitter(shortest=shortest, longest=longest, first_clause=first_clause, language=language)
    async for piece in text:
        for sentence in splitter.push(piece):
            yield sentence
    for sentence in splitter.flush():
        yield sentence


class SentenceSplitter:
    """The same without a stream: ``push`` returns what has become certain, ``flush`` the rest.

    ``shortest``: sentences below so many characters (a wide one, as in Chinese, counts as two) are joined to the next
    one, for models that speak very short input badly; the first is not held back for that. Text without words joins its
    neighbour, where one is still to come.
    ``longest``: a sentence that grows beyond so many characters is cut at a comma, else at a space, else anywhere.
    ``first_clause``: the first sentence may be cut at a comma, semicolon, colon or dash once it has so many characters,
    so that speaking starts sooner; 0 is never.
    ``language``: a code such as ``de`` or ``pt-BR``; empty where it is not known.
    """

    def __init__(self, *, shortest: int = 12, longest: int = 250, first_clause: int = 0, language: str = "") -> None:
        if longest < 2 or longest < shortest:
            raise ValueError(f"longest is {longest}; expected at least 2 and at least shortest ({shortest})")
        self._shortest = shortest
        self._longest = longest
        self._first_clause = first_clause
        self._language = re.split("[-_]", language)[0].lower()
        self._pending = ""
        self._first = True

    def push(self, piece: str) -> list[str]:
        self._pending += piece
        ready: list[str] = []
        while (end := self._cut()) is not None:
            sentence, self._pending = self._pending[:end], self._pending[end:]
            self._first = self._first and not speakable(sentence)
            ready.append(sentence)
        return ready

    def flush(self) -> list[str]:
        """The rest, once the stream has ended. The splitter starts afresh."""
        rest, self._pending, self._first = self._pending, "", True
        return [rest] if rest else []

    def _cut(self) -> int | None:
        """Where the first sentence of what is pending ends, once that is certain."""
        text = self._pending
        overlong = len(text) > self._longest
        # The window keeps the decision the same however much has arrived beyond it.
        window = text[: self._longest + 1] if overlong else text
        for end, clause in self._ends(window):
            if end > self._longest:
                break
            candidate = window[:end]
            if clause and len(candidate) < self._first_clause:
                continue
            if speakable(candidate) and (self._first or _columns(candidate.strip()) >= self._shortest):
                return end
        return self._forced(window) if overlong else None

    def _ends(self, text: str) -> Iterator[tuple[int, bool]]:
        """Every certain end in order, and whether it is only that of a clause."""
        ends = [(match.end(), False) for match in _END.finditer(text) if _certain(text, match, self._language)]
        if self._language == "el":
            ends += [(match.end(), False) for match in _GREEK.finditer(text)]
        if self._first and self._first_clause > 0:
            ends += [(match.end(), True) for match in _CLAUSE.finditer(text)]
        return iter(sorted(ends))

    def _forced(self, window: str) -> int:
        """Where to cut text that will not end by itself: ``window`` is one character longer than allowed."""
        limit = self._longest
        for pattern in (_CLAUSE, _SPACE):
            ends = [match.end() for match in pattern.finditer(window) if limit // 2 <= match.end() <= limit]
            if ends and speakable(window[: ends[-1]]):
                return ends[-1]
        spaces = [match.end() for match in _SPACE.finditer(window[:limit])]
        if spaces and speakable(window[: spaces[-1]]):
            return spaces[-1]
        end = limit
        while end > 1 and _clings(window[end], window[end - 1]):
            end -= 1
        return end if end > 1 else limit


def _certain(text: str, match: re.Match[str], language: str) -> bool:
    """Whether this end is the end of a sentence, as far as the text that is there can say."""
    mark = match.start("latin")
    if mark < 0 or match.group().rstrip() != ".":
        return True
    before = text[: mark + 1]
    if _NUMBERED.search(before):
        return False
    after = text[match.end() - 1 :]
    if language in ("", "en"):
        return _ends_english(before, after)
    letters = _LETTERS.search(before)
    if letters and ("." in letters[1] or (len(letters[1]) == 1 and letters[1].isupper())):
        return False
    tail = " ".join(before.split()[-3:]).translate(_MARKS)
    if not _splits(language, tail, _NEXT):
        return False
    if not before[-2:-1].isdigit():
        return True
    word = re.match(r"\s+(\S+)\s", after)  # "3." may be the third: the word after it decides, and has to be there
    return "\n" in after[: len(after) - len(after.lstrip())] or (word is not None and _splits(language, tail, word[1]))


@lru_cache(maxsize=256)
def _splits(language: str, before: str, word: str) -> bool:
    """Whether the library begins a sentence with ``word``."""
    *_, last = sentencex.segment(language, f"{before} {word}")
    return bool(last == word)


def _ends_english(before: str, after: str) -> bool:
    if _NEVER.search(before):
        return False
    perhaps, digit = _PERHAPS.search(before), _BEFORE_DIGIT.search(before)
    if not perhaps and not digit:
        return True
    following = after.lstrip()
    if "\n" in after[: len(after) - len(following)]:
        return True
    if not following:
        return False  # not yet: the next word decides
    if digit:
        return not following[0].isdigit()
    return not (following[0].islower() or following[0].isdigit())


def _columns(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def _clings(character: str, before: str) -> bool:
    """Whether cutting here would tear one visible character apart: combining marks, joined emoji."""
    return unicodedata.combining(character) != 0 or character in _JOINERS or before == "\u200d"
