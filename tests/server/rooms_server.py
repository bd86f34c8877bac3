"""The media server's HTTP API in this process, with faults on request: for what the real one cannot be made to do.

It keeps rooms, who is in them, and dispatches, and answers as the real server was seen to, where ``ServerApi`` asks.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from aiohttp import web
from google.protobuf.message import Message
from livekit.protocol import agent, agent_dispatch, models, room

from greenroom.settings import ServerSettings

__all__ = ["RoomKept", "RoomsServer"]


@dataclass(slots=True)
class RoomKept:
    """One room: ``people`` are identities, agents' begin with ``agent-``."""

    name: str
    people: dict[str, str] = field(default_factory=dict)
    dispatches: dict[str, agent_dispatch.AgentDispatch] = field(default_factory=dict)


class RoomsServer:
    """``calls`` lists the methods that were asked for. ``fault``: asked with each of them, may answer in our place.

    A fault is put after or before the work: ``before`` it nothing is done, ``after`` it is done and not told.
    """

    def __init__(self) -> None:
        self.rooms: dict[str, RoomKept] = {}
        self.calls: list[str] = []
        self.before: Callable[[str], web.Response | None] = lambda method: None
        self.after: Callable[[str], web.Response | None] = lambda method: None
        self._asked = asyncio.Condition()
        self._numbers = itertools.count(1)
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_post("/twirp/{service}/{method}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def settings(self) -> ServerSettings:
        if self._runner is None:
            raise RuntimeError("not started")
        url = f"ws://127.0.0.1:{self._runner.addresses[0][1]}"
        return ServerSettings(url=url, api_key="devkey", api_secret="s" * 32)

    def room(self, name: str, **people: str) -> RoomKept:
        """A room that is there, with these people in it: ``ann="PA_1"``."""
        return self.rooms.setdefault(name, RoomKept(name, dict(people)))

    async def asked(self, method: str, times: int) -> None:
        """Wait until this method was asked for so many more times."""
        before = self.calls.count(method)
        async with self._asked:
            await self._asked.wait_for(lambda: self.calls.count(method) >= before + times)

    def dispatch(self, name: str, *, age: float = 0.0, jobs: int = 0, **fields: Any) -> str:
        """A dispatch for ``reception`` that is ``age`` seconds old."""
        dispatch = agent_dispatch.AgentDispatch(**{"agent_name": "reception", **fields}, room=name)
        dispatch.id = f"AD_{next(self._numbers)}"
        dispatch.state.created_at = int((time.time() - age) * 1e9)
        dispatch.state.jobs.extend(agent.Job(id=f"AJ_{dispatch.id}_{number}") for number in range(jobs))
        self.room(name).dispatches[dispatch.id] = dispatch
        return dispatch.id

    async def _answer(self, request: web.Request) -> web.Response:
        method = request.match_info["method"]
        self.calls.append(method)
        async with self._asked:
            self._asked.notify_all()
        if (fault := self.before(method)) is not None:
            return fault
        answer = getattr(self, f"_{method}")(await request.read())
        if (fault := self.after(method)) is not None:
            return fault
        if isinstance(answer, int):
            return web.json_response({"code": "fault", "msg": "no"}, status=answer)
        return web.Response(body=answer.SerializeToString(), content_type="application/protobuf")

    def _ListRooms(self, data: bytes) -> Message:  # noqa: N802
        names = room.ListRoomsRequest.FromString(data).names
        kept = [each for each in self.rooms.values() if not names or each.name in names]
        return room.ListRoomsResponse(
            rooms=[
                models.Room(
                    name=each.name,
                    sid=f"RM_{each.name}",
                    num_participants=sum(not identity.startswith("agent-") for identity in each.people),
                )
                for each in kept
            ]
        )

    def _ListParticipants(self, data: bytes) -> Message:  # noqa: N802
        kept = self.rooms.get(room.ListParticipantsRequest.FromString(data).room)
        return room.ListParticipantsResponse(
            participants=[
                models.ParticipantInfo(
                    identity=identity,
                    sid=sid,
                    kind=models.ParticipantInfo.Kind.AGENT if identity.startswith("agent-") else None,
                    attributes={"lk.agent_name": "reception"} if identity.startswith("agent-") else {},
                )
                for identity, sid in (kept.people.items() if kept is not None else ())
            ]
        )

    def _ListDispatch(self, data: bytes) -> Message | int:  # noqa: N802
        kept = self.rooms.get(agent_dispatch.ListAgentDispatchRequest.FromString(data).room)
        if kept is None:
            return 503
        return agent_dispatch.ListAgentDispatchResponse(agent_dispatches=kept.dispatches.values())

    def _CreateDispatch(self, data: bytes) -> Message:  # noqa: N802
        asked = agent_dispatch.CreateAgentDispatchRequest.FromString(data)
        made = self.dispatch(
            asked.room,
            agent_name=asked.agent_name,
            metadata=asked.metadata,
            deployment=asked.deployment,
            attributes=asked.attributes,
            restart_policy=asked.restart_policy,
        )
        return self.rooms[asked.room].dispatches[made]

    def _DeleteDispatch(self, data: bytes) -> Message | int:  # noqa: N802
        asked = agent_dispatch.DeleteAgentDispatchRequest.FromString(data)
        kept = self.rooms.get(asked.room)
        if kept is None:
            return 503
        return kept.dispatches.pop(asked.dispatch_id, None) or 404
