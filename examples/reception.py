"""A receptionist in Python: instructions, a greeting and a tool.

agents:
  - name: reception
    agent: reception:Reception
    vad: {plugin: silero}
    stt: {plugin: whisper}
    llm: {plugin: script, rules: [{when: "table for (\\w+)", call: {tool: book_table, arguments: {people: "{1}"}}}]}
    tts: {plugin: piper}
"""

from __future__ import annotations

from greenroom import Agent, RunContext, ToolError, function_tool

NUMBERS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6}


class Reception(Agent):
    """Answers the phone of a small restaurant."""

    def __init__(self) -> None:
        super().__init__(instructions="You answer the phone of a small restaurant. Be brief and friendly.")
        self.tables: list[int] = []

    async def on_enter(self) -> None:
        self.session.say("Good evening, this is the Greenroom restaurant. How can I help you?")

    @function_tool
    async def book_table(self, context: RunContext, people: str) -> str:
        """Book a table for tonight.

        Args:
            people: how many guests, as a number or a word
        """
        count = int(people) if people.isdigit() else NUMBERS.get(people.lower(), 0)
        if not 1 <= count <= 6:
            raise ToolError("We have tables for one to six guests.")
        self.tables.append(count)
        return f"A table for {count} is booked."
