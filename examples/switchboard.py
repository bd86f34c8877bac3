"""A switchboard: an office behind its voice, keys while it thinks, and music while somebody is on hold.

agents:
  - name: switchboard
    agent: switchboard:Switchboard
    vad: {plugin: silero}
    stt: {plugin: whisper}
    llm: {plugin: script, rules: [{when: bookings, call: {tool: connect, arguments: {department: bookings}}}]}
    tts: {plugin: piper}
"""

from __future__ import annotations

import asyncio

from greenroom import Agent, AudioConfig, BackgroundAudioPlayer, BuiltinAudioClip, function_tool, get_job_context


class Switchboard(Agent):
    """Answers, and puts people through."""

    def __init__(self) -> None:
        super().__init__(instructions="You are the switchboard of a travel agency. Put callers through.")
        self.background = BackgroundAudioPlayer(
            ambient_sound=AudioConfig(BuiltinAudioClip.OFFICE_AMBIENCE, volume=0.6),
            thinking_sound=[
                AudioConfig(BuiltinAudioClip.KEYBOARD_TYPING, volume=0.8, probability=0.7),
                AudioConfig(BuiltinAudioClip.KEYBOARD_TYPING2, volume=0.7, probability=0.3),
            ],
        )

    async def on_enter(self) -> None:
        self.session.say("Blue Door Travel, whom would you like to speak to?")
        await self.background.start(room=get_job_context().room, agent_session=self.session)

    @function_tool
    async def connect(self, department: str) -> str:
        """Put the caller through.

        Args:
            department: whom they would like to speak to
        """
        await self.session.say("One moment, I will see who is free.")
        music = self.background.play(
            AudioConfig(BuiltinAudioClip.HOLD_MUSIC, volume=0.7, fade_in=0.5, fade_out=1.0), loop=True
        )
        try:
            await asyncio.sleep(8)  # somebody picks up, or not
        finally:
            music.stop()
        return f"Nobody in {department} is free at the moment."
