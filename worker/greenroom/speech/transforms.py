"""What becomes of words before a voice speaks them, as an ``AgentSession`` takes it.

``"filter_markdown"`` and ``"filter_emoji"`` are the default; ``"filter_numbers"`` spells telephone numbers and codes,
``replace({...})`` is a dictionary of pronunciations. A function from an async iterable of text to another may do
anything; what it does is not known word by word, and where a speech that is cut off was is then estimated.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Mapping, Sequence
from typing import Literal, TypeAlias

from greenroom.speech.filters import EmojiFilter, MarkdownFilter, NumberFilter
from greenroom.speech.pronunciation import Pronunciation
from greenroom.speech.rewriting import Rewriting, TextFilter, rewritten

__all__ = ["DEFAULT", "TextTransform", "Transforms", "replace"]

TextTransform: TypeAlias = (
    Literal["filter_markdown", "filter_emoji", "filter_numbers"]
    | TextFilter
    | Callable[[AsyncIterable[str]], AsyncIterable[str]]
)

DEFAULT: tuple[TextTransform, ...] = ("filter_markdown", "filter_emoji")

_NAMED: Mapping[str, TextFilter] = {
    "filter_markdown": MarkdownFilter(),
    "filter_emoji": EmojiFilter(),
    "filter_numbers": NumberFilter(),
}


def replace(replacements: Mapping[str, str], *, case_sensitive: bool = False) -> Pronunciation:
    """Speak other words for these: whole words, however they come in pieces. Raises ``ValueError`` for an empty one."""
    return Pronunciation(replacements, case_sensitive=case_sensitive)


class Transforms:
    """Several, one after the other. Raises ``ValueError`` for a name that there is not."""

    def __init__(self, transforms: Sequence[TextTransform] = DEFAULT) -> None:
        steps = [_named(each) if isinstance(each, str) else each for each in transforms]
        known = next((place for place, step in enumerate(steps) if not isinstance(step, TextFilter)), len(steps))
        self._filters = [step for step in steps[:known] if isinstance(step, TextFilter)]
        self._rest = steps[known:]

    def rewriting(self) -> Rewriting:
        """For one speech: those whose doings are known word by word, up to the first that are not."""
        return Rewriting(self._filters)

    def rest(self, text: AsyncIterable[str]) -> AsyncIterable[str]:
        """What these have rewritten, through the others."""
        for step in self._rest:
            text = rewritten(text, [step]) if isinstance(step, TextFilter) else step(text)
        return text

    async def apply(self, text: str) -> str:
        """A whole text, as it is to be spoken."""
        for each in self._filters:
            text = each.apply(text)

        async def given() -> AsyncIterable[str]:
            yield text

        return "".join([part async for part in self.rest(given())]) if self._rest else text


def _named(name: str) -> TextFilter:
    if name not in _NAMED:
        raise ValueError(
            f"no text transform is named {name!r}; expected {', '.join(_NAMED)}, replace(...) or a function"
        )
    return _NAMED[name]
