"""The words that end a turn, and those that do not."""

from __future__ import annotations

import asyncio

import pytest

from greenroom.providers import Heard, OptionError, TurnDetector, registry
from greenroom.settings import ProviderSettings
from greenroom.testing.contract import TurnDetectorContract
from greenroom.testing.contract.turn import heard
from greenroom_plugins.phrase import PhraseDetector, PhraseOptions

DONE = """
I would like to order a pizza with mushrooms.
What time do you close today?
Where are you from?
What's it for
Can you turn it on?
Yes, I do.
No, it isn't.
Yes
What?
Thank you, that is all.
My number is 0 3 0 1 2 3 4 5 6 7
It costs 25
It costs 250
At half past nine
I have two children
The code is four five six seven eight nine one
Call me back tomorrow
"""

OPEN = """
I would like to order a
I would like to order a.
Can you book a table for
Can you book a table for?
My name is
I was thinking that maybe we could, um
Um
The thing is that I
I think I will take the
Could you tell me how far it is to
My number is five five five
It is 0 3 0
The number is 555.
It should arrive on
Because
I don’t
So on Monday...
First of all,
Send it to my office and
Do you know where the
"""


class TestPhrase(TurnDetectorContract):
    @pytest.fixture
    def provider(self) -> TurnDetector:
        return PhraseDetector(PhraseOptions())

    @pytest.fixture
    def cut(self) -> Heard | None:
        return heard("I would like to order a")


def judged(text: str, options: PhraseOptions | None = None, *, language: str = "en") -> bool:
    detector = PhraseDetector(options or PhraseOptions())
    return asyncio.run(detector.probability(heard(text, language=language))) >= detector.threshold


@pytest.mark.parametrize("text", DONE.strip().splitlines())
def test_a_turn_that_is_over(text: str) -> None:
    assert judged(text)


@pytest.mark.parametrize("text", OPEN.strip().splitlines())
def test_a_turn_that_goes_on(text: str) -> None:
    assert not judged(text)


def test_another_language_is_never_held_back() -> None:
    assert judged("Ich nehme den ersten Zug in a", language="de-DE")
    assert not judged("I take the first train in a", language="en-GB")
    assert not judged("I take the first train in a", language="")


def test_words_of_the_users_own() -> None:
    options = PhraseOptions(open_ends=("flight number", "Extension"))
    assert not judged("It is flight number", options)
    assert not judged("Please give me extension.", options)
    assert judged("I forgot the number", options)
    assert judged("It is flight number")


def test_how_long_a_dictated_number_may_be() -> None:
    assert not judged("it is one two three four five six seven", PhraseOptions(digits=8))
    assert judged("it is one two three four five six seven")
    assert judged("it is one two three", PhraseOptions(digits=0))


def test_it_is_built_from_settings() -> None:
    detector = registry.build("turn", ProviderSettings("phrase", options={"threshold": 0.3}))
    assert isinstance(detector, PhraseDetector)
    assert detector.threshold == 0.3
    with pytest.raises(OptionError, match="expected one of"):
        registry.check("turn", "phrase", {"treshold": 0.3})
