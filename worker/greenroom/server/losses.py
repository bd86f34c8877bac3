"""Which dispatches the server has lost: nobody will ever be asked to serve them, and somebody waits. Pure.

The server offers a dispatch when it is made, and never again: not when no worker is there, nor when the worker that it
drew does not answer. What it lists of such a dispatch has no job, for ever. One that is about to be served looks alike
for about eight seconds, so age decides. Rules:

- Lost is a dispatch of one of our agents without a job, older than ``after``, in a room with somebody to talk with.
- Its age counts from when it was first seen; by the server's clock it may be older, where that clock is known.
- Where there are as many agents of the name as dispatches for it, nothing is missing: a job that came back after its
  server was restarted serves a dispatch that knows nothing of it.
- A dispatch for a deployment that is none of ours is not ours to mend; one that another worker made again is.
- The more dispatches for one agent in one room were lost, the longer the next may take: up to ``after`` times 32.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from typing import Final

from greenroom.server.sightings import DispatchSeen, PersonSeen

__all__ = ["DEPLOYMENT", "Losses", "waiting"]

DEPLOYMENT: Final = "greenroom-"
"""How the deployment begins by which one worker makes a dispatch again for itself."""

_MOST_DOUBLINGS: Final = 5


def waiting(dispatches: Iterable[DispatchSeen], *, agents: Collection[str]) -> list[DispatchSeen]:
    """Those for one of our agents that have no job."""
    return [
        each
        for each in dispatches
        if not each.jobs
        and each.agent_name in agents
        and (not each.deployment or each.deployment.startswith(DEPLOYMENT))
    ]


class Losses:
    """What was seen of dispatches without a job. ``after``: seconds until one counts as lost."""

    def __init__(self, after: float) -> None:
        self._after = after
        self._since: dict[str, float] = {}
        self._lost: dict[tuple[str, str], set[str]] = {}

    def lost(
        self,
        dispatches: Collection[DispatchSeen],
        people: Collection[PersonSeen],
        *,
        agents: Collection[str],
        now: float,
        server_time: float | None,
    ) -> list[DispatchSeen]:
        """Which of one room's dispatches are lost. ``server_time``: now, by the server's clock."""
        overdue = [
            each
            for each in waiting(dispatches, agents=agents)
            if self.due(each, now=now, server_time=server_time) <= now
        ]
        if all(person.is_agent for person in people):
            return []
        missing = Counter(each.agent_name for each in dispatches)
        for person in people:
            # An agent that does not say its name may be any.
            names = ([person.agent_name] if person.agent_name else list(missing)) if person.is_agent else []
            missing.subtract(names)
        lost = []
        for each in sorted(overdue, key=lambda one: (one.created, one.id)):
            if missing[each.agent_name] > 0:
                missing[each.agent_name] -= 1
                self._lost.setdefault((each.room, each.agent_name), set()).add(each.id)
                lost.append(each)
        return lost

    def due(self, dispatch: DispatchSeen, *, now: float, server_time: float | None) -> float:
        """When this one, which has no job, will be lost, or was."""
        since = self._since.setdefault(dispatch.id, now)
        if server_time is not None and dispatch.created > 0:
            since = min(since, now - (server_time - dispatch.created))
        before = self._lost.get((dispatch.room, dispatch.agent_name), set()) - {dispatch.id}
        return since + self._after * (1 << min(len(before), _MOST_DOUBLINGS))

    def keep(self, dispatches: Collection[str], *, rooms: Collection[str]) -> None:
        """Forget what is no more: all dispatches but these, all rooms but these."""
        self._since = {each: since for each, since in self._since.items() if each in dispatches}
        self._lost = {place: lost for place, lost in self._lost.items() if place[0] in rooms}
