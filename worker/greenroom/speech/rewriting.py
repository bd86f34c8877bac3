"""Text on its way to a voice, rewritten as it comes, and which words of the text each spoken one stands for.

What is spoken is other than what is shown: marks of Markdown are left out, "nginx" is "engine x". Each filter sees the
whole text as one, however it came in pieces, and says what is to be replaced. What stands in the place of what is kept,
so that a voice's timings of the spoken words are those of the words that were written.

::

    shown    We use **nginx**.
    pieces   [We use ][**→][nginx→engine x][**→][.]
    spoken   We use engine x.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Sequence
from dataclasses import dataclass

__all__ = ["Edit", "Piece", "Rewriting", "TextFilter", "rewritten"]

CONTEXT = 8
"""Characters before a text that a filter is shown: more than any looks back."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of text. Where ``shown`` and ``spoken`` differ it is indivisible; one of them may be empty."""

    shown: str
    spoken: str


@dataclass(frozen=True, slots=True)
class Edit:
    """``text[start:end]`` is to be ``spoken`` instead."""

    start: int
    end: int
    spoken: str = ""


class TextFilter(ABC):
    """One way of rewriting. Holds no state: each text is told with what came before it."""

    @abstractmethod
    def scan(self, text: str, *, before: str, final: bool) -> tuple[list[Edit], int]:
        """What is to be replaced, in order and without overlaps, and up to where that is certain.

        ``before``: the last characters ahead of ``text``; empty at the beginning of a speech. What lies beyond the
        certain place is shown again, with more; unless ``final``, when all of it is certain. Edits that reach beyond
        it are not to be returned. How the text comes in pieces must not matter.
        """

    def apply(self, text: str) -> str:
        """A whole text, rewritten."""
        edits, _ = self.scan(text, before="", final=True)
        parts: list[str] = []
        done = 0
        for edit in edits:
            parts += (text[done : edit.start], edit.spoken)
            done = edit.end
        return "".join((*parts, text[done:]))


class Rewriting:
    """One speech's text on its way through filters, one after the other."""

    def __init__(self, filters: Iterable[TextFilter] = ()) -> None:
        self._stages = [_Stage(each) for each in filters]

    def push(self, text: str) -> list[Piece]:
        """What has become certain. Joined, what is shown is the text."""
        return self._run([Piece(text, text)] if text else [], final=False)

    def flush(self) -> list[Piece]:
        """The rest, once the text has ended."""
        return self._run([], final=True)

    def _run(self, pieces: list[Piece], *, final: bool) -> list[Piece]:
        for stage in self._stages:
            pieces = stage.push(pieces, final=final)
        return pieces


class _Stage:
    """One filter, and the pieces that it is not certain of."""

    def __init__(self, by: TextFilter) -> None:
        self._filter = by
        self._pending: list[Piece] = []
        self._before = ""

    def push(self, pieces: Sequence[Piece], *, final: bool) -> list[Piece]:
        self._pending += pieces
        text = "".join(piece.spoken for piece in self._pending)
        if not text and not final:
            return []
        edits, certain = self._filter.scan(text, before=self._before, final=final)
        certain = len(text) if final else certain
        source, ready = _Source(self._pending), list[Piece]()
        done = 0
        for edit in edits:
            ready += (*source.take(edit.start - done), *source.silent())
            ready.append(Piece("".join(piece.shown for piece in source.take(edit.end - edit.start)), edit.spoken))
            done = edit.end
        ready += source.take(certain - done)
        if final:
            ready += source.rest()
        self._pending = source.rest()
        self._before = (self._before + text[:certain])[-CONTEXT:]
        return ready


class _Source:
    """Pieces, to be taken by the length of what is spoken."""

    def __init__(self, pieces: list[Piece]) -> None:
        self._pieces = pieces[::-1]

    def take(self, length: int) -> list[Piece]:
        """The next so many characters, and what is between them and not spoken."""
        taken: list[Piece] = []
        while length > 0:
            piece = self._pieces.pop()
            if len(piece.spoken) > length and piece.shown == piece.spoken:
                self._pieces.append(Piece(piece.shown[length:], piece.spoken[length:]))
                piece = Piece(piece.shown[:length], piece.spoken[:length])
            elif len(piece.spoken) > length:  # its words go with its beginning; the rest is spoken without any
                self._pieces.append(Piece("", piece.spoken[length:]))
                piece = Piece(piece.shown, piece.spoken[:length])
            taken.append(piece)
            length -= len(piece.spoken)
        return taken

    def silent(self) -> list[Piece]:
        """What comes next and is not spoken."""
        taken: list[Piece] = []
        while self._pieces and not self._pieces[-1].spoken:
            taken.append(self._pieces.pop())
        return taken

    def rest(self) -> list[Piece]:
        pieces, self._pieces = self._pieces[::-1], []
        return pieces


async def rewritten(text: AsyncIterable[str], filters: Iterable[TextFilter]) -> AsyncGenerator[str, None]:
    """A stream as it is to be spoken, where nobody asks which words it stands for."""
    rewriting = Rewriting(filters)
    async for part in text:
        if spoken := "".join(piece.spoken for piece in rewriting.push(part)):
            yield spoken
    if spoken := "".join(piece.spoken for piece in rewriting.flush()):
        yield spoken
