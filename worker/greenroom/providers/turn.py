"""End of turn: how likely it is that a user who has paused is done, and not only thinking.

Voice activity says that a user is silent; a detector says what the silence means. The session asks one whenever the
user has paused, and waits longer before it answers where the user is likely to go on. A detector judges by the words
(``modality`` ``"text"``) or by the sound (``"audio"``); the conversation is there for both.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Literal

from greenroom.audio import AudioFrame
from greenroom.dialog.history import ChatContext
from greenroom.providers.provider import Provider

__all__ = ["Heard", "TurnDetector"]


@dataclass(frozen=True, slots=True)
class Heard:
    """What there is to judge by.

    ``context``: the conversation; its last item is the user's message with ``text``, when there is any. ``text``: the
    words of the turn so far, empty when none are known yet. ``audio``: the sound of the turn so far, the last
    ``TurnDetector.seconds`` of it at ``TurnDetector.sample_rate``, with the silence that follows the last voiced
    sample; ``None`` for a detector that judges by the words. ``language``: BCP 47, or empty.
    """

    context: ChatContext
    text: str = ""
    audio: AudioFrame | None = None
    language: str = ""


class TurnDetector(Provider):
    """A model, or rules, that tell the end of a turn from a pause."""

    modality: Literal["text", "audio"] = "text"
    """What it judges by. It is asked when that is there: one that judges by the sound need not wait for the words."""
    threshold: float = 0.5
    """From this probability on the user counts as done."""
    sample_rate: int = 16000
    """Hz, of the audio that it is given."""
    seconds: float = 8.0
    """Audio that it makes use of, at most."""

    @abstractmethod
    async def probability(self, heard: Heard) -> float:
        """The likelihood, 0..1, that the user has finished.

        The user waits for the answer while it is made: it should take less than 0.1 s, and must not block the loop.
        Cancelled when the user speaks on. Raises ``ProviderError``. Without anything to judge by (no words, no
        audio) it returns 1.0: there is no reason to wait.
        """
