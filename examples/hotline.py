"""An agent that hangs up: it lets its last sentence be heard, then ends the call for everybody in it.

agents:
  - name: hotline
    agent: hotline:Hotline
    vad: {plugin: silero}
    stt: {plugin: whisper}
    llm: {plugin: script, rules: [{when: bye, say: "Thank you for calling. Goodbye!", call: {tool: end_call}}]}
    tts: {plugin: piper}
"""

from __future__ import annotations

from greenroom import Agent, RunContext, function_tool, get_job_context


class Hotline(Agent):
    """Answers, and knows when a call is over."""

    def __init__(self) -> None:
        super().__init__(instructions="You answer a hotline. When the user says goodbye, say goodbye and end the call.")

    async def on_enter(self) -> None:
        self.session.say("Hello, what can I do for you?")

    # to hang up the call as part of a function call
    @function_tool
    async def end_call(self, ctx: RunContext) -> None:
        """Use this tool when the user has signaled they wish to end the current call. The session ends automatically
        after invoking this tool."""
        await ctx.wait_for_playout()  # let the agent finish speaking
        await get_job_context().delete_room()
