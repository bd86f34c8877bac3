"""The user's side: properties 5 and 6, and what others need to know of it."""

from __future__ import annotations

from collections import Counter, deque

from greenroom.dialog import commands as do
from greenroom.dialog import events as ev
from greenroom.dialog import notices as news
from greenroom.dialog.history import Message

from .moment import Handlers, Moment

__all__ = ["Turns"]

SLACK = 1e-9


class Turns:
    """``voice``: the utterance that is being spoken, and listened to. ``speaks``: as the dialog has announced."""

    def __init__(self, moment: Moment) -> None:
        self._moment = moment
        self.voice = ""
        self.vague = False
        """Only the transcriber knows whether the user speaks."""
        self.speaks = False
        self.muted = False
        self.exceeded: set[str] = set()
        self._aside = ""
        self._ignored: set[str] = set()
        self._said: dict[str, bool] = {}
        self._fixed: set[str] = set()
        self._unfinished: set[str] = set()
        self._worded: set[str] = set()
        self._given = ""
        self._skips = False
        self.quiet_since = 0.0
        self._texts: dict[str, str] = {}
        self._asked: set[str] = set()
        self._asides: list[str] = []
        self._to_hook: deque[str] = deque()
        self._hooking = ""
        self._hooked = ""
        self._replied: str | None = None
        self._unheard = False
        self._items: dict[str, str] = {}
        self.events: Handlers = {
            ev.UserStarted: self._user_started,
            ev.UserStopped: self._user_stopped,
            ev.Transcribed: self._transcribed,
            ev.UserTyped: self._typed,
            ev.TurnEndAsked: self._end_asked,
            ev.TurnCleared: self._cleared,
            ev.HookFinished: self._hook_finished,
        }
        self.commands: Handlers = {
            do.RunHook: self._run_hook,
            do.Commit: self._commit,
        }
        self.notices: Handlers = {
            news.UserMuted: self._muted,
            news.TurnCommitted: self._committed,
            news.TurnExceeded: lambda notice: self.exceeded.add(notice.turn),
            news.TurnTimedOut: lambda notice: self._fixed.update(self._worded.intersection(notice.utterances)),
            news.Backchannel: self._backchannel,
        }

    @property
    def waiting(self) -> bool:
        """A committed turn waits for its hook."""
        return bool(self._hooking or self._to_hook)

    @property
    def interrupts(self) -> bool:
        """The user does something that may interrupt what is heard: makes a sound, says words, or ends a turn."""
        event = self._moment.event
        words = isinstance(event, ev.Transcribed) and bool(event.text)
        return bool(self.voice) or words or bool(self._moment.announced(news.TurnCommitted))

    def may_drop(self, event: ev.Event) -> bool:
        """An event with an owner that may come to nothing all the same."""
        if isinstance(event, ev.UserStopped):
            return event.utterance != self.voice
        if isinstance(event, ev.Transcribed):
            return event.utterance in self._fixed  # its words were taken as they stood, or are not wanted
        return isinstance(event, ev.TurnJudged)

    def beforehand(self) -> None:
        """Whether the user speaks decides who may be heard, and is announced after it."""
        for notice in self._moment.announced(news.UserStateChanged):
            self.speaks = notice.new is ev.UserState.SPEAKING

    def afterwards(self) -> None:
        event = self._moment.event
        if isinstance(event, ev.HookFinished) and event.go_on and not self._moment.closing:
            assert self._replied == event.turn, f"{event.turn} is lost after its hook"
            asked = self._skips and event.turn in self._asked
            answers = [notice for notice in self._moment.announced(news.SpeechCreated) if notice.source == "turn"]
            assert len(answers) == 1 or (asked and not answers), f"{event.turn} has {len(answers)} answers"
        if isinstance(event, ev.SpeechRequested) and event.user_input:
            refused = any(notice.speech == event.speech for notice in self._moment.announced(news.SpeechEnded))
            assert refused or self._given == event.user_input, "what the user put in is lost"
        self._replied = None
        if self.voice:
            assert self.speaks, "the user speaks unnoticed"
        elif not self.vague:
            assert not self.speaks, "nobody speaks"

    def rested(self) -> None:
        """All final words are in one turn, once."""
        assert not self.waiting, "a turn that waits for its hook for ever"
        placed = Counter(word for text in self._texts.values() for word in text.split())
        aside = {word for text in self._asides for word in text.split()}
        for word, unique in self._said.items():
            assert placed[word] or word in aside or self._unheard, f"{word!r} is lost"
            assert placed[word] <= 1 or not unique, f"{word!r} is in two turns"

    # --- events -----------------------------------------------------------------------------------------------------

    def _user_started(self, event: ev.UserStarted) -> None:
        if self.muted:
            self._aside = event.utterance
            self._ignored.add(event.utterance)
        else:
            self.voice = event.utterance
        self._unfinished.add(event.utterance)

    def _user_stopped(self, event: ev.UserStopped) -> None:
        if event.utterance == self._aside:
            self._aside = ""
        if event.utterance == self.voice:
            self._cut()

    def _transcribed(self, event: ev.Transcribed) -> None:
        if not event.utterance:
            self.vague = True
        if event.text:
            self._worded.add(event.utterance)
        swallowed = event.utterance in self._ignored if event.utterance else self.muted
        if event.text and event.final and not swallowed:
            self._said[event.text] = event.text.startswith("w")

    def _typed(self, event: ev.UserTyped) -> None:
        self._said[event.text] = True
        self._skips = self._skips or event.skip_reply

    def _end_asked(self, event: ev.TurnEndAsked) -> None:
        self._skips = self._skips or event.skip_reply
        self._cut()

    def _cut(self) -> None:
        if self.voice:
            self.voice, self.quiet_since = "", self._moment.now

    def _backchannel(self, notice: news.Backchannel) -> None:
        """Little words only; that they were said while the agent was heard, ``Witness`` sees."""
        rules = self._moment.rules.interruption
        words = notice.text.replace("-", " ")
        assert words in rules.backchannels or len(words.split()) < rules.min_words, f"{words!r} is no backchannel"
        self._asides.append(notice.text)

    def _cleared(self, event: ev.TurnCleared) -> None:
        """What is committed stays so; the rest may be lost."""
        self._cut()
        self._said = {}
        self._fixed |= self._unfinished

    def _hook_finished(self, event: ev.HookFinished) -> None:
        assert event.turn == self._hooking
        self._hooking = ""
        if not event.go_on or self._moment.closing:
            self._unheard = self._unheard or self._moment.rules.turns.detection == "realtime"

    # --- commands and notices -----------------------------------------------------------------------------------------

    def _run_hook(self, command: do.RunHook) -> None:
        assert not self._hooking, "two hooks at once"
        turn = self._to_hook.popleft()
        assert command.turn == turn, "hooks out of order"
        assert command.text == self._texts[turn] or self._moment.rules.turns.detection == "realtime"
        self._hooking, self._hooked = turn, command.text

    def _commit(self, command: do.Commit) -> None:
        item, event = command.item, self._moment.event
        if not isinstance(item, Message) or item.role != "user":
            return
        if isinstance(event, ev.HookFinished):
            assert self._replied is None, "a turn is told twice"
            assert event.go_on, "a turn joined the history against its hook"
            if event.text == self._hooked and self._moment.rules.turns.detection == "realtime":
                self._texts[event.turn] = item.text  # more of its words may have come meanwhile
            else:
                assert item.text == event.text
                self._unheard = self._unheard or self._moment.rules.turns.detection == "realtime"
            self._replied = self._items[item.id] = event.turn
        elif isinstance(event, ev.SpeechRequested):
            assert item.text == event.user_input
            self._given = item.text
        else:
            assert isinstance(event, ev.Transcribed)
            assert self._moment.rules.turns.detection == "realtime"
            self._texts[self._items[item.id]] = item.text

    def _muted(self, notice: news.UserMuted) -> None:
        assert notice.on is not self.muted
        self.muted = notice.on
        if not notice.on and self._aside:
            self._ignored.discard(self._aside)
            self.voice, self._aside = self._aside, ""

    def _committed(self, notice: news.TurnCommitted) -> None:
        moment = self._moment
        rules = moment.rules.turns
        assert notice.turn not in self._texts, "committed twice"
        assert notice.text or rules.detection == "realtime"
        assert notice.at <= moment.now + SLACK
        by_silence = not (notice.typed or notice.asked or notice.turn in self.exceeded or moment.closing)
        if by_silence and rules.detection in ("vad", "stt"):
            assert moment.now + SLACK >= notice.at + rules.endpoint.min_delay or self.vague, "the user is cut short"
        assert not by_silence or rules.detection != "manual", "a turn is ended that only the program may end"
        self._texts[notice.turn] = notice.text
        if notice.asked or (isinstance(moment.event, ev.UserTyped) and moment.event.skip_reply):
            self._asked.add(notice.turn)
        self._to_hook.append(notice.turn)
