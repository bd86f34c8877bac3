"""End of turn by its words: English, by rules, no model.

Options (``turn_detector: {plugin: phrase, ...}``):

``threshold``: from this probability on the user counts as done. ``open_ends``: further words after which nobody stops,
such as ``extension`` or ``flight number``. ``digits``: a dictated number is taken for unfinished up to so many digits;
0 for never.

The rules look at how the words end: a filler, a comma or dots, an article, a conjunction, a preposition, an auxiliary,
a number that is being dictated. What ends otherwise is done. They know nothing of grammar or of meaning: "I would like"
counts as done, and a name that ends in a preposition ("the one I told you about") as unfinished, which costs the user
the longer wait and nothing else. A transcript in another language, or without words, is never held back.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Annotated, Literal

from msgspec import Meta, Struct

from greenroom.providers import Heard, Plugin, TurnDetector

__all__ = ["PhraseDetector", "PhraseOptions", "plugin"]

_DONE = 0.95
_DIGITS = ["zero", "oh", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "double", "triple"]
_QUESTIONS = ["what", "where", "who", "whom", "whose", "which", "when", "how", "why"]
_NUMBERS = frozenset(["number", "code", "phone", "card", "account", "zip", "pin"])
_ANSWERS = ["yes", "yeah", "yep", "no", "nope", "sure", "maybe"]
_PARTICLES = ["in", "on", "off", "up", "over", "under", "near", "around", "through"]


def _ends(words: str, probability: float) -> dict[str, float]:
    return dict.fromkeys(words.split(), probability)


_ENDS = {
    **_ends("um uh uhm erm er hmm hm mmm eh well", 0.05),
    **_ends("a an the my your our their every some", 0.03),
    **_ends("and or but because cause if unless although though whether while whereas since than as", 0.08),
    **_ends("i we they he i'm we're they're he's she's i'd we'd i'll we'll i've we've let's", 0.1),
    **_ends("which who where when how what maybe like just also very really quite", 0.35),
    **_ends("to of for with from at by into onto about between without during against until via per", 0.15),
    **dict.fromkeys(_PARTICLES, 0.4),
    **_ends(
        "is are was were am be been will would can could should shall may might must do does did has have had", 0.2
    ),
    **_ends("don't doesn't didn't can't couldn't won't wouldn't isn't aren't wasn't it's that's there's what's", 0.25),
}
"""How likely a turn is over whose last word is this."""
_AUXILIARIES = frozenset(word for word, value in _ENDS.items() if value in (0.2, 0.25))
_PREPOSITIONS = frozenset(word for word, value in _ENDS.items() if value in (0.15, 0.4))
_OPEN_MARK = re.compile(r"(?:\.\.\.|…|,|;|:|-|–|—)\s*$")
_WORD = re.compile(r"[\w']+")


class PhraseOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What may stand beside ``plugin: phrase``; the module's docstring says what each does."""

    threshold: Annotated[float, Meta(gt=0, lt=1)] = 0.5
    open_ends: tuple[Annotated[str, Meta(min_length=1)], ...] = ()
    digits: Annotated[int, Meta(ge=0, le=40)] = 6


class PhraseDetector(TurnDetector):
    """Judges at once, from the last few words."""

    modality: Literal["text", "audio"] = "text"

    def __init__(self, options: PhraseOptions) -> None:
        self.threshold = options.threshold
        self._open_ends = [_words(each) for each in options.open_ends]
        self._digits = options.digits

    async def probability(self, heard: Heard) -> float:
        words = _words(heard.text)
        if not words or (heard.language and not heard.language.lower().startswith("en")):
            return 1.0
        return min(self._judgements(words, heard.text))

    def _judgements(self, words: Sequence[str], text: str) -> Iterable[float]:
        yield _DONE
        yield _end(words, asked=text.rstrip().endswith("?"))
        if _OPEN_MARK.search(text):
            yield 0.15
        if 0 < _dictated(words) <= self._digits:
            yield 0.3
        if any(ending == list(words[-len(ending) :]) for ending in self._open_ends if ending):
            yield 0.05


def _end(words: Sequence[str], *, asked: bool) -> float:
    """What the last word says, where it does not close what the first one opened."""
    last = words[-1]
    if last in _PREPOSITIONS and len(words) > 2 and words[0].partition("'")[0] in _QUESTIONS:
        return _DONE  # "Where are you from?"
    if last in _PARTICLES and asked:
        return _DONE  # "Can you turn it on?"
    if last in _AUXILIARIES and words[0] in _ANSWERS and len(words) <= 4:
        return _DONE  # "Yes, I do."
    if len(words) == 1 and last in _QUESTIONS:
        return _DONE  # "What?"
    return _ENDS.get(last, _DONE)


def _dictated(words: Sequence[str]) -> int:
    """Digits at the end that belong to a number read out digit by digit; 0 for an amount, a time or a single one.

    A transcriber may write them as one: that counts after a word such as ``number``.
    """
    digits = tokens = 0
    for word in reversed(words):
        if word.isdecimal():
            digits += len(word)
        elif word in _DIGITS:
            digits += 1
        else:
            break
        tokens += 1
    named = digits >= 3 and not _NUMBERS.isdisjoint(words)
    return digits if tokens >= 2 or named else 0


def _words(text: str) -> list[str]:
    return [word.strip("'") for word in _WORD.findall(text.lower().replace("’", "'"))]


plugin = Plugin(kinds={"turn": "greenroom_plugins.phrase:PhraseDetector"}, options={"turn": PhraseOptions})
