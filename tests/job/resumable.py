"""Agents whose process is killed, and that process: ``python -m tests.job.resumable`` holds a call until it is.

Their voice speaks in noise that both ends know: each word is half a second of it, so that a recording tells which words
were heard, and when.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

import msgspec

from greenroom import Agent, ChatContext, FunctionCallOutput, Message, function_tool, get_job_context
from greenroom.audio import AudioFrame, Pcm
from greenroom.job.runner import Runner
from greenroom.jobs.control import JobControl
from greenroom.jobs.ipc import ChildMessage, JobInfo, Joined
from greenroom.providers import LLM, LLMChunk, SentenceTTS, TextDelta, ToolCall, ToolChoice, ToolSchema
from greenroom.session.resume import Resumed
from greenroom.settings import (
    AgentSettings,
    ProviderSettings,
    RecoverySettings,
    ServerSettings,
    Settings,
    WorkerSettings,
)
from tests.e2e.speaking import RATE, signature

__all__ = ["STORY", "TOOL_LOG", "WORD", "KilledJob", "NoiseTTS", "Teller", "settings_of", "sound_of"]

WORD = 0.5
"""Seconds of sound for each word."""
STORY = " ".join(f"w{number:02}" for number in range(16)) + "."
TOOL_LOG = "tool.log"


def sound_of(number: int) -> Pcm:
    """The word ``w<number>``."""
    size = round(WORD * RATE)
    return signature()[number * size : (number + 1) * size]


class NoiseTTS(SentenceTTS):
    """Says ``w07`` as the eighth half second of the noise, any other word as the last one. Labels sentences."""

    sample_rate = RATE

    async def speak(self, sentence: str) -> AsyncGenerator[AudioFrame, None]:
        for word in sentence.split():
            number = word.strip(".,w")
            yield AudioFrame(sound_of(int(number) if number.isdigit() else 17), RATE)
            await asyncio.sleep(0)


class Answering(LLM):
    """Calls ``look_up`` for a question, once; says what it brought."""

    async def chat(
        self, context: ChatContext, *, tools: Sequence[ToolSchema] = (), tool_choice: ToolChoice = "auto"
    ) -> AsyncGenerator[LLMChunk, None]:
        last = context.items[-1] if len(context) else None
        if isinstance(last, FunctionCallOutput):
            yield TextDelta("w03 w04." if not last.is_error else "w05 w06.")
        elif isinstance(last, Message) and last.role == "user":
            yield ToolCall("call_1", "look_up", "{}")
        else:
            yield TextDelta("w09 w10.")


class Teller(Agent):
    """Tells a story when it enters; told "well", it looks something up, which takes its time."""

    resumed: Resumed | None = None
    last: Teller | None = None

    def __init__(self) -> None:
        super().__init__(instructions="Tell stories.", tts=NoiseTTS(), llm=Answering())
        Teller.last = self

    async def on_enter(self) -> None:
        self.session.say(STORY)

    async def on_resume(self, resumed: Resumed) -> None:
        Teller.resumed = resumed
        await super().on_resume(resumed)

    @function_tool
    async def look_up(self) -> str:
        """Look it up."""
        log = Path(get_job_context().job.metadata)
        with log.open("a") as file:  # noqa: ASYNC230  # one line
            file.write("begun\n")
        await asyncio.sleep(2.0)
        return "found"


class Silent(Teller):
    """Says nothing by itself."""

    async def on_enter(self) -> None:
        pass


class Brief(Teller):
    """Says one word."""

    async def on_enter(self) -> None:
        self.session.say("w01.")


class Greeter(Agent):
    """Hands the conversation to another one."""

    def __init__(self) -> None:
        super().__init__(tts=NoiseTTS())

    async def on_enter(self) -> None:
        await self.session.say("w01.")
        self.session.update_agent(Teller())


def settings_of(
    server: ServerSettings, folder: Path, agent: str, recovery: RecoverySettings, tts: ProviderSettings | None = None
) -> Settings:
    return Settings(
        server=server,
        agents=(AgentSettings(agent=f"tests.job.resumable:{agent}", recovery=recovery, tts=tts),),
        worker=WorkerSettings(state_dir=str(folder)),
        file=str(folder / "agents.yaml"),
    )


class _Order(msgspec.Struct):
    """What the process is to do."""

    server: ServerSettings
    job: JobInfo
    folder: str
    agent: str


class KilledJob:
    """A job in a process of its own. ``journal``: where it writes."""

    def __init__(self, server: ServerSettings, job: JobInfo, folder: Path, agent: str) -> None:
        self._order = msgspec.json.encode(_Order(server, job, str(folder), agent))
        self._process: asyncio.subprocess.Process | None = None
        self.journal = ""

    async def start(self) -> None:
        """Returns when the conversation has begun."""
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.job.resumable", stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.DEVNULL
        )
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("a process without pipes")
        self._process.stdin.write(self._order)
        self._process.stdin.close()
        async for line in self._process.stdout:
            if line.startswith(b"journal "):
                self.journal = line.decode().split(maxsplit=1)[1].strip()
                return
        raise RuntimeError("the job ended before it began")

    async def kill(self) -> float:
        """SIGKILL; when, on the loop's clock."""
        if self._process is None:
            raise RuntimeError("the job has not been started")
        now = asyncio.get_running_loop().time()
        self._process.kill()
        await self._process.communicate()
        return now


def _say(message: ChildMessage) -> None:
    if isinstance(message, Joined) and message.journal:
        sys.stdout.write(f"journal {message.journal}\n")
        sys.stdout.flush()


def main() -> None:
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=_Order)
    runner = Runner()
    settings = settings_of(order.server, Path(order.folder), order.agent, RecoverySettings())
    runner.boot(settings.encode(), "")

    async def run() -> None:
        await runner.run(order.job, JobControl(_say))

    asyncio.run(run())


if __name__ == "__main__":
    main()
