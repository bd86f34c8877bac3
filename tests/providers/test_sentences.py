"""Cutting text into sentences: what is cut, when it is certain, and that nothing is lost."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greenroom.providers.sentences import SentenceSplitter, sentences, speakable


def split(text: str, *, longest: int = 250, shortest: int = 12, first_clause: int = 0, language: str = "") -> list[str]:
    splitter = SentenceSplitter(shortest=shortest, longest=longest, first_clause=first_clause, language=language)
    return [*splitter.push(text), *splitter.flush()]


@pytest.mark.parametrize(
    "text",
    [
        "This is the first one. |This is the second one! |Is this the third one?",
        "It costs 3.50 euros today. |That is not 3,50 but 3.50 in all.",
        "Dr. Smith and Mrs. Jones met J. R. R. Tolkien. |They had tea.",
        "We sell fruit, e.g. apples, i.e. good ones. |Come and see us.",
        "We open at 9 a.m. on weekdays only. |We close at 5 p.m. |You are welcome here.",
        "Apples, pears, etc. are sold here. |We also have plums, etc. |Nuts we have not.",
        "No. |That is not what I meant at all.",
        "See No. 5 in the list of rooms. |It is free.",
        "He said “Stop it right now.” |Then he left.",
        'She asked "Where is the car?" |Nobody knew it.',
        "(This is in brackets, all of it.) |This is not in them.",
        "Well... |I do not know what to say… |Perhaps tomorrow morning.",
        "Look at www.example.com/a.b?c=d!e for more. |Then call us back.",
        "Ask for report.final.pdf at the desk. |They have it there.",
        "What?! |You cannot be serious about it!! |No way at all.",
        "One line without a full stop\n|Another line without one\n|The end of it",
        "1. Open the door of the car\n|2. Close the door of the car\n|3. Drive",
        "**This is bold text.** |_This one is slanted._ |The end of it.",
        "今日は良い天気です。|「明日も晴れます。」|散歩に行きましょう、一緒に公園まで!",
        "यह पहला लंबा वाक्य है। |यह दूसरा लंबा वाक्य है।",
        "هل هذا هو السؤال الأول؟ |نعم هذا هو الجواب.",
        "The U.S. Army and the Ph.D. students came. |All of them.",
    ],
)
def test_cuts(text: str) -> None:
    expected = text.split("|")
    assert split("".join(expected)) == expected


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("de", "Am 3. Mai kam z. B. Herr Dr. Müller bzw. seine Frau. |Er blieb bis 17 Uhr. |Dann ging er."),
        ("de-DE", "Die Nr. 5 ist ca. 3 m lang. |Wir treffen uns um 3. |Bis dann!"),
        ("fr", "M. Dupont et Mme Martin sont arrivés. |Ils habitent av. Victor Hugo. |Voilà."),
        ("es", "El Sr. García y la Sra. López han llegado. |¿Qué desea Ud. esta noche? |Nada más, gracias."),
        ("it", "Il sig. Rossi è arrivato da poco. |La dott.ssa Bianchi no, ecc. ecc. per ora. |Va bene."),
        ("pt-BR", "O Sr. Silva chegou mais cedo. |A Dra. Souza ainda não. |Pode esperar um pouco?"),
        ("nl", "Dhr. Jansen komt morgen, d.w.z. dinsdag. |Bel ons bijv. om tien uur. |Tot dan."),
        ("ru", "Он живёт на ул. Ленина, т. е. в центре города. |Это хороший район. |Позвоните нам."),
        ("pl", "Prof. Kowalski mieszka przy ul. Długiej. |Można np. zadzwonić do niego. |Dziękuję."),
        ("sv", "Ring oss t.ex. klockan tio på morgonen. |Vi svarar på alla frågor. |Hej då."),
        ("el", "Τι κάνετε σήμερα το πρωί; |Είμαι πολύ καλά. |Ευχαριστώ."),
        ("hy", "Ես շատ լավ եմ այսօր։ |Շնորհակալություն։"),
        ("am", "ዛሬ በጣም ጥሩ ቀን ነው። |እንዴት ነህ ወዳጄ?"),
        ("my", "ဒါဟာ ပထမ စာကြောင်း ဖြစ်တယ်။ |ဒါဟာ ဒုတိယ စာကြောင်း ဖြစ်တယ်။"),
        ("zh", "你好，欢迎来到我们的餐厅。|请问您需要什么？|好的，没问题。"),
        ("xx", "A language that nobody knows, Inc. is here. |It has sentences too."),
    ],
)
def test_cuts_in_other_languages(language: str, text: str) -> None:
    expected = text.split("|")
    assert split("".join(expected), language=language) == expected


def test_a_number_waits_for_the_word_after_it_where_it_may_be_an_ordinal() -> None:
    splitter = SentenceSplitter(language="de")
    assert splitter.push("Wir kommen gern am 3. ") == []
    assert splitter.push("Ma") == []
    assert splitter.push("i zu Ihnen. ") == ["Wir kommen gern am 3. Mai zu Ihnen. "]
    assert splitter.push("Wir sehen uns um 3. Bis ") == ["Wir sehen uns um 3. "]


def test_short_sentences_join_the_next_but_the_first_does_not_wait() -> None:
    assert split("Yes. Of course. I see. We can do that for you.") == [
        "Yes. ",
        "Of course. I see. ",
        "We can do that for you.",
    ]


def test_text_without_words_stays_with_its_neighbour() -> None:
    assert split("... !? Hello there. 👋 ... How are you doing?") == [
        "... !? Hello there. ",
        "👋 ... How are you doing?",
    ]


def test_spaces_and_lines_are_kept() -> None:
    text = "  Hello there.   How are you today?\r\n\r\n  Fine, thank you. \n "
    assert "".join(split(text)) == text
    assert split(" \n ") == [" \n "]
    assert split("") == []


def test_a_sentence_is_certain_as_soon_as_the_space_comes() -> None:
    splitter = SentenceSplitter()
    assert splitter.push("This is a sentence.") == []
    assert splitter.push(" ") == ["This is a sentence. "]
    assert splitter.push("It costs 3.") == []
    assert splitter.push("5 euros.") == []
    assert splitter.push("\n") == ["It costs 3.5 euros.\n"]


def test_an_abbreviation_waits_for_the_next_word() -> None:
    splitter = SentenceSplitter()
    assert splitter.push("We close at five p.m. ") == []
    assert splitter.push("Y") == ["We close at five p.m. "]
    splitter = SentenceSplitter()
    assert splitter.push("We close at five p.m. t") == []
    assert splitter.flush() == ["We close at five p.m. t"]


def test_text_that_does_not_end_is_cut_at_a_comma_else_a_space_else_anywhere() -> None:
    clauses = "and so it goes on, " * 30
    assert all(len(part) <= 100 and part.endswith(", ") for part in split(clauses, longest=100)[:-1])
    spaced = "word " * 200
    assert all(len(part) <= 100 and part.endswith(" ") for part in split(spaced, longest=100)[:-1])
    solid = "x" * 1000
    assert [len(part) for part in split(solid, longest=100)] == [100] * 10
    assert "".join(split(spaced, longest=100)) == spaced


def test_a_forced_cut_does_not_tear_a_character() -> None:
    text = "e\u0301" * 100  # an e and its accent
    assert all(not part.startswith("\u0301") for part in split(text, longest=51))
    family = "👩\u200d👩\u200d👧" * 40
    assert all(part[0] == "👩" for part in split(family, longest=52))


def test_the_first_clause_can_be_taken_early() -> None:
    text = "Certainly, I can help you with that, and we begin, if you like, at once. After that, we go on."
    assert split(text, first_clause=20) == [
        "Certainly, I can help you with that, ",
        "and we begin, if you like, at once. ",
        "After that, we go on.",
    ]
    assert split("It is 1,000,000 euros in all, no more.", first_clause=5) == [
        "It is 1,000,000 euros in all, ",
        "no more.",
    ]
    assert split(text)[0] == text[: text.index("After")]


def test_limits_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="longest is 5"):
        SentenceSplitter(longest=5, shortest=12)


PIECES = [
    "3. ",
    "Mai ",
    "z. B. ",
    "Dr. ",
    *"abcXYZ 019.,!?;:…\n\"'”)(-。！「」、é\u0301\u200d👋½",
    "Mr.",
    " p.m. ",
    "e.g. ",
    "word ",
    ". ",
]
TEXT = st.lists(st.sampled_from(PIECES), max_size=200).map("".join)


@settings(deadline=None)  # a busy machine is no failure
@given(
    st.one_of(TEXT, st.text(max_size=100)),
    st.data(),
    st.sampled_from([20, 60, 250]),
    st.sampled_from([0, 10]),
    st.sampled_from(["", "de", "el", "ja", "xx"]),
)
def test_pieces_change_nothing_and_nothing_is_lost(
    text: str, data: st.DataObject, longest: int, clause: int, language: str
) -> None:
    whole = split(text, longest=longest, first_clause=clause, language=language)
    assert "".join(whole) == text
    assert all(len(sentence) <= longest for sentence in whole)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=12), label="cuts"))
    splitter, got = SentenceSplitter(longest=longest, first_clause=clause, language=language), []
    for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        got += splitter.push(text[start:end])
    assert [*got, *splitter.flush()] == whole


@settings(deadline=None)  # a busy machine is no failure
@given(TEXT)
def test_every_sentence_but_the_last_has_words(text: str) -> None:
    assert all(speakable(sentence) for sentence in split(text)[:-1])


async def test_the_stream_is_cut_as_it_comes() -> None:
    asked: list[str] = []

    async def pieces() -> AsyncIterator[str]:
        for piece in ("This is the ", "first one. This", " is the second."):
            asked.append(piece)
            yield piece

    stream = sentences(pieces())
    assert await anext(stream) == "This is the first one. "
    assert len(asked) == 2
    assert [sentence async for sentence in stream] == ["This is the second."]
