"""The server goes away and comes back: the call goes on, and nothing is said to nobody. On the real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import numpy as np
import pytest
from livekit import rtc

from greenroom.audio import AudioFrame
from greenroom.embedded.mediaserver import MediaServer
from greenroom.room import connection
from greenroom.room.caller import Departure, EndReason
from greenroom.room.room import AgentRoom, PreconnectRules, RoomEnded, RoomTimes
from greenroom.room.speaker import Speaker
from greenroom.room.transcripts import SEGMENT, TOPIC
from tests.room.people import PATIENCE, House, Listener, Person, Record, running, tone

pytestmark = pytest.mark.e2e

RATE = 24_000


@pytest.fixture
async def mortal() -> AsyncIterator[House]:
    """A room of a server that nobody else needs."""
    async with MediaServer() as server, House(server) as house:
        yield house


async def say(speaker: Speaker, seconds: float) -> None:
    pcm = tone(seconds, sample_rate=RATE)
    for start in range(0, len(pcm), 1200):
        await speaker.push(pcm[start : start + 1200])


async def babble(person: Person) -> None:
    """Bursts of 0.2 s, for ever."""
    while True:
        await person.say(tone(0.2))
        await person.say(np.zeros(9600, dtype=np.int16))


async def hear(agent: AgentRoom, frames: Record[AudioFrame]) -> None:
    async for frame in agent.microphone.frames(16_000):
        frames.add(frame)


async def heard_since(frames: Record[AudioFrame], when: float) -> None:
    """A voice has been captured after ``when``."""
    await frames.until(lambda got: any(frame.at > when and np.abs(frame.pcm).max() > 3000 for frame in got))


async def reads(person: Person, segment: str, text: str) -> None:
    """The last stream of a segment holds this text."""
    person.streams.touch()
    await person.streams.until(
        lambda got: [each.text for each in got if each.attributes.get(SEGMENT) == segment][-1:] == [text]
    )


async def test_a_caller_who_is_gone_for_a_while_misses_nothing(house: House) -> None:
    listener = Listener()
    ann = await house.enter("ann")
    ann.listen()
    agent = await house.agent(listener)
    speaker = await agent.open_speaker()
    await speaker.wait_ready()
    saying = asyncio.create_task(say(speaker, 3.0))
    await ann.hear_sound(1.0)
    await ann.leave()
    await listener.until("left", "ann")
    queued = speaker.queued
    assert queued > 0.1
    await asyncio.wait({saying}, timeout=1.0)
    assert not saying.done()
    assert speaker.queued == queued
    again = await house.enter("ann")
    again.listen()
    await saying
    await again.hear_until(asyncio.get_running_loop().time() + speaker.queued + 0.5)
    # What was on its way when she left went nowhere.
    assert 2.6 < ann.sound() + again.sound() < 3.2, (ann.sound(), again.sound())


async def test_what_is_held_can_be_cleared(house: House) -> None:
    listener = Listener()
    ann = await house.enter("ann")
    ann.listen()
    agent = await house.agent(listener)
    speaker = await agent.open_speaker()
    await speaker.wait_ready()
    saying = asyncio.create_task(speaker.push(tone(3.0, sample_rate=RATE)))
    await ann.hear_sound(0.5)
    await ann.leave()
    await listener.until("left", "ann")
    queued = speaker.queued
    assert speaker.clear() == pytest.approx(queued)
    await asyncio.wait_for(saying, 1)
    assert speaker.queued == 0
    again = await house.enter("ann")
    again.listen()
    await again.heard.until(lambda got: len(got) > 30)
    assert again.sound() == 0
    await speaker.push(tone(0.5, sample_rate=RATE))
    await again.hear_sound(0.4)


async def test_a_client_that_never_subscribes_again_holds_the_agent_up_no_longer_than_at_first(house: House) -> None:
    agent = await house.agent()
    speaker = await agent.open_speaker(ready_timeout=0.4)
    speaker.subscribed()
    speaker.listener_left()
    ready = asyncio.create_task(speaker.wait_ready())
    saying = asyncio.create_task(say(speaker, 0.1))
    await asyncio.wait({ready, saying}, timeout=0.6)
    assert not ready.done()
    assert not saying.done()
    loop = asyncio.get_running_loop()
    began = loop.time()
    speaker.listener_expected()
    await asyncio.wait_for(asyncio.gather(ready, saying), PATIENCE)
    assert loop.time() - began > 0.35


@pytest.mark.parametrize("seconds", [1.0, 10.0])
async def test_a_server_that_is_killed_and_soon_back(mortal: House, seconds: float) -> None:
    listener = Listener()
    ann = await mortal.enter("ann")
    ann.listen()
    ann.read(TOPIC)
    ann.watch("agent")
    agent = await mortal.agent(listener, times=RoomTimes(lost_grace=9))
    speaker = await agent.open_speaker()
    agent.set_state("speaking")
    await speaker.wait_ready()
    frames: Record[AudioFrame] = Record()
    client, before = agent.client, await mortal.sid()
    async with running(hear(agent, frames), babble(ann)):
        saying = asyncio.create_task(say(speaker, 4.0))
        agent.transcripts.agent_delta("s1", "one ")
        await ann.hear_sound(1.5)
        await mortal.server.kill()
        await listener.states.until(lambda told: told[-1][0] == "reconnecting")
        agent.transcripts.agent_delta("s1", "two ")
        agent.transcripts.user("u1", "what", final=True, identity="ann")
        agent.set_state("listening")
        await asyncio.sleep(seconds)
        assert not saying.done()
        await mortal.server.start()
        await listener.until("linked", "ann", True, timeout=20)
        back = asyncio.get_running_loop().time()
        await heard_since(frames, back)
        agent.transcripts.agent_done("s1", "one two three")
        await saying
        await ann.hear_until(asyncio.get_running_loop().time() + speaker.queued + 0.5)
        await reads(ann, "s1", "one two three")
        await reads(ann, "u1", "what")
        await ann.attributes.until(lambda seen: {"lk.agent.state": "listening"} in seen)
    assert ann.sound() > 3.3
    assert agent.client is client
    assert [each[0] for each in listener.told] == ["linked", "left", "linked"]
    await listener.states.until(lambda told: told[-1][1] not in ("", before))
    states = [state for state, _ in listener.states]
    assert states.index("reconnecting") > 0
    assert set(states) == {"connected", "reconnecting"}
    assert await mortal.present() == {"ann", "agent"}


async def shut_down(house: House, listener: Listener) -> bool:
    """Stop the server. Returns whether it said so: of four times, once its sockets die before its word is out, and
    LiveKit's client tries to come back by itself."""
    await house.server.stop(grace=0.1)
    await listener.states.until(lambda states: states[-1][0] != "connected")
    return listener.states[-1][0] != "reconnecting"


async def put_out(house: House, listener: Listener) -> None:
    """Stop the server as often as it takes for it to put the agent out of the room."""
    for _ in range(10):
        if await shut_down(house, listener):
            return
        await house.server.start()
        await listener.states.until(lambda states: states[-1][0] == "connected")
    raise AssertionError("the server never says that it shuts down")


async def write(person: Person, text: str) -> None:
    """Send a chat message. A client's data channel opens some time after its audio, and says so by failing."""
    async with asyncio.timeout(20):
        while True:
            with suppress(rtc.StreamError):
                await person.room.local_participant.send_text(text, topic="lk.chat")
                return
            await asyncio.sleep(0.2)


async def check_call(house: House, agent: AgentRoom, listener: Listener, *, since: float) -> Person:
    """The caller is back too, and everything works in the new room."""
    ann = await house.enter("ann", microphone=False)
    ann.listen()
    ann.read(TOPIC)
    await ann.publish(promise=True)
    await listener.until("linked", "ann", True)
    frames: Record[AudioFrame] = Record()
    async with running(hear(agent, frames), babble(ann)):
        await heard_since(frames, since)
        await write(ann, "still there?")
        await listener.until("text", "ann", "still there?")
    participant = ann.room.remote_participants["agent"]
    assert participant.kind == rtc.ParticipantKind.PARTICIPANT_KIND_AGENT
    assert participant.attributes["lk.agent.state"] == "speaking"
    return ann


async def test_a_server_that_is_shut_down_and_back() -> None:
    for _ in range(10):
        async with MediaServer() as server, House(server) as house:
            if await survive_a_shutdown(house):
                return
    raise AssertionError("the server never says that it shuts down")


async def survive_a_shutdown(mortal: House) -> bool:
    """Returns whether the server said that it shuts down."""
    listener, tokens = Listener(), []
    clients: list[rtc.Room] = []

    def token() -> str:
        tokens.append(mortal.token("agent", agent=True))
        return tokens[-1]

    ann = await mortal.enter("ann")
    ann.listen()
    # A client's second connection promises the recording of its first, which must not be waited for so long.
    agent = await mortal.agent(listener, token=token, preconnect=PreconnectRules(timeout=60))
    agent.on_client(clients.append)
    speaker = await agent.open_speaker()
    await speaker.wait_ready()
    loop = asyncio.get_running_loop()
    saying = asyncio.create_task(say(speaker, 3.0))
    agent.transcripts.agent_delta("s1", "one ")
    await ann.hear_sound(1.0)
    old = agent.client
    if not await shut_down(mortal, listener):
        saying.cancel()
        return False
    await listener.until("left", "ann", Departure.LOST, 20.0)
    lost, held = loop.time(), speaker.queued
    agent.set_state("speaking")
    agent.transcripts.agent_delta("s1", "two ")
    await asyncio.sleep(1)
    assert speaker.queued == held
    await mortal.server.start()
    await listener.states.until(lambda told: told[-1][0] == "connected" and len(told) > 2)
    back = loop.time()
    assert back - lost < 4.0
    assert agent.linked is None
    again = await check_call(mortal, agent, listener, since=back)
    await saying
    agent.transcripts.agent_done("s1", "one two three")
    await again.hear_until(loop.time() + speaker.queued + 0.5)
    await reads(again, "s1", "one two three")
    assert 2.6 < ann.sound() + again.sound() < 3.3, (ann.sound(), again.sound())
    assert clients == [old, agent.client]
    assert agent.client is not old
    assert tokens
    # Whatever the old connection says now is not about this one.
    old.emit("participant_disconnected", agent.client.remote_participants["ann"])
    old.emit("disconnected", rtc.DisconnectReason.ROOM_DELETED)
    assert agent.linked is not None
    # The server puts people out one after the other; whose turn comes first is chance.
    assert [each[0] for each in listener.told] in (
        ["linked", "lost", "left", "linked", "text"],
        ["linked", "left", "lost", "linked", "text"],
    )
    assert [state for state, _ in listener.states][-2:] == ["rejoining", "connected"]
    assert listener.states[-1][1] == await mortal.sid()
    return True


async def test_a_server_that_is_away_for_longer_than_clients_wait(mortal: House) -> None:
    listener = Listener()
    ann = await mortal.enter("ann")
    ann.listen()
    agent = await mortal.agent(listener)
    agent.set_state("speaking")
    speaker = await agent.open_speaker()
    await speaker.wait_ready()
    saying = asyncio.create_task(say(speaker, 3.0))
    await ann.hear_sound(1.0)
    loop = asyncio.get_running_loop()
    killed = loop.time()
    await mortal.server.kill()
    await listener.until("lost", EndReason.CONNECTION_LOST, timeout=45)  # its ten attempts take 25 to 30 s
    await asyncio.sleep(killed + 25 - loop.time())
    await mortal.server.start()
    await listener.states.until(lambda told: told[-1][0] == "connected")
    again = await check_call(mortal, agent, listener, since=loop.time())
    await saying
    await again.hear_until(loop.time() + speaker.queued + 0.5)
    assert 2.6 < ann.sound() + again.sound() < 3.3, (ann.sound(), again.sound())
    assert [each[0] for each in listener.told] == ["linked", "left", "lost", "linked", "text"]
    assert await mortal.present() == {"ann", "agent"}


async def test_a_server_that_does_not_come_back_ends_the_call_in_time(mortal: House) -> None:
    listener = Listener()
    agent = await mortal.agent(listener, times=RoomTimes(rejoin=1.0, leave=4 * PATIENCE))
    await agent.open_speaker()
    await put_out(mortal, listener)
    loop = asyncio.get_running_loop()
    lost = loop.time()
    await listener.until("ended", EndReason.SERVER_SHUTDOWN)
    assert 0.8 < loop.time() - lost < PATIENCE
    with pytest.raises(RoomEnded, match="server_shutdown"):
        await agent.wait_for_participant(1)
    began = loop.time()
    await agent.leave()
    assert loop.time() - began < PATIENCE


async def test_who_must_not_come_back_ends_with_the_connection(mortal: House) -> None:
    listener = Listener()
    agent = await mortal.agent(listener, times=RoomTimes(rejoin=0))
    await put_out(mortal, listener)
    assert listener.told == [("ended", EndReason.SERVER_SHUTDOWN)]
    with pytest.raises(RoomEnded):
        await agent.open_speaker()


async def test_a_speaker_that_is_opened_and_a_caller_who_is_awaited_while_we_are_away(mortal: House) -> None:
    listener = Listener()
    agent = await mortal.agent(listener)
    await put_out(mortal, listener)
    opening = asyncio.create_task(agent.open_speaker())
    waiting = asyncio.create_task(agent.wait_for_participant(20))
    await mortal.server.start()
    speaker = await asyncio.wait_for(opening, 10)
    ann = await mortal.enter("ann")
    ann.listen()
    assert (await waiting).identity == "ann"
    await speaker.wait_ready()
    await say(speaker, 0.5)
    await ann.hear_sound(0.4)
    assert agent.linked is not None


async def test_a_client_that_says_nothing_any_more_is_replaced(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "PATIENCE", 0.3)
    listener = Listener()
    ann = await house.enter("ann")
    ann.listen()
    agent = await house.agent(listener)
    speaker = await agent.open_speaker()
    await speaker.wait_ready()
    old = agent.client
    old.emit("reconnecting")
    await listener.until("lost", EndReason.CONNECTION_LOST)
    await listener.until("linked", "ann", True)
    assert agent.client is not old
    assert not old.isconnected()
    await say(speaker, 0.5)
    await ann.hear_sound(0.4)
    assert await house.present() == {"ann", "agent"}
    states = [state for state, _ in listener.states]
    assert states.index("reconnecting") < states.index("rejoining")
    assert states[-1] == "connected"


async def test_leaving_while_away_is_quick_and_leaves_nothing_behind(mortal: House) -> None:
    listener = Listener()
    agent = await mortal.agent(listener, times=RoomTimes(leave=4 * PATIENCE))
    await agent.open_speaker()
    agent.transcripts.agent_delta("s1", "to nobody")
    await put_out(mortal, listener)
    agent.transcripts.agent_done("s1", "to nobody at all")
    loop = asyncio.get_running_loop()
    began = loop.time()
    await agent.leave()
    assert loop.time() - began < PATIENCE
    await mortal.server.start()
    await asyncio.sleep(0.5)
    assert "agent" not in await mortal.present()
    assert [each[0] for each in listener.told] == ["lost"]
