"""Which of a speech's words are shown, and which of them its voice has begun to speak."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import aclosing
from difflib import SequenceMatcher

import structlog

from greenroom.session.agent import Agent
from greenroom.session.nodes import ModelSettings, is_default, opened, raised_at
from greenroom.speech.rewriting import Piece, Rewriting

__all__ = ["Shown", "TextChannel", "Wording"]

log = structlog.get_logger(__name__)

_WORD = re.compile(r"\w+(?:['’]\w+)*")


class TextChannel:
    """A step's text on its way to the voice. One reader at a time; what was written before it came is kept."""

    def __init__(self) -> None:
        self._parts: asyncio.Queue[str | None] = asyncio.Queue()
        self._over = False

    def write(self, text: str) -> None:
        self._parts.put_nowait(text)

    def end(self) -> None:
        self._parts.put_nowait(None)

    async def __aiter__(self) -> AsyncIterator[str]:
        while not self._over:
            part = await self._parts.get()
            if part is None:
                self._over = True
            else:
                yield part

    async def drain(self) -> None:
        """Until it has ended, whatever nobody read."""
        async for _ in self:
            pass


class Wording:
    """The text that a voice reads, and which of its words it has begun.

    It reads the words as they are to be spoken (``rewriting``), and tells in labels where it has begun with them: they
    stand for the words that were written. An agent's ``tts_node``, or the provider, may speak others still ("SQL" as
    "sequel"): that changes how the words sound, not which they are, and a label is taken back to those that it is most
    like. Joined, what labels stand for is the text that was read, from its beginning.
    """

    def __init__(self, text: AsyncIterable[str], rewriting: Rewriting | None = None) -> None:
        self._text = text
        self._rewriting = rewriting or Rewriting()
        self._pieces: deque[Piece] = deque()
        self._read = ""
        self._owed = False
        self.characters = 0
        """To be spoken, read so far."""
        self.cached = 0
        """Of them, those whose sound was there already."""
        self.began: float | None = None
        """When the first words were read."""

    async def __aiter__(self) -> AsyncIterator[str]:
        async for part in self._text:
            if self.began is None:
                self.began = asyncio.get_running_loop().time()
            if spoken := self._take(self._rewriting.push(part)):
                yield spoken
        if spoken := self._take(self._rewriting.flush()):
            yield spoken

    def rest(self) -> str:
        """The words that were read and are in no label yet: those of a voice without labels, or its last ones."""
        text = "".join(piece.shown for piece in self._pieces)
        self._pieces.clear()
        self._read = ""
        return text

    def label(self, label: str) -> tuple[str, str, bool]:
        """What a label stands for: words that still belong to the one before, its own, and whether that is certain."""
        if self._read.startswith(label):
            return "", self._shown(len(label)), True
        theirs = [match[0].casefold() for match in _WORD.finditer(label)]
        places = list(_WORD.finditer(self._read))[: 2 * len(theirs) + 8]
        matcher = SequenceMatcher(None, [match[0].casefold() for match in places], theirs, autojunk=False)
        blocks = matcher.get_matching_blocks()[:-1]
        if not blocks:
            self._owed = True
            return "", "", False
        begin = places[blocks[0].a].start() if self._owed and blocks[0].b == 0 else 0
        after = blocks[-1].a + blocks[-1].size
        end = places[after].start() if after < len(places) else len(self._read)
        self._owed = blocks[-1].b + blocks[-1].size < len(theirs)
        return self._shown(begin), self._shown(end - begin), False

    def _take(self, pieces: list[Piece]) -> str:
        self._pieces.extend(pieces)
        spoken = "".join(piece.spoken for piece in pieces)
        self._read += spoken
        self.characters += len(spoken)
        return spoken

    def _shown(self, length: int) -> str:
        """What the next so many spoken characters stand for. A word whose sound has begun counts as a whole; marks that
        are not spoken go with the word that they touch, or with the one before."""
        self._read = self._read[length:]
        shown = ""
        while self._pieces and (length > 0 or (not self._pieces[0].spoken and not shown[-1:].isspace() and shown)):
            piece = self._pieces.popleft()
            if len(piece.spoken) > length and piece.spoken:
                same = piece.shown == piece.spoken
                self._pieces.appendleft(Piece(piece.shown[length:] if same else "", piece.spoken[length:]))
                piece = Piece(piece.shown[:length] if same else piece.shown, piece.spoken[:length])
            shown += piece.shown
            length -= len(piece.spoken)
        return shown


class Shown:
    """The words of one step on their way to whoever reads along: as they are, or as ``transcription_node`` has them.

    ``show`` is given a piece of text, whether that was the last (it is empty then), whether the speech was cut off, and
    with the last what the whole is in the end: what was heard, or what the node made of it. A node that fails shows no
    more: it may have been there to keep something from being read.
    """

    def __init__(
        self,
        agent: Agent,
        *,
        show: Callable[[str, bool, bool, str], None],
        failed: Callable[[BaseException, str], None],
    ) -> None:
        self._show = show
        self._failed = failed
        self._interrupted = False
        self._written = ""
        self._channel: TextChannel | None = None
        self._task: asyncio.Task[None] | None = None
        if not is_default(agent.transcription_node):
            self._channel = TextChannel()
            self._task = asyncio.get_running_loop().create_task(self._run(agent), name="transcription_node")

    def write(self, text: str) -> None:
        if self._channel is not None:
            self._channel.write(text)
        else:
            self._show(text, False, False, "")

    def end(self, *, interrupted: bool, heard: str) -> None:
        """The step is over; ``heard`` are its words that were."""
        self._interrupted = interrupted
        if self._channel is not None:
            self._channel.end()
        else:
            self._show("", True, interrupted, heard)

    @property
    def over(self) -> bool:
        """Nothing more will be shown, or nobody has to be waited for."""
        return self._task is None or self._task.done()

    async def aclose(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self, agent: Agent) -> None:
        channel = self._channel or TextChannel()
        try:
            node = opened(agent.transcription_node(channel, ModelSettings()), "transcription_node")
            async with aclosing(node) as pieces:
                async for piece in pieces:
                    self._written += str(piece)
                    self._show(str(piece), False, False, "")
        except Exception as error:  # noqa: BLE001  # the user's code: reported, and the call goes on
            log.error("transcription_node failed", error=repr(error), at=raised_at(error))
            self._failed(error, "transcription_node")
        await channel.drain()
        self._show("", True, self._interrupted, self._written)
