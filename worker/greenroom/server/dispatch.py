"""What a caller needs from the media server: a token to join a room with, and an agent to talk to there."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from livekit.api.access_token import AccessToken, VideoGrants
from livekit.protocol.agent_dispatch import RoomAgentDispatch
from livekit.protocol.room import RoomConfiguration

from greenroom.server.api import ServerApi
from greenroom.server.sightings import DispatchSeen
from greenroom.settings import ServerSettings

__all__ = ["create_dispatch", "mint_user_token"]


def mint_user_token(
    settings: ServerSettings,
    *,
    room: str,
    identity: str,
    agent_name: str | None = None,
    metadata: str = "",
    name: str = "",
    attributes: Mapping[str, str] | None = None,
    life: timedelta = timedelta(hours=1),
) -> str:
    """A token for a person to join ``room`` as ``identity``: to speak, to listen, to send and receive data.

    With ``agent_name`` the token also asks for that agent, and ``metadata`` reaches its job. The server heeds this
    only when the join *creates* the room; for a room that exists already, use ``create_dispatch``.
    """
    grants = VideoGrants(room_join=True, room=room)
    token = AccessToken(settings.api_key, settings.api_secret).with_identity(identity).with_name(name)
    token = token.with_attributes(dict(attributes or {})).with_ttl(life).with_grants(grants)
    if agent_name is not None:
        agent = RoomAgentDispatch(agent_name=agent_name, metadata=metadata)
        token = token.with_room_config(RoomConfiguration(agents=[agent]))
    return token.to_jwt()


async def create_dispatch(settings: ServerSettings, *, room: str, agent_name: str, metadata: str = "") -> str:
    """Ask for an agent in ``room``, which is created if need be; return the dispatch's id.

    Each call asks for one more agent: the server does not merge equal dispatches. It takes the request whether or not
    a worker is there, and does not keep it for one that comes later. Raises ``Rejected`` when the credentials are
    refused, ``LinkLost`` when the server cannot be reached, ``ServerError`` for what else it answers.
    """
    async with ServerApi(settings) as api:
        return await api.create_dispatch(DispatchSeen(id="", agent_name=agent_name, room=room, metadata=metadata))
