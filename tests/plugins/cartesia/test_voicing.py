"""Which words begin at which sample, and which audio waits for them: the pure part, with times written in the tests."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greenroom.providers import SynthesizedAudio
from greenroom_plugins.cartesia.labels import Label, Labels
from greenroom_plugins.cartesia.voicing import AHEAD, Voicing

RATE = 1000


def labelled(text: str, *words: tuple[str, float]) -> Labels:
    labels = Labels(RATE)
    labels.write(text)
    labels.named([word for word, _ in words], [start for _, start in words], base=0)
    return labels


def texts(labels: list[Label]) -> list[str]:
    return [label.text for label in labels]


# --- words ------------------------------------------------------------------------------------------------------------


def test_labels_hold_what_lies_between_the_words() -> None:
    labels = labelled('Well, "come (in)" - now! ', ("Well,", 0.0), ("come", 0.5), ("in", 1.0), ("now!", 1.5))
    cut = labels.cut(0, 2000)
    assert [(label.sample, label.text) for label in cut] == [
        (0, "Well, "),
        (500, '"come '),
        (1000, '(in)" - '),
        (1500, "now! "),
    ]
    assert all(label.aligned for label in cut)
    assert labels.rest() == ""


def test_a_word_that_is_named_when_its_audio_is_gone_begins_now() -> None:
    labels = labelled("one two three", ("one", 0.0), ("two", 0.4), ("three", 0.8))
    assert labels.cut(500, 1000) == [Label(500, "one two ", False), Label(800, "three", True)]


def test_words_that_are_not_named_belong_to_the_next() -> None:
    labels = labelled("It is 5 p.m. now", ("It", 0.0), ("now", 1.0))
    assert texts(labels.cut(0, 2000)) == ["It is 5 p.m. ", "now"]


def test_words_that_are_not_in_the_text_are_left_out() -> None:
    labels = labelled("It is 5 now", ("It", 0.0), ("is", 0.2), ("five", 0.4), ("now", 1.0))
    assert texts(labels.cut(0, 2000)) == ["It ", "is 5 ", "now"]


def test_a_word_is_not_looked_for_at_the_other_end_of_the_text() -> None:
    labels = labelled("one two " + "filler " * 30 + "three", ("one", 0.0), ("three", 0.2), ("two", 0.4))
    assert texts(labels.cut(0, 2000)) == ["one ", "two "]


def test_text_without_spaces_between_words() -> None:
    labels = labelled("你好。再见！", ("你好", 0.0), ("再", 0.5), ("见", 0.7))
    assert texts(labels.cut(0, 2000)) == ["你好。", "再", "见！"]


def test_names_of_several_words() -> None:
    labels = labelled("I'm in New York today", ("I'm", 0.0), ("in", 0.1), ("New York", 0.2), ("today", 0.9))
    assert texts(labels.cut(0, 2000)) == ["I'm ", "in ", "New York ", "today"]


def test_names_without_a_letter_and_times_without_a_name() -> None:
    labels = Labels(RATE)
    labels.write("one - two")
    labels.named(["one", "-", "two"], [0.0, 0.3], base=0)
    assert texts(labels.cut(0, 2000)) == ["one - "]
    assert labels.rest() == "two"


def test_times_that_go_back_do_not() -> None:
    labels = labelled("one two", ("one", 0.5), ("two", 0.1))
    assert labels.cut(0, 2000) == [Label(500, "one two", True)]


def test_a_guess_is_as_a_voice_typically_speaks() -> None:
    labels = labelled("Hello there. You ")
    assert labels.guess(0, 400) == [Label(0, "Hello ", True)]
    assert labels.guess(400, 401) == [Label(400, "there. ", False)]
    labels.named(["Hello", "there", "You"], [0.0, 0.35, 0.9], base=0)
    assert labels.cut(401, 2000) == [Label(900, "You ", True)]


@settings(deadline=None)
@given(
    st.lists(st.text(st.sampled_from("ab ,.!(\"'-é你 \n"), min_size=1, max_size=20), max_size=8),
    st.lists(st.tuples(st.text(st.sampled_from("abé你.' "), max_size=5), st.floats(0, 5)), max_size=20),
    st.lists(st.integers(1, 2000), max_size=8),
    st.booleans(),
)
def test_joined_the_labels_are_the_text(
    text: list[str], words: list[tuple[str, float]], steps: list[int], guessing: bool
) -> None:
    labels, told, at, last = Labels(RATE), "", 0, 0
    for index, step in enumerate(steps or [1]):
        for part in text[index :: len(steps or [1])]:
            labels.write(part)
        named = words[index :: len(steps or [1])]
        labels.named([word for word, _ in named], [start for _, start in named], base=0)
        cut = labels.guess(at, at + step) if guessing and index == 0 else labels.cut(at, at + step)
        assert all(at <= label.sample < at + step and label.text for label in cut)
        assert [label.sample for label in cut] == sorted(label.sample for label in cut)
        assert all(label.sample >= last for label in cut)
        last = cut[-1].sample if cut else last
        told += "".join(texts(cut))
        at += step
    order = [text[place] for index in range(len(steps or [1])) for place in range(index, len(text), len(steps or [1]))]
    assert told + labels.rest() == "".join(order)


# --- audio ------------------------------------------------------------------------------------------------------------


def sound(seconds: float, *, level: int = 1000) -> np.ndarray[tuple[int], np.dtype[np.int16]]:
    return np.full(round(seconds * RATE), level, dtype=np.int16)


def seconds(pieces: list[SynthesizedAudio]) -> float:
    return sum(len(piece.frame.pcm) for piece in pieces) / RATE


def words(pieces: list[SynthesizedAudio]) -> list[tuple[str, bool]]:
    return [(piece.text, piece.aligned) for piece in pieces if piece.text]


def test_the_first_sound_is_handed_on_at_once_with_the_first_word() -> None:
    voicing = Voicing(RATE)
    voicing.labels.write("Hello there. ")
    first = voicing.add(sound(0.1), now=5.0)
    assert seconds(first) == pytest.approx(0.1)
    assert (first[0].text, first[0].aligned) == ("Hello ", True)


def test_what_comes_then_waits_for_its_words() -> None:
    voicing = Voicing(RATE)
    voicing.labels.write("Wonderful there you. ")
    made = [*voicing.add(sound(0.3), now=5.0), *voicing.add(sound(0.3), now=5.0)]
    assert voicing.add(sound(0.6), now=5.0) == []
    assert seconds(made) == pytest.approx(AHEAD + 0.1)
    named = voicing.name(["Wonderful", "there", "you."], [0.0, 0.7, 0.9], [0.5, 0.8, 1.1], now=5.0)
    assert words(named) == [("there ", True), ("you. ", True)]
    assert seconds(named) == pytest.approx(1.1 - seconds(made))
    assert [len(piece.frame.pcm) for piece in named] == [100, 200, 200]


def test_who_listens_is_never_left_without() -> None:
    voicing = Voicing(RATE)
    voicing.labels.write("Hello there you. ")
    made = seconds(voicing.add(sound(2.0), now=5.0))
    while (due := voicing.due()) is not None:
        assert due == pytest.approx(5.0 + made - AHEAD)
        assert voicing.release(now=due - 0.01) == []
        more = seconds(voicing.release(now=due))
        assert more == pytest.approx(0.1, abs=0.01)
        made += more
    assert made == pytest.approx(2.0)


def test_each_part_counts_from_its_own_beginning() -> None:
    voicing = Voicing(RATE)
    voicing.labels.write("One. ")
    voicing.begin()
    voicing.name(["One."], [0.0], [0.5], now=0.0)
    voicing.add(sound(0.5), now=0.0)
    voicing.labels.write("Two. ")
    voicing.begin()
    voicing.name(["Two."], [0.1], [0.4], now=0.0)
    second = voicing.add(sound(0.5), now=0.0)
    assert [(len(piece.frame.pcm), piece.text) for piece in second] == [(100, ""), (300, "Two. ")]
    assert seconds(voicing.end()) == pytest.approx(0.1)


def test_silence_at_the_beginning_waits_for_a_sound() -> None:
    voicing = Voicing(RATE)
    voicing.labels.write("Hello. ")
    assert voicing.add(sound(0.2, level=0), now=0.0) == []
    assert voicing.soundless == pytest.approx(0.2)
    assert not voicing.sounded
    assert seconds(voicing.add(sound(0.1), now=0.0)) == pytest.approx(0.3)
    assert voicing.sounded


def test_without_timestamps_nothing_waits_and_nothing_is_labelled() -> None:
    voicing = Voicing(RATE, timestamps=False)
    voicing.labels.write("Hello there. ")
    made = [*voicing.add(sound(3.0), now=0.0), *voicing.end()]
    assert seconds(made) == pytest.approx(3.0)
    assert words(made) == []
    assert voicing.due() is None


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.floats(0.01, 0.5).map(lambda length: ("add", length)),
            st.floats(0, 6).map(lambda start: ("name", start)),
            st.floats(0, 1).map(lambda later: ("wait", later)),
            st.just(("begin", 0.0)),
        ),
        max_size=40,
    )
)
def test_every_sample_is_handed_on_once_and_in_order(steps: list[tuple[str, float]]) -> None:
    voicing, now, made, count = Voicing(RATE), 0.0, 0, 0
    pieces: list[SynthesizedAudio] = []
    voicing.labels.write(" ".join(f"word{number}" for number in range(40)))
    for step, value in steps:
        if step == "add":
            length = round(value * RATE)
            pieces += voicing.add(np.arange(made + 100, made + 100 + length).astype(np.int16), now=now)
            made += length
        elif step == "name":
            pieces += voicing.name([f"word{count}"], [value], [value + 0.2], now=now)
            count += 1
        elif step == "begin":
            voicing.begin()
        else:
            now += value
            pieces += voicing.release(now=now)
    pieces += voicing.end()
    heard = np.concatenate([piece.frame.pcm for piece in pieces])
    assert np.array_equal(heard, np.arange(100, made + 100).astype(np.int16))
    assert "".join(piece.text for piece in pieces) == " ".join(f"word{number}" for number in range(40))
