"""Which audio is sent and whose the words are: the pure part, with times written in the tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greenroom.providers import Transcript
from greenroom_plugins.deepgram.utterances import BATCH, KEPT, LOOKBACK, PENDING, SILENCE, Utterances
from greenroom_plugins.deepgram.wire import FINALIZE, Alternative, Channel, Results, UtteranceEnd, Word

RATE = 16000
FRAME = 0.05
SAMPLES = round(FRAME * RATE)


def frame(number: int) -> bytes:
    """50 ms of audio that holds the word ``number``."""
    return np.full(SAMPLES, number % 30000, dtype=np.int16).tobytes()


@dataclass
class Deepgram:
    """Hears the numbers that it was sent, each in its place."""

    audio: bytes = b""
    final: int = 0
    finalizes: int = 0

    def take(self, message: bytes | str) -> None:
        if isinstance(message, bytes):
            self.audio += message
        elif message == FINALIZE:
            self.finalizes += 1

    @property
    def sent(self) -> list[int]:
        """The words that it was sent."""
        return [int(number) for number in np.frombuffer(self.audio, dtype=np.int16)[::SAMPLES]]

    def result(self, end: int | None = None, *, is_final: bool = True, from_finalize: bool = False) -> Results:
        """What it hears up to frame ``end``."""
        numbers = self.sent
        end = len(numbers) if end is None else end
        words = [
            Word(index * FRAME, (index + 1) * FRAME, str(number))
            for index, number in list(enumerate(numbers))[self.final : end]
            if number
        ]
        heard = Alternative(" ".join(word.word for word in words), 0.9, words)
        told = Results(
            self.final * FRAME,
            (end - self.final) * FRAME,
            Channel([heard]),
            is_final=is_final,
            from_finalize=from_finalize,
        )
        self.final = end if is_final else self.final
        return told


@dataclass
class Line:
    """Both ends, and what the session is told."""

    utterances: Utterances
    deepgram: Deepgram = field(default_factory=Deepgram)
    now: float = 0.0
    at: float = 0.0
    told: list[Transcript] = field(default_factory=list)

    def connect(self) -> None:
        self.utterances.disconnected()
        self.deepgram = Deepgram()
        self.told += self.utterances.connected(now=self.now)
        self.flow()

    def flow(self) -> None:
        while (message := self.utterances.take(now=self.now)) is not None:
            self.deepgram.take(message)

    def say(self, *numbers: int) -> None:
        for number in numbers:
            self.utterances.push(frame(number), at=self.at)
            self.at += FRAME
        self.flow()

    def begin(self, name: str, *, back: int = 0) -> None:
        self.told += self.utterances.begin(name, at=self.at - back * FRAME + 0.001, now=self.now)
        self.flow()

    def end(self, name: str) -> None:
        self.told += self.utterances.end(name, now=self.now)
        self.flow()

    def hear(self, end: int | None = None, *, is_final: bool = True, from_finalize: bool = False) -> None:
        result = self.deepgram.result(end, is_final=is_final, from_finalize=from_finalize)
        self.told += self.utterances.heard(result, now=self.now)

    def expire(self, now: float) -> bool:
        self.now = now
        told, dead = self.utterances.expire(now=now)
        self.told += told
        return dead

    @property
    def finals(self) -> list[tuple[str, str]]:
        return [(one.utterance, one.text) for one in self.told if one.final]

    @property
    def interims(self) -> list[tuple[str, str]]:
        return [(one.utterance, one.text) for one in self.told if not one.final]


def line(mode: Literal["auto", "session", "own"] = "session", *, connected: bool = True, interim: bool = True) -> Line:
    made = Line(Utterances(sample_rate=RATE, mode=mode, patience=3.0, language="en", interim=interim))
    if connected:
        made.connect()
    return made


def test_silence_is_not_sent() -> None:
    there = line()
    there.say(*[0] * 100)
    assert there.deepgram.audio == b""
    there.begin("u1", back=2)
    there.say(1, 2, 0)
    there.end("u1")
    there.say(*[0] * 100)
    assert there.deepgram.sent == [0, 0, 1, 2, 0]
    assert there.deepgram.finalizes == 1


def test_a_beginning_is_looked_back_for_only_so_far() -> None:
    there = line()
    there.say(*range(1, 1000))
    there.begin("u1", back=900)
    assert len(there.deepgram.sent) == pytest.approx(LOOKBACK / FRAME, abs=1)
    assert there.deepgram.sent[-1] == 999


def test_words_are_interim_until_the_utterance_is_over() -> None:
    there = line()
    there.begin("u1")
    there.say(1, 2)
    there.hear(is_final=False)
    there.hear()  # a pause in mid-utterance
    there.say(3)
    there.hear(is_final=False)
    there.end("u1")
    assert there.interims == [("u1", "1 2"), ("u1", "1 2 3")]
    assert there.finals == []
    there.hear(from_finalize=True)
    assert there.finals == [("u1", "1 2 3")]
    assert there.told[-1].confidence == pytest.approx(0.9)
    assert there.told[-1].language == "en"


def test_interim_words_can_be_left_out() -> None:
    there = line(interim=False)
    there.begin("u1")
    there.say(1, 2)
    there.hear(is_final=False)
    there.end("u1")
    there.hear()
    assert [one.final for one in there.told] == [True]


def test_the_answer_to_finalize_is_not_waited_for_when_all_has_been_answered() -> None:
    there = line()
    there.begin("u1")
    there.say(1, 2)
    there.end("u1")
    there.hear()
    assert there.finals == [("u1", "1 2")]
    there.begin("u2")
    there.say(3)
    there.hear(from_finalize=True)  # of u1, with what there is of u2 as Deepgram's clock has it
    there.say(4)
    there.end("u2")
    there.hear(from_finalize=True)
    assert there.finals == [("u1", "1 2"), ("u2", "3 4")]


def test_an_answer_with_nothing_in_it_ends_an_utterance_of_which_all_was_heard() -> None:
    there = line()
    there.begin("u1")
    there.say(1)
    there.hear()
    there.end("u1")
    assert there.finals == []
    there.hear(from_finalize=True)
    assert there.finals == [("u1", "1")]


def test_an_utterance_without_audio_is_answered_at_once() -> None:
    there = line()
    there.begin("u1")
    there.end("u1")
    assert there.finals == [("u1", "")]
    assert there.deepgram.finalizes == 0


def test_utterances_keep_their_order() -> None:
    there = line()
    there.begin("u1")
    there.say(1)
    there.end("u1")
    there.begin("u2")
    there.end("u2")  # nothing in it, yet it has to wait
    there.begin("u3")
    there.say(3)
    there.end("u3")
    assert there.finals == []
    there.hear(1, from_finalize=True)
    assert there.finals == [("u1", "1"), ("u2", "")]
    there.hear(2, from_finalize=True)
    assert there.finals[2:] == [("u3", "3")]


def test_words_across_two_utterances_are_parted_at_their_place() -> None:
    there = line()
    there.begin("u1")
    there.say(1, 2)
    there.end("u1")
    there.begin("u2")
    there.say(3, 4)
    there.end("u2")
    there.hear()
    assert there.finals == [("u1", "1 2"), ("u2", "3 4")]


def test_a_beginning_without_an_end_before_it_ends_what_was_open() -> None:
    there = line()
    there.begin("u1")
    there.say(1)
    there.begin("u2")
    there.say(2)
    there.end("u2")
    there.hear()
    assert there.finals == [("u1", "1"), ("u2", "2")]


@pytest.mark.parametrize("name", ["never", ""])
def test_an_end_that_never_began_is_ignored(name: str) -> None:
    there = line()
    there.end(name)
    there.begin("u1")
    there.say(1)
    there.end(name)
    assert there.deepgram.finalizes == 0
    there.end("u1")
    assert there.deepgram.finalizes == 1


# --- by itself --------------------------------------------------------------------------------------------------------


def test_without_marks_everything_is_sent_and_told_as_it_comes() -> None:
    there = line("own")
    there.say(0, 1, 2)
    there.hear(is_final=False)
    there.hear()
    there.say(0, 0)
    there.hear()
    there.told += there.utterances.heard(UtteranceEnd(), now=0.0)
    assert there.deepgram.sent == [0, 1, 2, 0, 0]
    assert there.interims == [("", "1 2")]
    assert [(one.text, one.ended) for one in there.told if one.final] == [("1 2", False), ("", True)]


def test_what_was_heard_so_far_can_be_asked_for() -> None:
    there = line("own")
    there.say(1)
    there.end("")
    assert there.deepgram.finalizes == 1
    there.hear(from_finalize=True)
    there.end("")
    there.hear(from_finalize=True)  # there is nothing more, and that is said
    assert there.finals == [("", "1"), ("", "")]


def test_marks_are_ignored_where_deepgram_is_to_find_utterances() -> None:
    there = line("own")
    there.begin("u1")
    there.say(1)
    there.end("u1")
    there.hear()
    assert there.finals == [("", "1")]


def test_the_first_mark_takes_over_the_audio_from_its_beginning_on() -> None:
    there = line("auto")
    there.say(7, 0, 1, 2)
    there.hear(is_final=False)
    there.begin("u1", back=2)
    there.say(3)
    there.end("u1")
    assert there.deepgram.sent == [7, 0, 1, 2, 3]
    there.hear(from_finalize=True)
    assert there.told == [Transcript("1 2 3", True, "u1", "en", 0.9)]
    there.say(0, 0, 0)
    assert len(there.deepgram.sent) == 5


def test_the_first_mark_may_come_before_the_connection() -> None:
    there = line("auto", connected=False)
    there.say(7, 1, 2)
    there.begin("u1", back=2)
    there.end("u1")
    there.connect()
    assert there.deepgram.sent == [1, 2]
    there.hear()
    assert there.finals == [("u1", "1 2")]


# --- connections that fail --------------------------------------------------------------------------------------------


def test_what_has_no_final_words_is_sent_again() -> None:
    there = line()
    there.begin("u1")
    there.say(1, 2, 3)
    there.hear(2)
    there.connect()
    assert there.deepgram.sent == [3]
    there.say(4)
    there.end("u1")
    there.hear(from_finalize=True)
    assert there.finals == [("u1", "1 2 3 4")]


def test_an_utterance_that_only_waits_for_the_last_word_is_over_with_its_connection() -> None:
    there = line()
    there.begin("u1")
    there.say(1)
    there.hear()
    there.end("u1")
    there.connect()
    assert there.finals == [("u1", "1")]
    assert there.deepgram.finalizes == 0


def test_a_piece_of_a_frame_is_sent_again() -> None:
    there = line()
    there.begin("u1")
    there.say(1, 2)
    there.utterances.heard(Results(0.0, 1.5 * FRAME, Channel([Alternative("1")]), is_final=True), now=0.0)
    there.connect()
    assert len(there.deepgram.audio) == SAMPLES  # half a frame


def test_audio_that_nobody_took_is_kept_for_a_minute() -> None:
    there = line(connected=False)
    there.begin("u1")
    for number in range(1, round(KEPT / FRAME) + 500):
        there.say(number)
    there.connect()
    assert len(there.deepgram.sent) == pytest.approx(KEPT / FRAME, abs=2)
    assert there.deepgram.sent[-1] == round(KEPT / FRAME) + 499


def test_only_so_many_utterances_wait() -> None:
    there = line(connected=False)
    for number in range(PENDING + 3):
        there.begin(f"u{number}")
        there.say(1)
        there.end(f"u{number}")
    assert there.finals == [("u0", ""), ("u1", ""), ("u2", "")]


def test_words_that_do_not_come_are_done_without() -> None:
    there = line()
    there.begin("u1")
    there.say(1, 2)
    there.hear(is_final=False)
    there.end("u1")
    assert there.utterances.deadline() == 3.0
    assert not there.expire(2.9)
    assert not there.expire(3.0)
    assert there.finals == [("u1", "1 2")]
    assert there.utterances.deadline() is None


def test_an_utterance_that_is_being_worked_on_is_waited_for() -> None:
    there = line()
    there.begin("u1")
    there.say(1, 2, 3)
    there.end("u1")
    there.now = 2.0
    there.hear(2)
    assert there.utterances.deadline() == 5.0
    assert not there.expire(4.9)
    assert there.finals == []
    there.hear(from_finalize=True)
    assert there.finals == [("u1", "1 2 3")]


def test_a_connection_that_says_nothing_is_at_fault_and_no_utterance_waits_for_a_third() -> None:
    there = line()
    there.begin("u1")
    there.say(1)
    there.end("u1")
    assert there.expire(3.0)
    there.connect()
    assert there.deepgram.sent == [1]
    assert not there.expire(5.9)
    assert there.expire(6.0), "whoever has another transcriber goes there"
    assert there.finals == []
    there.connect()
    assert there.deepgram.sent == []
    assert there.finals == [("u1", "")]


def test_a_connection_that_takes_audio_and_says_nothing_is_at_fault() -> None:
    there = line("own")
    there.say(*[0] * round(0.6 * SILENCE / FRAME))
    assert there.utterances.deadline() == SILENCE
    assert not there.expire(SILENCE - 0.1)
    assert there.expire(SILENCE)


def test_a_microphone_that_is_muted_is_no_fault_of_the_connection() -> None:
    there = line("own")
    there.say(0, 0, 0)
    assert there.utterances.deadline() is None
    assert not there.expire(10 * SILENCE)


def test_the_time_between_utterances_is_no_silence_of_the_connection() -> None:
    there = line()
    there.begin("u1")
    there.say(*[1] * round(SILENCE / FRAME))
    there.hear(is_final=False)
    there.end("u1")
    there.expire(3.0)
    assert not there.expire(1000.0)
    there.connect()
    there.begin("u2")
    there.say(1)
    assert not there.expire(1000.0)


def test_audio_is_sent_in_messages_that_are_not_large() -> None:
    there = line(connected=False)
    there.begin("u1")
    for _ in range(100):
        there.utterances.push(frame(1), at=0.0)
    there.utterances.connected(now=0.0)
    taken: list[bytes | str] = []
    while (message := there.utterances.take(now=0.0)) is not None:
        taken.append(message)
    assert all(0 < len(message) <= BATCH * RATE * 2 for message in taken)
    assert len(taken) == 100 * FRAME / BATCH


def test_an_empty_frame_is_not_sent() -> None:
    there = line()
    there.begin("u1")
    there.utterances.push(b"", at=0.0)
    assert there.utterances.take(now=0.0) is None


# --- whatever happens -------------------------------------------------------------------------------------------------

Step = Callable[[Line], None]
STEPS = st.one_of(
    st.integers(1, 6).map(lambda count: ("say", count)),
    st.integers(0, 8).map(lambda count: ("hear", count)),
    st.just(("interim", 0)),
    st.just(("end", 0)),
    st.just(("begin", 0)),
    st.just(("break", 0)),
    st.just(("connect", 0)),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(STEPS, max_size=60))
def test_no_word_is_lost_doubled_or_given_to_another(steps: list[tuple[str, int]]) -> None:
    there, spoken, number, up = line(connected=False), dict[str, list[int]](), 0, False
    name = ""
    for step, count in steps:
        if step == "begin" and not name:
            name = f"u{len(spoken)}"
            spoken[name] = []
            there.begin(name)
        elif step == "say" and name:
            said = list(range(number + 1, number + count + 1))
            number += count
            spoken[name] += said
            there.say(*said)
        elif step == "end" and name:
            there.end(name)
            name = ""
        elif step == "break":
            there.utterances.disconnected()
            up = False
        elif step == "connect":
            there.connect()
            up = True
        elif step in ("hear", "interim") and up and there.deepgram.sent:
            end = min(there.deepgram.final + count, len(there.deepgram.sent)) if step == "hear" else None
            there.hear(end, is_final=step == "hear")
    if name:
        there.end(name)
    there.connect()
    while there.deepgram.final < len(there.deepgram.sent):
        there.hear(there.deepgram.final + 1)
    there.hear(from_finalize=True)
    if len(spoken) <= PENDING:
        assert there.finals == [(name, " ".join(map(str, said))) for name, said in spoken.items()]
    else:
        assert [name for name, _ in there.finals] == list(spoken)
    assert not there.utterances.owing
    for utterance, text in there.interims:
        assert set(text.split()) <= set(map(str, spoken[utterance]))
