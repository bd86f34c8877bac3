"""What the user's voice does to the speech that is heard.

===========  =======================================================  =====================================
the speech   what happens                                             reaction
===========  =======================================================  =====================================
PLAYING      voice for ``pause_after`` (with ``pause``)               PAUSE
PLAYING      voice for ``stop_after`` (without ``pause``)             STOP
PAUSED       words that are more than a backchannel                   STOP
PAUSED       the noise turned out to hold no words, or a backchannel  RESUME, at the sample where it paused
PAUSED       no words for ``resume_after`` since the voice ended      RESUME
any          the speech is protected                                  nothing; a paused one goes on
===========  =======================================================  =====================================

Words of one turn count, not of the whole transcript. A backchannel ("mm-hm") while the agent speaks is no turn.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from greenroom.dialog.speech import Sounding, Speech
from greenroom.settings import BACKCHANNELS

__all__ = ["Interruption", "InterruptionRules", "Reaction"]

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")


class Reaction(Enum):
    NOTHING = "nothing"
    PAUSE = "pause"
    RESUME = "resume"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class InterruptionRules:
    """``enabled``: the user's voice and turns may interrupt by their sound. ``pause``: fall silent on suspicion, and
    stop or go on when it is clear. ``min_words``: fewer are taken for a backchannel. Times in seconds.
    """

    enabled: bool = True
    pause: bool = True
    pause_after: float = 0.0
    stop_after: float = 0.5
    resume_after: float = 2.0
    min_words: int = 1
    backchannels: tuple[str, ...] = BACKCHANNELS


class Interruption:
    """A part of ``Dialog``: told of the voice, asked what it means."""

    def __init__(self, rules: InterruptionRules) -> None:
        self._rules = rules
        self._backchannels = frozenset(_words(text) for text in rules.backchannels)
        self._voice_since: float | None = None
        self._quiet_since = 0.0

    def voice_began(self, at: float) -> None:
        self._voice_since = at

    def voice_ended(self, now: float) -> None:
        self._voice_since = None
        self._quiet_since = now

    def deadline(self, active: Speech | None) -> float | None:
        """When ``judge`` would come to another answer by itself."""
        if active is None or not self._rules.enabled:
            return None
        if active.sounding is Sounding.PLAYING and active.allow_interruptions and self._voice_since is not None:
            return self._voice_since + (self._rules.pause_after if self._rules.pause else self._rules.stop_after)
        if active.sounding is Sounding.PAUSED and self._voice_since is None:
            return self._quiet_since + self._rules.resume_after
        return None

    def judge(self, active: Speech, now: float, *, words: str, taking: bool) -> Reaction:
        """``words``: of the turn that is being taken; ``taking``: there is one."""
        if active.sounding is Sounding.PAUSED:
            if not active.allow_interruptions:
                return Reaction.RESUME
            if words and not self._little(words):
                return Reaction.STOP
            if self._voice_since is not None:
                return Reaction.NOTHING
            clear = not taking or now >= self._quiet_since + self._rules.resume_after
            return Reaction.RESUME if clear else Reaction.NOTHING
        due = self.deadline(active)
        if active.sounding is not Sounding.PLAYING or due is None or now < due:
            return Reaction.NOTHING
        return Reaction.PAUSE if self._rules.pause else Reaction.STOP

    def by_words(self, active: Speech, words: str) -> bool:
        """Words that came while it is heard, and that no voice announced, stop it."""
        heard = active.sounding in (Sounding.PLAYING, Sounding.PAUSED)
        return self._rules.enabled and heard and active.allow_interruptions and bool(words) and not self._little(words)

    def aside(self, words: str, active: Speech | None) -> bool:
        """Said while the agent speaks, and asking for nothing."""
        if active is None or active.sounding not in (Sounding.PLAYING, Sounding.PAUSED):
            return False
        return self._little(words) if active.allow_interruptions else _words(words) in self._backchannels

    def _little(self, words: str) -> bool:
        heard = _words(words)
        return heard in self._backchannels or len(heard.split()) < self._rules.min_words


def _words(text: str) -> str:
    return " ".join(_WORD.findall(text.lower()))
