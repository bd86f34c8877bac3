"""What LiveKit's clients read of both sides, as it arrives at one."""

from __future__ import annotations

import asyncio

import pytest
from livekit import rtc

from greenroom.room.room import AgentRoom
from greenroom.room.transcripts import LIMIT, Transcripts
from tests.room.people import PATIENCE, House, Person, Record, Stream

pytestmark = pytest.mark.e2e


async def reading(house: House) -> tuple[Person, AgentRoom]:
    ann = await house.enter("ann")
    ann.read("lk.transcription")
    return ann, await house.agent()


async def all_closed(streams: Record[Stream], count: int) -> None:
    await streams.until(lambda got: sum(each.closed for each in got) == count)


async def test_the_agents_words_are_one_stream_in_pieces(house: House) -> None:
    ann, agent = await reading(house)
    speaker, transcripts = await agent.open_speaker(), agent.transcripts
    transcripts.agent_delta("SG_1", "Good evening, ")
    await ann.streams.until(lambda got: bool(got[0].pieces))
    (stream,) = ann.streams
    assert not stream.closed
    assert stream.attributes["lk.transcription_final"] == "false"
    transcripts.agent_delta("SG_1", "what can I ")
    transcripts.agent_delta("SG_1", "do for you?")
    transcripts.agent_done("SG_1", "Good evening, what can I do for you?")
    await all_closed(ann.streams, 1)
    assert stream.text == "Good evening, what can I do for you?"
    assert stream.sender == "agent"
    assert stream.attributes == {
        "lk.segment_id": "SG_1",
        "lk.transcription_final": "true",
        "lk.transcribed_track_id": speaker.track_sid,
    }


async def test_words_that_were_not_sent_yet_come_with_the_end(house: House) -> None:
    ann, agent = await reading(house)
    agent.transcripts.agent_delta("SG_1", "One, ")
    agent.transcripts.agent_done("SG_1", "One, two, three.")
    agent.transcripts.agent_done("SG_2", "Without pieces.")
    await all_closed(ann.streams, 2)
    assert [each.text for each in ann.streams] == ["One, two, three.", "Without pieces."]
    assert all(each.attributes["lk.transcription_final"] == "true" for each in ann.streams)


async def test_an_interrupted_speech_is_corrected_to_what_was_heard(house: House) -> None:
    ann, agent = await reading(house)
    agent.transcripts.agent_delta("SG_1", "One, two, three, four, ")
    await ann.streams.until(lambda got: bool(got[0].pieces))
    agent.transcripts.agent_done("SG_1", "One, two,", interrupted=True)
    agent.transcripts.agent_delta("SG_2", "Yes?")
    agent.transcripts.agent_done("SG_2", "Yes?", interrupted=True)
    await all_closed(ann.streams, 3)
    shown, corrected, other = ann.streams
    assert shown.attributes["lk.transcription_final"] == "false"
    assert corrected.text == "One, two,"
    assert corrected.attributes["lk.segment_id"] == "SG_1"
    for each in (corrected, other):
        assert each.attributes["lk.transcription_final"] == "true"
        assert each.attributes["greenroom.interrupted"] == "true"


async def test_the_users_words_come_from_the_user(house: House) -> None:
    ann, agent = await reading(house)
    transcripts, track = agent.transcripts, "TR_mic"
    updates = (("a table", False), ("a table for two", False), ("A table for two.", True))
    for count, (text, final) in enumerate(updates, start=1):
        transcripts.user("SG_u", text, final=final, identity="ann", track=track)
        await all_closed(ann.streams, count)
    assert [each.text for each in ann.streams] == ["a table", "a table for two", "A table for two."]
    assert [each.attributes["lk.transcription_final"] for each in ann.streams] == ["false", "false", "true"]
    for each in ann.streams:
        assert each.sender == "ann"
        assert each.attributes["lk.segment_id"] == "SG_u"
        assert each.attributes["lk.transcribed_track_id"] == "TR_mic"


async def test_under_pressure_interim_texts_go_and_final_ones_stay_in_order(house: House) -> None:
    ann, agent = await reading(house)
    transcripts = agent.transcripts
    for n in range(2 * LIMIT):
        transcripts.user(f"SG_{n}", f"interim {n}", final=False, identity="ann")
    for n in range(2 * LIMIT):
        transcripts.user(f"SG_final_{n}", f"final {n}", final=True, identity="ann")
    await ann.streams.until(lambda got: got[-1].text == f"final {2 * LIMIT - 1}")
    texts = [each.text for each in ann.streams]
    assert [text for text in texts if text.startswith("final")] == [f"final {n}" for n in range(2 * LIMIT)]
    assert sum(text.startswith("interim") for text in texts) <= LIMIT


async def test_an_update_overtakes_the_one_that_still_waits(house: House) -> None:
    ann, agent = await reading(house)
    for n in range(50):
        agent.transcripts.user("SG_u", f"word {n}", final=False, identity="ann")
    agent.transcripts.user("SG_u", "Words.", final=True, identity="ann")
    await ann.streams.until(lambda got: got[-1].text == "Words.")
    assert len(ann.streams) == 1


async def test_what_waits_is_sent_before_leaving(house: House) -> None:
    ann, agent = await reading(house)
    agent.transcripts.agent_delta("SG_1", "Good")
    agent.transcripts.agent_done("SG_1", "Goodbye.")
    await agent.leave()
    await all_closed(ann.streams, 1)
    assert ann.streams[0].text == "Goodbye."


async def test_a_lost_room_neither_blocks_nor_breaks_the_sender(house: House) -> None:
    ann = await house.enter("ann")
    ann.read("lk.transcription")
    room = rtc.Room()
    await room.connect(house.server.url, house.token("agent", agent=True))
    transcripts = Transcripts(room.local_participant, agent_track=lambda: "")
    transcripts.agent_delta("SG_1", "One, ")
    await ann.streams.until(lambda got: bool(got[0].pieces))
    await room.disconnect()
    loop = asyncio.get_running_loop()
    began = loop.time()
    transcripts.agent_delta("SG_1", "two, ")  # its stream is open, and gone
    transcripts.agent_done("SG_1", "One, two, three.")
    transcripts.user("SG_2", "Hello?", final=True, identity="ann")
    await transcripts.aclose(timeout=0.5)
    assert loop.time() - began < PATIENCE
    assert transcripts._task.cancelled(), transcripts._task.exception()
