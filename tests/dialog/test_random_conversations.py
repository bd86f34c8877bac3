"""Random conversations: whatever happens, in whatever order, some things always hold."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from greenroom.dialog.dialog import Dialog, DialogRules
from greenroom.dialog.events import (
    Announce,
    CancelGeneration,
    Close,
    CloseAsked,
    Command,
    Commit,
    Drop,
    Event,
    Generate,
    Generated,
    Hold,
    HookFinished,
    InterruptAsked,
    Pause,
    Play,
    Played,
    ProtectionChanged,
    RequestedCall,
    Resume,
    RunHook,
    RunTool,
    SpeechCreated,
    SpeechEnded,
    SpeechRequested,
    Started,
    Stop,
    Synthesise,
    Synthesised,
    Tick,
    ToolFinished,
    Transcribed,
    TurnCommitted,
    UserStarted,
    UserStopped,
    UserTyped,
)
from greenroom.dialog.history import FunctionCallOutput, Message
from greenroom.dialog.interruption import InterruptionRules


@dataclass
class Conversation:
    """A shell that behaves as the real one may, at random times, and checks every command."""

    chance: random.Random
    rules: DialogRules = field(default_factory=DialogRules)
    dialog: Dialog = field(init=False)
    now: float = 0.0
    events: list[tuple[float, Event]] = field(default_factory=list)
    commands: list[list[Command]] = field(default_factory=list)
    making: dict[str, int] = field(default_factory=dict)
    texts: dict[tuple[str, int], str] = field(default_factory=dict)
    voiced: set[tuple[str, int]] = field(default_factory=set)
    playing: tuple[str, int] | None = None
    sounds: bool = False
    paused: bool = False
    asides: set[str] = field(default_factory=set)
    hooks: list[RunHook] = field(default_factory=list)
    tools: dict[str, RunTool] = field(default_factory=dict)
    tools_run: list[str] = field(default_factory=list)
    created: set[str] = field(default_factory=set)
    ended: dict[str, int] = field(default_factory=dict)
    committed_turns: dict[str, str] = field(default_factory=dict)
    stopped_turns: set[str] = field(default_factory=set)
    user_messages: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    utterance: str = ""
    owed: list[str] = field(default_factory=list)
    count: int = 0
    closed: bool = False

    def __post_init__(self) -> None:
        self.dialog = Dialog(self.rules)

    def feed(self, event: Event) -> None:
        self.events.append((self.now, event))
        commands = self.dialog.handle(event, self.now)
        self.commands.append(commands)
        for command in commands:
            self.perform(command)
        deadline = self.dialog.deadline()
        assert deadline is None or deadline >= self.now, f"deadline {deadline} is before {self.now}"

    def perform(self, command: Command) -> None:
        assert not self.closed or isinstance(command, Drop), f"{command} after Close"
        match command:
            case Generate(speech, step):
                assert speech not in self.ended
                self.making[speech] = step
            case CancelGeneration(speech):
                self.making.pop(speech, None)
            case Synthesise(speech, step):
                assert (speech, step) not in self.voiced, "voiced twice"
                self.voiced.add((speech, step))
            case Play(speech, step):
                self.free_broken_playout()
                assert self.playing is None, "two speeches on the track"
                assert speech in self.created
                assert speech not in self.ended
                assert (speech, step) in self.voiced
                self.playing, self.sounds, self.paused = (speech, step), False, False
            case Hold(speech, step):
                assert self.playing == (speech, step)
                assert not self.sounds, "held after it was heard"
                self.playing = None
            case Pause(speech, step):
                assert self.playing == (speech, step)
                assert self.sounds, "paused before it was heard"
                assert not self.paused, "paused twice"
                self.paused = True
            case Resume(speech, step):
                assert self.playing == (speech, step)
                assert self.paused, "resumed without a pause"
                self.paused = False
            case Stop(speech, step):
                assert self.playing == (speech, step)
                self.paused = False
            case RunHook():
                self.hooks.append(command)
            case RunTool(call=call):
                assert call.call_id not in self.tools_run, "a tool run twice"
                assert command.speech in self.created, "a tool of an answer that may be discarded"
                self.tools_run.append(call.call_id)
                self.tools[call.call_id] = command
            case Commit(item):
                if isinstance(item, Message) and item.role == "user":
                    self.user_messages.append(item.text)
                if isinstance(item, FunctionCallOutput):
                    self.outputs.append(item.call_id)
            case Announce(SpeechCreated(speech)):
                assert speech not in self.created
                self.created.add(speech)
            case Announce(SpeechEnded(speech)):
                assert speech in self.created
                self.ended[speech] = self.ended.get(speech, 0) + 1
                assert self.ended[speech] == 1, "ended twice"
            case Announce(TurnCommitted(turn, text)):
                self.committed_turns[turn] = text
            case Close():
                self.closed = True
            case _:
                pass
        if isinstance(command, Stop):
            self.stop_reported(command)

    def stop_reported(self, command: Stop) -> None:
        """The real playout reports a stop at once, as the next event."""
        if self.chance.random() < 0.05:
            return  # a broken one does not
        self.pending_stop = command

    pending_stop: Stop | None = None

    def flush_stop(self) -> None:
        if self.pending_stop is None:
            return
        command, self.pending_stop = self.pending_stop, None
        key = (command.speech, command.step)
        if self.playing == key:
            self.playing = None
            text = self.texts.get(key, "")
            self.feed(Played(*key, "stopped", self.now, 1, text[: self.chance.randint(0, len(text))]))
            self.flush_stop()

    def number(self) -> int:
        self.count += 1
        return self.count

    def move_on(self) -> None:
        later = self.now + self.chance.choice((0.0, 0.01, 0.1, 0.3, 0.7, 2.0, 6.0))
        while (deadline := self.dialog.deadline()) is not None and deadline <= later:
            self.now = max(self.now, deadline)
            self.tick()
        self.now = later

    def tick(self) -> None:
        before = self.dialog.deadline()
        self.feed(Tick())
        self.flush_stop()
        self.free_broken_playout()
        assert self.dialog.deadline() != before or before is None or before > self.now, "a tick without effect"

    def free_broken_playout(self) -> None:
        if self.playing is not None and self.playing[0] in self.ended:
            self.playing = None

    def act(self) -> None:
        self.chance.choice(
            (
                self.user_starts,
                self.user_stops,
                self.words_come,
                self.text_is_made,
                self.text_is_made,
                self.playout_goes_on,
                self.playout_goes_on,
                self.hook_returns,
                self.hook_returns,
                self.tool_returns,
                self.somebody_speaks,
                self.somebody_interrupts,
                self.user_types,
                self.nonsense,
            )
        )()
        self.flush_stop()
        self.free_broken_playout()

    def user_starts(self) -> None:
        if not self.utterance:
            self.utterance = f"u{self.number()}"
            self.feed(UserStarted(self.utterance, max(0.0, self.now - 0.06)))

    def user_stops(self) -> None:
        if self.utterance:
            self.owed.append(self.utterance)
            stopped, self.utterance = self.utterance, ""
            self.feed(UserStopped(stopped, max(0.0, self.now - 0.25)))

    def words_come(self) -> None:
        if self.owed:
            text = self.chance.choice(("", "mm-hm", f"words {self.number()}"))
            self.feed(Transcribed(self.owed.pop(0), text))

    def user_types(self) -> None:
        if self.chance.random() < 0.3:
            self.feed(UserTyped(f"typed {self.number()}"))

    def text_is_made(self) -> None:
        if not self.making:
            return
        speech = self.chance.choice(sorted(self.making))
        step = self.making.pop(speech)
        self.texts[speech, step] = f"text of {speech} {step}"
        calls = tuple(
            RequestedCall(f"c{self.number()}", "tool", "{}") for _ in range(self.chance.choice((0, 0, 0, 1, 2)))
        )
        if self.chance.random() < 0.1:
            self.feed(Generated(speech, step, "failed", error="gone"))
        else:
            self.feed(Generated(speech, step, "end", self.texts[speech, step], calls))

    def playout_goes_on(self) -> None:
        if self.playing is None or self.paused:
            return
        speech, step = self.playing
        if not self.sounds and self.chance.random() < 0.8:
            self.sounds = True
            self.feed(Played(speech, step, "started", self.now))
        elif self.making.get(speech) != step:
            if self.chance.random() < 0.1:
                self.feed(Synthesised(speech, step, "failed", error="gone"))
            elif self.playing == (speech, step):
                self.playing = None
                self.feed(Played(speech, step, "finished", self.now, 2, self.texts.get((speech, step), "")))

    def hook_returns(self) -> None:
        if self.hooks:
            hook = self.hooks.pop(0)
            go_on = self.chance.random() < 0.8
            if not go_on:
                self.stopped_turns.add(hook.turn)
            self.feed(HookFinished(hook.turn, go_on, hook.text, changed=self.chance.random() < 0.2))

    def tool_returns(self) -> None:
        if self.tools:
            call_id = self.chance.choice(sorted(self.tools))
            command = self.tools.pop(call_id)
            reply = self.chance.random() < 0.8
            self.feed(ToolFinished(command.speech, call_id, "output", reply=reply))

    def somebody_speaks(self) -> None:
        self.feed(
            SpeechRequested(
                f"s{self.number()}",
                self.chance.choice(("say", "generate_reply")),
                priority=self.chance.choice((0, 5, 5, 10)),
                place=self.chance.choice(("queue", "queue", "next", "replace")),
                allow_interruptions=self.chance.random() < 0.7,
                ttl=self.chance.choice((None, None, 1.0)),
                key=self.chance.choice(("", "", "key")),
            )
        )

    def somebody_interrupts(self) -> None:
        if self.chance.random() < 0.3:
            speech = self.chance.choice(["", *sorted(self.created)])
            self.feed(InterruptAsked(speech, force=self.chance.random() < 0.3))
        elif self.created:
            self.feed(ProtectionChanged(self.chance.choice(sorted(self.created)), self.chance.random() < 0.5))

    def nonsense(self) -> None:
        """Late and foreign events: they change nothing, and break nothing."""
        speech = self.chance.choice(["nobody", *sorted(self.ended)])
        self.feed(
            self.chance.choice(
                (
                    Played(speech, 1, "finished"),
                    Generated(speech, 1, "end", "late"),
                    Synthesised(speech, 1, "failed"),
                    ToolFinished(speech, "c-none", "late"),
                    Transcribed("u-none", "late"),
                    UserStopped("u-none", self.now),
                    HookFinished("turn-none", True, "late"),
                )
            )
        )

    def wind_down(self) -> None:
        """Let everything that is under way end, then close."""
        self.user_stops()
        self.flush_stop()
        for _ in range(400):
            while self.owed:
                self.words_come()
            self.now += 0.5
            while (deadline := self.dialog.deadline()) is not None and deadline <= self.now:
                self.tick()
            for act in (self.text_is_made, self.playout_goes_on, self.hook_returns, self.tool_returns):
                act()
                self.flush_stop()
                self.free_broken_playout()
            busy = self.making or self.playing or self.hooks or self.tools or self.dialog.deadline() is not None
            if not busy and self.ended.keys() >= self.created:
                break
        else:
            raise AssertionError("the conversation does not come to rest")


@settings(max_examples=400, deadline=None)
@given(st.integers(min_value=0, max_value=2**48), st.integers(min_value=5, max_value=120))
def test_what_always_holds(seed: int, length: int) -> None:
    chance = random.Random(seed)
    interruption = InterruptionRules(
        enabled=chance.random() < 0.9, pause=chance.random() < 0.7, min_words=chance.choice((1, 1, 2))
    )
    rules = DialogRules(
        transcript_timeout=3.0, max_tool_steps=2, interruption=interruption, preemptive=chance.random() < 0.5
    )
    talk = Conversation(chance, rules)
    talk.feed(Started())
    for _ in range(length):
        talk.move_on()
        talk.act()
    talk.wind_down()
    assert talk.dialog.deadline() is None, "an idle dialog wants to be woken"
    assert set(talk.ended) == talk.created, "a speech that never ended"
    assert sorted(talk.tools_run) == sorted(talk.outputs), "a tool's result that is not in the history, or twice"
    answered = [text for turn, text in talk.committed_turns.items() if turn not in talk.stopped_turns]
    assert sorted(answered) == sorted(talk.user_messages), "a turn is lost, told twice, or told against its hook"
    talk.feed(CloseAsked("done"))
    assert talk.closed
    talk.feed(UserTyped("hello?"))

    again = Dialog(rules)
    assert [again.handle(event, now) for now, event in talk.events] == talk.commands, "the replay differs"
