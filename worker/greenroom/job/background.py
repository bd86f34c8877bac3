"""An agent's ``background`` in the YAML as the player takes it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from greenroom.background.clips import BuiltinAudioClip
from greenroom.background.config import AudioConfig
from greenroom.background.mixer import Ducking
from greenroom.background.player import BackgroundAudioPlayer
from greenroom.errors import SettingsError
from greenroom.room.room import AgentRoom, JoinFailed, RoomEnded
from greenroom.settings import CLIPS, AgentSettings, SoundSettings

if TYPE_CHECKING:
    from greenroom.session.session import AgentSession

__all__ = ["behind", "build_background"]

log = structlog.get_logger(__name__)


def build_background(settings: AgentSettings, *, beside: str) -> BackgroundAudioPlayer | None:
    """A player with its sounds loaded, so that a call waits for none; ``None`` where the YAML names no sound. Blocks.

    ``beside``: the settings file, in whose folder files are looked up. Raises ``SettingsError`` for one that is not
    there, or cannot be decoded.
    """
    background, folder = settings.background, Path(beside).parent
    if not (background.ambient or background.thinking):
        return None
    player = BackgroundAudioPlayer(
        ambient_sound=_configs(background.ambient, folder),
        thinking_sound=_configs(background.thinking, folder),
        ducking=Ducking(to=background.duck.to, attack=background.duck.attack, release=background.duck.release),
        track=background.track,
    )
    try:
        player.load()
    except ValueError as error:
        raise SettingsError(str(error), file=beside, key="background") from None
    return player


@asynccontextmanager
async def behind(session: AgentSession, room: AgentRoom, player: BackgroundAudioPlayer | None) -> AsyncIterator[None]:
    """For the length of a conversation, which waits for nothing here. The room closes the player when it is left."""
    starting = asyncio.get_running_loop().create_task(_start(player, room, session), name="start the background")
    try:
        yield
    finally:
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)


async def _start(player: BackgroundAudioPlayer | None, room: AgentRoom, session: AgentSession) -> None:
    """Without the sounds the call goes on too."""
    if player is None:
        return
    try:
        await player.start(room=room, agent_session=session)
    except RoomEnded:
        return
    except JoinFailed as error:
        log.warning("no background audio", error=str(error))


def _configs(sounds: Sequence[SoundSettings], folder: Path) -> list[AudioConfig]:
    return [
        AudioConfig(
            BuiltinAudioClip(sound.source) if sound.source in CLIPS else folder / Path(sound.source).expanduser(),
            volume=sound.volume,
            probability=sound.probability,
            fade_in=sound.fade_in,
            fade_out=sound.fade_out,
        )
        for sound in sounds
    ]
