"""Which audio Deepgram is sent, and which utterance the words belong to that come back. Pure: no I/O, no clock.

The rules:

- Audio is numbered by its samples on the present connection; Deepgram names the place of what it heard in seconds of
  the same. A new connection counts from 0 again and is first sent what has no final words yet.
- ``session``: only utterances that the session has marked are sent, each followed by ``FINALIZE``. Words are told as
  interim until the utterance is over and final once, when all of its audio has been answered for, in the order in which
  the utterances were spoken.
- ``own``: everything is sent, and final words are told as they come, of no utterance.
- ``auto``: ``own``, without interim words, until the session marks an utterance; ``session`` from there on.
- An utterance about which nothing more comes for ``patience`` seconds is told with the words that are there. When
  Deepgram has said nothing at all about it the connection is at fault: ``expire`` says so. What was twice met with
  silence is not sent a third time, but told without words.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Literal

from greenroom.providers import Transcript
from greenroom_plugins.deepgram.wire import FINALIZE, Alternative, Results, UtteranceEnd

__all__ = ["KEPT", "SILENCE", "Utterances"]

KEPT = 60.0
"""Seconds of audio without final words that are kept at most, to be sent again."""
LOOKBACK = 3.0
"""Seconds of audio kept for the beginning of an utterance that is noticed late."""
SILENCE = 12.0
"""Seconds without a message from Deepgram after which its connection is dead, when it was sent half as much audio."""
PENDING = 16
"""Utterances that may wait for their words."""
BATCH = 0.25
"""Seconds of audio that are sent in one message at most."""
_TRIES = 2  # connections that may say nothing of an utterance
_NEAR = 0.02  # seconds by which Deepgram's times may be off
_WIDTH = 2  # bytes a sample


@dataclass(slots=True)
class _Piece:
    """Audio that was captured ``at`` a time. ``end``: the number of its last sample on the connection, and one."""

    at: float
    pcm: bytes
    end: int = 0

    @property
    def samples(self) -> int:
        return len(self.pcm) // _WIDTH


@dataclass(slots=True)
class _Utterance:
    """``pieces``: those without final words. ``end``: where it ends; ``None`` while it is spoken."""

    id: str
    start: int
    pieces: deque[_Piece] = field(default_factory=deque)
    end: int | None = None
    finals: list[str] = field(default_factory=list)
    interim: str = ""
    told: str = ""
    sure: list[float] = field(default_factory=list)
    language: str = ""
    answered: bool = False
    done: bool = False
    silences: int = 0
    due: float | None = None
    samples: int = 0

    @property
    def text(self) -> str:
        return " ".join([*self.finals, self.interim] if self.interim else self.finals)

    def add(self, piece: _Piece) -> None:
        self.pieces.append(piece)
        self.samples += piece.samples

    def forget(self) -> None:
        """Let go of the first piece."""
        self.samples -= self.pieces.popleft().samples

    def covered(self, end: int) -> None:
        """Final words have come for all before ``end``."""
        while self.pieces and self.pieces[0].end <= end:
            self.forget()
        if self.pieces and (over := end - (self.pieces[0].end - self.pieces[0].samples)) > 0:
            self.pieces[0].pcm = self.pieces[0].pcm[over * _WIDTH :]
            self.samples -= over

    def transcript(self, *, final: bool) -> Transcript:
        confidence = sum(self.sure) / len(self.sure) if final and self.sure else None
        return Transcript(self.text, final, self.id, self.language, confidence)


class Utterances:
    """``mode``: as above. ``language``: told where Deepgram does not say which it heard."""

    def __init__(
        self,
        *,
        sample_rate: int,
        mode: Literal["auto", "session", "own"] = "auto",
        patience: float = 3.0,
        interim: bool = True,
        language: str = "",
    ) -> None:
        self._rate = sample_rate
        self._patience = patience
        self._interim = interim
        self._language = language
        self._mode = mode
        self._own = _Utterance("", 0) if mode != "session" else None
        self._open: _Utterance | None = None
        self._ended: deque[_Utterance] = deque()
        self._recent: deque[_Piece] = deque()
        self._connected = False
        self._position = 0
        self._outbox: deque[bytes | str] = deque()
        self._unanswered: float | None = None
        self._unanswered_samples = 0

    @property
    def owing(self) -> bool:
        """Whether somebody waits for words, or will: a connection that ends now is missed."""
        return self._own is not None or self._open is not None or bool(self._ended)

    @property
    def waiting(self) -> bool:
        """Whether there is something to send, or audio that wants a connection."""
        return bool(self._outbox) or (not self._connected and any(one.pieces for one in self._all()))

    # --- what the session says --------------------------------------------------------------------------------------

    def push(self, pcm: bytes, *, at: float) -> None:
        if not pcm:
            return  # an empty message would end the connection
        piece = _Piece(at, pcm)
        target = self._own or self._open
        if target is not None:
            self._add(target, piece)
            return
        self._recent.append(piece)
        held = sum(recent.samples for recent in self._recent)
        while held > LOOKBACK * self._rate:
            held -= self._recent.popleft().samples

    def begin(self, utterance: str, *, at: float, now: float) -> list[Transcript]:
        """The session has marked the beginning of an utterance; ``at``: when its first sample was captured."""
        if self._mode == "own":
            return []
        told = self.end(self._open.id, now=now) if self._open is not None else []
        if self._own is not None:
            self._take_over(utterance, at)
            return told
        if not self._ended:
            self._answered()  # what was sent last was no part of an utterance any more
        self._open = _Utterance(utterance, self._position, language=self._language)
        recent, self._recent = self._recent, deque()
        for piece in recent:
            if piece.at + piece.samples / self._rate > at:
                self._add(self._open, piece)
        return told

    def end(self, utterance: str, *, now: float) -> list[Transcript]:
        """The session has marked the end of an utterance; without a name, that of whatever was heard so far."""
        if self._own is not None and not utterance and self._connected:
            self._outbox.append(FINALIZE)
        ended = self._open
        if ended is None or ended.id != utterance:
            return []
        self._open = None
        ended.end = self._position
        ended.done = not ended.pieces and not ended.finals and not ended.answered
        self._ended.append(ended)
        if self._connected and not ended.done:
            self._finalize(ended, now)
        if len(self._ended) > PENDING:
            self._ended[0].done = True
        return self._release()

    # --- what the connection says -----------------------------------------------------------------------------------

    def connected(self, *, now: float) -> list[Transcript]:
        """There is a new connection: what has no final words is to be sent."""
        self._connected, self._position = True, 0
        self._answered()
        self._outbox.clear()
        for utterance in self._all():
            pieces, utterance.pieces = utterance.pieces, deque()
            if utterance.silences >= _TRIES:
                pieces.clear()  # nobody hears it
            utterance.start, utterance.samples, utterance.interim, utterance.answered = self._position, 0, "", False
            for piece in pieces:
                self._add(utterance, piece)
            if utterance.end is None:
                continue
            utterance.end = self._position
            if pieces:
                self._finalize(utterance, now)
            else:
                utterance.done = True  # its last words came, only not the word that they were the last
        return self._release()

    def disconnected(self) -> None:
        self._connected = False
        self._outbox.clear()
        for utterance in self._ended:
            utterance.due = None

    def take(self, *, now: float) -> bytes | str | None:
        """What is to be sent next, and is taken to be sent."""
        if not self._outbox:
            return None
        first = self._outbox.popleft()
        if isinstance(first, str):
            return first
        if self._unanswered is None:
            self._unanswered = now
        parts, most = [first], BATCH * self._rate * _WIDTH - len(first)
        while self._outbox and not isinstance(following := self._outbox[0], str) and len(following) <= most:
            most -= len(following)
            parts.append(following)
            self._outbox.popleft()
        message = b"".join(parts)
        self._unanswered_samples += len(message) // _WIDTH
        return message

    def heard(self, message: Results | UtteranceEnd, *, now: float) -> list[Transcript]:
        """Deepgram has heard something."""
        self._answered()
        if isinstance(message, UtteranceEnd):
            return [Transcript("", language=self._language, ended=True)] if self._own is not None else []
        if self._own is not None:
            return self._heard_by_itself(self._own, message)
        start, end = round(message.start * self._rate), round((message.start + message.duration) * self._rate)
        near = round(_NEAR * self._rate)
        told: list[Transcript] = []
        for utterance in self._spoken(start, end, near):
            self._assign(utterance, message, whole=utterance.start - near <= start)
            if utterance.due is not None:
                utterance.due = now + self._patience  # it is being worked on
            if self._over(utterance, end, near, message):
                utterance.done = True
            elif self._interim and utterance.text != utterance.told:
                utterance.told = utterance.text
                told.append(utterance.transcript(final=False))
        if message.from_finalize:
            for utterance in self._ended:
                utterance.done = utterance.done or (utterance.end is not None and utterance.end <= end + near)
        return [*told, *self._release()]

    # --- time -------------------------------------------------------------------------------------------------------

    def deadline(self) -> float | None:
        """When ``expire`` is to be asked next."""
        times = [utterance.due for utterance in self._ended if utterance.due is not None and not utterance.done]
        if self._talking and self._unanswered is not None:
            times.append(self._unanswered + SILENCE)
        return min(times, default=None)

    def expire(self, *, now: float) -> tuple[list[Transcript], bool]:
        """What is told because its time has come, and whether the connection is at fault."""
        dead = self._talking and self._unanswered is not None and now >= self._unanswered + SILENCE
        for utterance in self._ended:
            if utterance.done or utterance.due is None or now < utterance.due:
                continue
            if not utterance.answered and not utterance.text:
                utterance.silences += 1
                dead = True
            else:
                utterance.done = True
        return self._release(), dead

    @property
    def _talking(self) -> bool:
        """Whether so much audio was sent without an answer that there should be one."""
        return self._unanswered_samples >= SILENCE / 2 * self._rate and (self._own or self._open) is not None

    def _answered(self) -> None:
        self._unanswered, self._unanswered_samples = None, 0

    # --- pieces -----------------------------------------------------------------------------------------------------

    def _all(self) -> list[_Utterance]:
        """In the order in which they were spoken."""
        return [*self._ended, *(one for one in (self._open, self._own) if one is not None)]

    def _add(self, utterance: _Utterance, piece: _Piece) -> None:
        utterance.add(piece)
        if self._connected:
            self._position += piece.samples
            piece.end = self._position
            self._outbox.append(piece.pcm)
        over = sum(one.samples for one in self._all()) - KEPT * self._rate
        for oldest in self._all() if over > 0 else ():
            while over > 0 and oldest.pieces:
                over -= oldest.pieces[0].samples
                oldest.forget()

    def _take_over(self, utterance: str, at: float) -> None:
        """The first utterance that the session marks: some of its audio has been sent."""
        own, self._own = self._own, None
        pieces = own.pieces if own is not None else deque[_Piece]()
        mine = [piece for piece in pieces if piece.at + piece.samples / self._rate > at]
        start = mine[0].end - mine[0].samples if mine and self._connected else self._position
        self._open = _Utterance(utterance, start, language=self._language)
        for piece in mine:
            self._open.add(piece)

    def _finalize(self, utterance: _Utterance, now: float) -> None:
        utterance.due = now + self._patience
        self._outbox.append(FINALIZE)

    def _heard_by_itself(self, own: _Utterance, message: Results) -> list[Transcript]:
        """Words of no utterance."""
        text, language = message.heard.transcript.strip(), self._spoken_in(message.heard)
        if not message.is_final:
            if self._mode == "auto" or not self._interim or not text:
                return []
            return [Transcript(text, final=False, language=language)]
        own.covered(round((message.start + message.duration) * self._rate))
        if not text and not message.from_finalize:  # who asked for the last words is told that there are none
            return []
        return [Transcript(text, language=language, confidence=_sure(message.heard))]

    def _spoken(self, start: int, end: int, near: int) -> list[_Utterance]:
        """The utterances that samples ``start`` to ``end`` touch."""
        return [
            one
            for one in self._all()
            if not one.done and one.start < end - near and (one.end is None or one.end > start + near)
        ]

    def _assign(self, utterance: _Utterance, message: Results, *, whole: bool) -> None:
        """Give an utterance its words: all of them, or those in its part of the audio."""
        heard, end = message.heard, round((message.start + message.duration) * self._rate)
        text = heard.transcript.strip()
        inside = utterance.end is None or end <= utterance.end + round(_NEAR * self._rate)
        if not (whole and inside):
            first, last = utterance.start / self._rate, float("inf")
            if utterance.end is not None:
                last = utterance.end / self._rate
            text = " ".join(word.text for word in heard.words if first <= (word.start + word.end) / 2 < last)
        utterance.answered = True
        utterance.language = self._spoken_in(heard)
        if not message.is_final:
            utterance.interim = text
            return
        utterance.interim = ""
        utterance.covered(end)
        if text:
            utterance.finals.append(text)
            if (sure := _sure(heard)) is not None:
                utterance.sure.append(sure)

    def _over(self, utterance: _Utterance, end: int, near: int, message: Results) -> bool:
        """Whether these are the last words of an utterance."""
        if utterance.end is None or not message.is_final:
            return False
        return bool(message.from_finalize) or end >= utterance.end - near

    def _release(self) -> list[Transcript]:
        """The utterances whose turn it is."""
        told = []
        while self._ended and self._ended[0].done:
            told.append(self._ended.popleft().transcript(final=True))
        return told

    def _spoken_in(self, heard: Alternative) -> str:
        return heard.languages[0] if heard.languages else self._language


def _sure(heard: Alternative) -> float | None:
    return min(max(heard.confidence, 0.0), 1.0) if heard.transcript else None
