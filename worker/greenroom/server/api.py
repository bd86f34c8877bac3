"""The media server's HTTP API, as far as a worker needs it: which rooms there are, who is in them, what is dispatched.

One session for all requests, each with a limit of time. Nothing that is logged or raised holds a token or a secret.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from types import SimpleNamespace, TracebackType
from typing import Final, Self

import aiohttp
from google.protobuf.message import DecodeError
from livekit.api.livekit_api import LiveKitAPI
from livekit.api.twirp_client import TwirpError
from livekit.protocol import agent_dispatch, models, room

from greenroom.clock import wall
from greenroom.errors import LinkLost, Rejected, ServerError
from greenroom.server.sightings import DispatchSeen, PersonSeen, RoomSeen
from greenroom.settings import ServerSettings
from greenroom.wording import on_one_line

__all__ = ["ServerApi"]

_AGENT_NAME: Final = "lk.agent_name"
"""The attribute in which the server says what name an agent was dispatched by."""
_NOT_FOUND: Final = 404
_REFUSED: Final = (401, 403)
_LONGEST_REASON: Final = 200


class ServerApi:
    """Requests to one server. Made on the running loop; ``timeout`` seconds for each request.

    Every method raises ``Rejected`` when the credentials are refused, ``LinkLost`` when the server cannot be reached or
    does not answer in time, ``ServerError`` for what else it answers.
    """

    def __init__(self, settings: ServerSettings, *, timeout: float = 5.0) -> None:
        self.skew: float | None = None
        """Seconds that the server's clock was ahead of ours when it last answered, up to one too few."""
        trace = aiohttp.TraceConfig()
        trace.on_request_end.append(self._heard)
        self._timeout = timeout
        self._session = aiohttp.ClientSession(trace_configs=[trace])
        # The library's failover would repeat requests, also such as must not be done twice.
        self._api = LiveKitAPI(
            settings.url, settings.api_key, settings.api_secret, session=self._session, failover=False
        )

    async def aclose(self) -> None:
        await self._session.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def rooms(self, names: Sequence[str] = ()) -> list[RoomSeen]:
        """The rooms of these names that exist; all rooms without names."""
        async with self._asking("no list of rooms"):
            listed = await self._api.room.list_rooms(room.ListRoomsRequest(names=names))
        return [RoomSeen(name=each.name, sid=each.sid, people=each.num_participants) for each in listed.rooms]

    async def people(self, room_name: str) -> list[PersonSeen]:
        """Who is in a room, agents too; nobody where there is no such room."""
        async with self._asking("no list of participants"):
            listed = await self._api.room.list_participants(room.ListParticipantsRequest(room=room_name))
        return [_person(each) for each in listed.participants]

    async def dispatches(self, room_name: str) -> list[DispatchSeen]:
        """What is dispatched to a room that exists. For another the server needs 3 seconds, and fails."""
        async with self._asking("no list of dispatches"):
            listed = await self._api.agent_dispatch.list_dispatch(room_name)
        return [_dispatch(each) for each in listed if not each.state.deleted_at]

    async def create_dispatch(self, dispatch: DispatchSeen, *, deployment: str = "") -> str:
        """Ask for an agent as ``dispatch`` does, of workers of this ``deployment``; the new dispatch's id."""
        request = agent_dispatch.CreateAgentDispatchRequest(
            agent_name=dispatch.agent_name,
            room=dispatch.room,
            metadata=dispatch.metadata,
            attributes=dispatch.attributes,
            deployment=deployment,
        )
        # Set by number: the enumeration's type is the generated code's own.
        request.restart_policy = dispatch.restart_policy  # type: ignore[assignment]
        async with self._asking(f"no dispatch of {dispatch.agent_name!r}"):
            created = await self._api.agent_dispatch.create_dispatch(request)
        return created.id

    async def delete_dispatch(self, dispatch_id: str, *, room_name: str) -> bool:
        """Delete a dispatch; the jobs that came of it end. False when there was none: somebody else was first."""
        async with self._asking(f"{dispatch_id} not deleted"):
            try:
                await self._api.agent_dispatch.delete_dispatch(dispatch_id, room_name)
            except TwirpError as error:
                if error.status != _NOT_FOUND:
                    raise
                return False
        return True

    @asynccontextmanager
    async def _asking(self, what: str) -> AsyncIterator[None]:
        """Time for one request; errors of the libraries, and answers that they cannot read, as ours."""
        try:
            # The library's own requests have no limit, whatever the session's is.
            async with asyncio.timeout(self._timeout):
                yield
        except TwirpError as error:
            kind = Rejected if error.status in _REFUSED else ServerError
            raise kind(f"{what}: {_short(error.message)} (HTTP {error.status})") from None
        except TimeoutError:
            raise LinkLost(f"{what}: no answer for {self._timeout:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise LinkLost(f"{what}: {_short(f'{type(error).__name__}: {error}')}") from None
        except (DecodeError, AttributeError, TypeError) as error:
            # Not a LiveKit server's answer: a body that is no message, an error that is no JSON object.
            raise ServerError(f"{what}: the answer was not understood ({type(error).__name__})") from None

    async def _heard(
        self,
        session: aiohttp.ClientSession,
        context: SimpleNamespace,
        ended: aiohttp.TraceRequestEndParams,
    ) -> None:
        try:
            self.skew = parsedate_to_datetime(ended.response.headers["Date"]).timestamp() - wall()
        except (KeyError, ValueError, OverflowError):
            return


def _short(text: object) -> str:
    return on_one_line(str(text))[:_LONGEST_REASON]


def _person(info: models.ParticipantInfo) -> PersonSeen:
    return PersonSeen(
        identity=info.identity,
        sid=info.sid,
        is_agent=info.kind == models.ParticipantInfo.Kind.AGENT,
        agent_name=info.attributes.get(_AGENT_NAME, ""),
    )


def _dispatch(dispatch: agent_dispatch.AgentDispatch) -> DispatchSeen:
    return DispatchSeen(
        id=dispatch.id,
        agent_name=dispatch.agent_name,
        room=dispatch.room,
        jobs=len(dispatch.state.jobs),
        created=dispatch.state.created_at / 1e9,
        deployment=dispatch.deployment,
        restart_policy=int(dispatch.restart_policy),
        metadata=dispatch.metadata,
        attributes=dict(dispatch.attributes),
    )
