"""Text streams folded into what both sides said."""

from __future__ import annotations

from greenroom.embedded.transcript import Transcript


def test_deltas_of_one_stream_join() -> None:
    transcript = Transcript()
    transcript.begin("s1", speaker="agent", segment="SG_1", now=1.0)
    transcript.append("s1", "It is ")
    transcript.append("s1", "noon.")
    assert transcript.open("agent")
    ended = transcript.end("s1", final=True)
    assert ended is not None
    assert (ended.text, ended.final) == ("It is noon.", True)
    assert not transcript.open("agent")
    assert transcript.text("agent", since=0.0) == "It is noon."


def test_a_new_stream_of_a_segment_replaces_its_text_and_keeps_its_beginning() -> None:
    transcript = Transcript()
    transcript.begin("s1", speaker="user", segment="U", now=1.0)
    transcript.append("s1", "What time")
    transcript.end("s1", final=False)
    transcript.begin("s2", speaker="user", segment="U", now=2.0)
    transcript.append("s2", "What time is it?")
    transcript.end("s2", final=True)
    assert transcript.text("user", since=1.0) == "What time is it?"
    assert transcript.text("user", since=1.5) == "", "the segment began before"


def test_an_older_stream_changes_nothing_any_more() -> None:
    transcript = Transcript()
    transcript.begin("s1", speaker="user", segment="U", now=1.0)
    transcript.begin("s2", speaker="user", segment="U", now=1.1)
    transcript.append("s2", "Hello.")
    transcript.append("s1", "Hel")
    assert transcript.end("s1", final=False) is None
    assert transcript.open("user")
    transcript.end("s2", final=True)
    assert transcript.text("user", since=0.0) == "Hello."


def test_sides_are_apart_and_segments_in_order() -> None:
    transcript = Transcript()
    for index, (speaker, text) in enumerate([("agent", "One."), ("user", "Two."), ("agent", "Three."), ("agent", " ")]):
        assert speaker in ("agent", "user")
        stream = f"s{index}"
        transcript.begin(stream, speaker="agent" if speaker == "agent" else "user", segment=stream, now=float(index))
        transcript.append(stream, text)
        transcript.end(stream, final=True)
    assert transcript.text("agent", since=0.0) == "One. Three."
    assert transcript.text("agent", since=1.0) == "Three."
    assert transcript.text("user", since=0.0) == "Two."
