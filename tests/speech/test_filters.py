"""Which words are spoken for those that are written, however they come in pieces."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greenroom.speech.filters import EmojiFilter, MarkdownFilter, NumberFilter
from greenroom.speech.pronunciation import Pronunciation
from greenroom.speech.rewriting import Piece, Rewriting, TextFilter, rewritten

WORDS = Pronunciation({"nginx": "engine x", "SQL": "sequel", "New York": "the Big Apple", "New York City": "NYC"})
ALL = (MarkdownFilter(), EmojiFilter(), NumberFilter(), WORDS)


def spoken(text: str, *filters: TextFilter) -> str:
    rewriting = Rewriting(filters)
    return "".join(piece.spoken for piece in [*rewriting.push(text), *rewriting.flush()])


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("This is **bold**, *slanted* and ***both***.", "This is bold, slanted and both."),
        ("This is __bold__, _slanted_ and ~~gone~~.", "This is bold, slanted and gone."),
        ("Use `pip install` and ``more``.", "Use pip install and more."),
        ("2 * 3 = 6, 2*3 = 6 and 2**3 = 8", "2 * 3 = 6, 2*3 = 6 and 2**3 = 8"),
        ("snake_case_names and __init__ stay _as they are_", "snake_case_names and init stay as they are"),
        ("这是**重点**内容，**강조**는", "这是重点内容，강조는"),
        ("# Title\nText\n## Second #1\n", "Title\nText\nSecond #1\n"),
        ("- one\n* two\n+ three\n1. four\n  - [x] done", "one\ntwo\nthree\n1. four\ndone"),
        ("> quoted\n> > twice\nnot > quoted", "quoted\ntwice\nnot > quoted"),
        ("Above\n\n---\n\nBelow\n* * *\nEnd", "Above\n\n\n\nBelow\n\nEnd"),
        ("See [the page](https://example.com/a_b?c=(d)) now.", "See the page now."),
        ("![A **red** car](car.png) and [1] and [open", "A red car and [1] and [open"),
        ("```python\nprint(1)\n```\nDone.", "print(1)\nDone."),
        ("| Day | Price |\n|-----|------:|\n| Mo | 5 |\nA | B", " Day , Price \n\n Mo , 5 \nA | B"),
        ("Not \\*bold\\* at all \\_ here", "Not *bold* at all _ here"),
        ("<break time='1s'/> wait -5 degrees, +49 and #1", "<break time='1s'/> wait -5 degrees, +49 and #1"),
        ("- - -", ""),
        ("-", "-"),
        ("**", "**"),
    ],
)
def test_markdown_is_not_read_out(written: str, said: str) -> None:
    assert spoken(written, MarkdownFilter()) == said


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("Hello 👋 there 😀!", "Hello  there !"),
        ("A family 👩\u200d👩\u200d👧 and a thumb 👍🏽.", "A family  and a thumb ."),
        (
            "The flag 🇩🇪 of Scotland 🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f.",
            "The flag  of Scotland .",
        ),
        ("I ❤️ it, ☀️ and ⭐.", "I  it,  and ."),
        ("Press 1️⃣ or #️⃣.", "Press 1 or #."),
        ("Brand™ © 2024, a → b, 5 ≥ 4 ½", "Brand™ © 2024, a → b, 5 ≥ 4 ½"),
        ("می\u200cخواهم क्\u200dष", "می\u200cخواهم क्\u200dष"),
    ],
)
def test_emoji_are_not_read_out(written: str, said: str) -> None:
    assert spoken(written, EmojiFilter()) == said


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("Call 555-123-4567 now.", "Call 5 5 5, 1 2 3, 4 5 6 7 now."),
        ("Call +49 170 1234567, please", "Call +4 9, 1 7 0, 1 2 3 4 5 6 7, please"),
        ("Call (030) 123456.", "Call 0 3 0, 1 2 3 4 5 6."),
        ("Your code is 004217.", "Your code is 0 0 4 2 1 7."),
        ("Order 12345678!", "Order 1 2 3 4 5 6 7 8!"),
        ("In 2024 we sold 1200 of them for 3.50 or 1,234,567 in all.",) * 2,
        ("On 2026-11-21 at 12:30, version 1.22.333, 10 000 000 people, 21-11-2026, A1234567.",) * 2,
        ("See 127.0.0.1/8 and 1234567/2 and 12345678.5",) * 2,
    ],
)
def test_digits_that_are_no_number_are_spelled(written: str, said: str) -> None:
    assert spoken(written, NumberFilter()) == said


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("We use nginx, Nginx and NGINX.", "We use engine x, engine x and engine x."),
        ("nginxes and mynginx stay.", "nginxes and mynginx stay."),
        ("New York City, New York and New Yorkers", "NYC, the Big Apple and New Yorkers"),
        ("我们用nginx服务 nginx를", "我们用engine x服务 engine x를"),
        ("sql's SQL_x SQL", "sequel's SQL_x sequel"),
    ],
)
def test_words_are_pronounced(written: str, said: str) -> None:
    assert spoken(written, WORDS) == said


def test_signs_and_other_scripts_can_be_pronounced() -> None:
    words = Pronunciation({"C++": "see plus plus", "&": " and ", "東京": "とうきょう", "US": ""}, case_sensitive=True)
    assert spoken("C++ & B&B in 東京都 for us US", words) == "see plus plus  and  B and B in とうきょう都 for us "
    assert spoken("as it is", Pronunciation({})) == "as it is"
    with pytest.raises(ValueError, match="is empty"):
        Pronunciation({" ": "nothing"})


def test_each_spoken_word_knows_which_it_stands_for() -> None:
    rewriting = Rewriting(ALL)
    assert [*rewriting.push("We use **nginx** 👋."), *rewriting.flush()] == [
        Piece("We use ", "We use "),
        Piece("**", ""),
        Piece("nginx", "engine x"),
        Piece("**", ""),
        Piece(" ", " "),
        Piece("👋", ""),
        Piece(".", "."),
    ]


def test_no_more_is_held_back_than_is_open() -> None:
    rewriting = Rewriting(ALL)
    text = "Hello| there|, ng|inx| is| **|fine|** a|nd [a| link](b|) New| Or|k"
    said = ["".join(piece.spoken for piece in rewriting.push(part)) for part in text.split("|")]
    assert said == ["Hello", " there", ", ", "", "engine x is", " ", "fine", " a", "nd ", "", "a link ", "New Or", "k"]
    assert rewriting.flush() == []


async def test_a_stream_is_rewritten() -> None:
    async def parts() -> AsyncIterator[str]:
        for part in ("**ng", "inx", "** and", " SQ", "L"):
            yield part

    assert [part async for part in rewritten(parts(), ALL)] == ["engine x and", " ", "sequel"]


PARTS = [
    *"*_`~#>-+|[]()!\\\n \tab019.,:",
    "nginx",
    "New York",
    " City",
    "SQL",
    "](x)",
    "```",
    "😀",
    "\u200d",
    "1️⃣",
    "©️",
    "用",
]
TEXT = st.lists(st.sampled_from(PARTS), max_size=60).map("".join)


def in_pieces(parts: Sequence[str], filters: Sequence[TextFilter]) -> list[Piece]:
    rewriting = Rewriting(filters)
    return [*(piece for part in parts for piece in rewriting.push(part)), *rewriting.flush()]


@settings(deadline=None, max_examples=400)  # a busy machine is no failure
@given(TEXT, st.data(), st.sampled_from([*((each,) for each in ALL), ALL]))
def test_pieces_change_nothing_and_no_word_is_lost(
    text: str, data: st.DataObject, filters: tuple[TextFilter, ...]
) -> None:
    whole = in_pieces([text], filters)
    assert "".join(piece.shown for piece in whole) == text
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8), label="cuts"))
    parts = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    pieces = in_pieces(parts, filters)
    assert "".join(piece.shown for piece in pieces) == text
    assert "".join(piece.spoken for piece in pieces) == "".join(piece.spoken for piece in whole)
    if len(filters) == 1:
        assert "".join(piece.spoken for piece in whole) == filters[0].apply(text)
