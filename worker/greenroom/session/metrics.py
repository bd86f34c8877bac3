"""How long things took, and what they cost: the session's event ``metrics_collected`` carries one of these.

Times are seconds on the loop's clock, from and to what the user hears where that is possible.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from greenroom.dialog.commands import Announce, Command, Generate, RunHook, Synthesise
from greenroom.dialog.events import Event, Generated, HookFinished, Played, Synthesised, Transcribed, UserStopped
from greenroom.dialog.notices import EarlyReplyDiscarded, SpeechCreated, SpeechEnded, TurnCommitted

__all__ = ["HedgeMetrics", "LLMMetrics", "Metrics", "STTMetrics", "TTSMetrics", "TurnMetrics", "TurnStopwatch"]


@dataclass(frozen=True, slots=True)
class LLMMetrics:
    """One request to a model, at its end.

    ``ttft``: from the request to the first text (or sound, of a realtime model); ``None`` if there was none.
    ``prompt_tokens``, ``completion_tokens``: ``None`` where the provider does not count them. ``pieces``: of text that
    it sent. ``cancelled``: nobody wanted the rest.
    """

    speech_id: str
    step: int
    label: str
    ttft: float | None
    duration: float
    pieces: int
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cancelled: bool = False


@dataclass(frozen=True, slots=True)
class TTSMetrics:
    """The voice of one step, at its end.

    ``ttfb``: from the first words that the voice read to its first sound; ``None`` if there was none. ``duration``:
    from there to the end, waiting for words and for room to put the sound included. ``characters``: read, as they are
    spoken; ``cached_characters``: of them, those whose sound was there already, and that no voice was asked for.
    """

    speech_id: str
    step: int
    label: str
    ttfb: float | None
    duration: float
    audio_seconds: float
    characters: int
    cancelled: bool = False
    cached_characters: int = 0


@dataclass(frozen=True, slots=True)
class STTMetrics:
    """One utterance, at its final transcript. ``delay``: since its last voiced sample; ``audio_seconds``: of voice."""

    utterance: str
    label: str
    delay: float
    audio_seconds: float


@dataclass(frozen=True, slots=True)
class HedgeMetrics:
    """A model was late, and another one was asked beside it. ``won``: the other one was used.

    ``tokens``: of the prompt that was read for nothing, as far as the provider counts them.
    """

    kind: str
    provider: str
    to: str
    won: bool
    tokens: int


@dataclass(frozen=True, slots=True)
class TurnMetrics:
    """A turn of the user's and the answer to it, when the answer's first sample has left.

    From the last voiced sample: ``end_of_turn_delay`` to the decision that the turn is over, ``transcription_delay`` to
    the last of its words (0 where they were there before), ``response`` to the first sample of the answer: what the
    user waits. Between them: ``hook``, in ``on_user_turn_completed``; ``llm_ttft``, from asking the model to its first
    text; ``tts_ttfb``, from there to the first sound, and of that ``sentence``, to the first sentence that the voice
    began with; ``None`` for what the answer did without, or nobody told. A model that was asked early
    (``preemptive_generation``) works while the others run, so the parts may be more than the whole.
    """

    turn: str
    speech_id: str
    end_of_turn_delay: float
    transcription_delay: float
    hook: float
    llm_ttft: float | None
    tts_ttfb: float | None
    response: float
    sentence: float | None = None


Metrics: TypeAlias = HedgeMetrics | LLMMetrics | TTSMetrics | STTMetrics | TurnMetrics


@dataclass(slots=True)
class _Turn:
    """``voiced``: the time of its last voiced sample."""

    id: str
    voiced: float
    committed: float
    words: float
    hook_began: float = 0.0
    hook: float = 0.0


@dataclass(slots=True)
class _Answer:
    """The first step of a speech that the dialog began."""

    asked: float
    first_text: float | None = None
    voiced: float | None = None
    first_sentence: float | None = None
    first_sound: float | None = None
    turn: _Turn | None = None


class TurnStopwatch:
    """Sees a dialog's events and commands as they pass, and measures the answers to turns.

    The turns: the last voiced sample and the last words of each; the speeches that nobody asked for: one of them is the
    turn's answer, which is known when it is created, after the hook.
    """

    def __init__(self, measured: Callable[[Metrics], None]) -> None:
        self._measured = measured
        self._words = 0.0
        self._turns: dict[str, _Turn] = {}
        self._hooked: _Turn | None = None
        self._answers: dict[str, _Answer] = {}

    def watch(self, what: Event | Command) -> None:
        """An event on its way to the dialog, or a command before it is performed."""
        now = asyncio.get_running_loop().time()
        match what:
            case UserStopped():
                self._words = what.at
            case Transcribed():
                self._words = now if what.text else self._words
            case RunHook() if what.turn in self._turns:
                self._turns[what.turn].hook_began = now
            case HookFinished():
                self._hooked = self._turns.pop(what.turn, None)
                if self._hooked is not None:
                    self._hooked.hook = now - self._hooked.hook_began
            case Generate() if what.step == 1:
                self._answers.setdefault(what.speech, _Answer(asked=now))
            case Synthesise() if what.step == 1 and what.speech in self._answers:
                self._answers[what.speech].voiced = now
            case Generated() | Synthesised() | Played() if what.step == 1:
                self._progress(what, now)
            case Announce():
                self._announced(what, now)

    def _announced(self, command: Announce, now: float) -> None:
        notice = command.notice
        if isinstance(notice, TurnCommitted):
            words = max(self._words, notice.at) if not notice.typed else notice.at
            self._turns[notice.turn] = _Turn(notice.turn, notice.at, now, words)
        elif isinstance(notice, SpeechCreated):
            if notice.source == "turn":
                answer = self._answers.setdefault(notice.speech, _Answer(asked=now))
                answer.turn, self._hooked = self._hooked, None
        elif isinstance(notice, SpeechEnded | EarlyReplyDiscarded):
            self._answers.pop(notice.speech, None)

    def _progress(self, event: Generated | Synthesised | Played, now: float) -> None:
        answer = self._answers.get(event.speech)
        if answer is None:
            return
        if isinstance(event, Generated) and answer.first_text is None and event.what == "first":
            answer.first_text = now
        elif isinstance(event, Synthesised) and answer.first_sentence is None and event.what == "sentence":
            answer.first_sentence = now
        elif isinstance(event, Synthesised) and answer.first_sound is None and event.what == "first":
            answer.first_sound = now
        elif isinstance(event, Played) and event.what == "started" and answer.turn is not None:
            self._measured(_measure(event.speech, answer, answer.turn, heard=event.at))
            answer.turn = None


def _measure(speech: str, answer: _Answer, turn: _Turn, *, heard: float) -> TurnMetrics:
    text, sentence, sound = answer.first_text, answer.first_sentence, answer.first_sound
    # The voice waits for words, and is asked for when it is the speech's turn: it began when both were there.
    began = max(time for time in (text, answer.voiced, answer.asked) if time is not None)
    return TurnMetrics(
        turn=turn.id,
        speech_id=speech,
        end_of_turn_delay=turn.committed - turn.voiced,
        transcription_delay=turn.words - turn.voiced,
        hook=turn.hook,
        llm_ttft=text - answer.asked if text is not None else None,
        tts_ttfb=sound - began if sound is not None else None,
        response=heard - turn.voiced,
        sentence=max(sentence - began, 0.0) if sentence is not None else None,
    )
