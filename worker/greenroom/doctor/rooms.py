"""The rooms that are open: what they ask for, and whether it came."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from greenroom.clock import wall
from greenroom.doctor.findings import Finding, note, right, wrong
from greenroom.doctor.probe import PREFIX
from greenroom.doctor.worker import shown
from greenroom.errors import ServerError
from greenroom.server.api import ServerApi
from greenroom.server.sightings import DispatchSeen, PersonSeen, RoomSeen
from greenroom.settings import Settings
from greenroom.wording import suggestion

__all__ = ["Open", "examine_rooms", "judge"]

LOST_AFTER: Final = 9.0
"""Seconds: the server looks for a worker for 5 at most, and waits 3 for its answer."""
MOST: Final = 50
"""Rooms that are looked at."""
TOPIC: Final = "rooms"
AGAIN: Final = "dispatch it again: the server does not; worker.reconcile.enabled has the worker do it by itself"


@dataclass(frozen=True, slots=True)
class Open:
    """A room, what is dispatched to it, and who is there."""

    room: RoomSeen
    dispatches: Sequence[DispatchSeen]
    people: Sequence[PersonSeen]


async def examine_rooms(settings: Settings, *, only: str = "", skew: float = 0.0) -> list[Finding]:
    """All rooms of the server, or ``only`` this one. ``skew``: seconds that our clock is ahead of the server's."""
    async with ServerApi(settings.server) as api:
        try:
            rooms = [room for room in await api.rooms([only] if only else []) if not room.name.startswith(PREFIX)]
            seen = [Open(room, await api.dispatches(room.name), await api.people(room.name)) for room in rooms[:MOST]]
        except ServerError as error:
            mend = "the key needs no rights of its own: see what is said of credentials and of the server"
            return [wrong(TOPIC, f"the server does not tell its rooms: {error}", mend=mend)]
    if only and not rooms:
        text = f"there is no room {only}: nobody has joined or created it, or it has been closed"
        return [wrong(TOPIC, text, mend="join it, or create a dispatch for it, which makes the room")]
    names = {agent.name: "room" in agent.job_types for agent in settings.agents}
    found = [finding for one in seen for finding in judge(one, names, now=wall() - skew)]
    if len(rooms) > MOST:
        found.append(note(TOPIC, f"{MOST} of {len(rooms)} rooms were looked at", mend="name one: --room"))
    return found or [right(TOPIC, f"{len(rooms)} open, and nothing is amiss in them" if rooms else "none is open")]


def judge(open_room: Open, names: Mapping[str, bool], *, now: float) -> list[Finding]:
    """What is amiss in a room. ``names``: of the agents here, and whether they come at once. ``now``: the server's."""
    room = open_room.room
    found = [
        finding
        for dispatch in open_room.dispatches
        if now - dispatch.created > LOST_AFTER and (finding := _judge_dispatch(dispatch, open_room, names, now=now))
    ]
    asked = any(dispatch.agent_name or "" in names for dispatch in open_room.dispatches)
    if not asked and room.people and not _agents(open_room):
        text = f"room {room.name} has {room.people} in it, and asks for no agent"
        mend = (
            "create a dispatch for it, or ask for the agent in the token's room configuration: that counts only in the "
            "token of the join that creates the room"
        )
        found.append(note(TOPIC, text, mend=mend))
    return found


def _agents(open_room: Open) -> list[PersonSeen]:
    return [person for person in open_room.people if person.is_agent]


def _judge_dispatch(dispatch: DispatchSeen, there: Open, names: Mapping[str, bool], *, now: float) -> Finding | None:
    """One that is old enough to have been answered."""
    name = dispatch.agent_name
    if name not in names:
        # The server makes one without a name for each room, whether or not there is such a worker.
        return _unknown(dispatch, names) if name and not dispatch.jobs else None
    if not dispatch.jobs:
        return _lost(dispatch, now=now) if names[name] else None
    if not _agents(there):
        text = f"room {dispatch.room}: a worker has taken {shown(name)}'s job, but no agent is in the room"
        return wrong(TOPIC, text, mend=f"look for this room and for {dispatch.id} in the workers' logs")
    return None


def _lost(dispatch: DispatchSeen, *, now: float) -> Finding:
    text = (
        f"room {dispatch.room}: its dispatch of {shown(dispatch.agent_name)}, {now - dispatch.created:.0f} s old, is "
        "lost: no worker was there, all refused, or one did not answer"
    )
    return wrong(TOPIC, text, mend=AGAIN)


def _unknown(dispatch: DispatchSeen, names: Iterable[str]) -> Finding:
    hint = suggestion(dispatch.agent_name, [name for name in names if name])
    known = ", ".join(shown(name) for name in names)
    text = f"room {dispatch.room} asks for {dispatch.agent_name}, whom no worker has taken; here is {known}{hint}"
    mend = "correct the name in the dispatch (or in the token's room configuration), or start that agent's worker"
    return wrong(TOPIC, text, mend=mend) if hint else note(TOPIC, text, mend=mend)
