"""What the processes of these tests do: the agent's name says how it boots, the job's metadata how it runs."""

from __future__ import annotations

import asyncio
import ctypes
import faulthandler
import os
import signal
import sys
import threading
import time
from pathlib import Path

from greenroom.errors import SettingsError
from greenroom.jobs.control import JobControl
from greenroom.jobs.ipc import Considered, JobInfo, Measured, RoomChanged
from greenroom.settings import Settings


class Runner:
    ballast = bytearray()
    considers = False

    def boot(self, settings: bytes, agent: str) -> None:
        self.settings = Settings.decode(settings)
        match agent:
            case "broken":
                raise SettingsError("no such class", file="agents.py", line=3, key="agent")
            case "buggy":
                raise ZeroDivisionError("a\n  bug")
            case "exiting":
                sys.exit("an import that exits")
            case "dying":
                os.kill(os.getpid(), signal.SIGKILL)
            case "hanging":
                self._hang()
            case "mended" if not Path(self.settings.worker.state_dir, "mended").exists():
                raise RuntimeError("not mended")
            case "picky":
                self.considers = True
            case "looping":
                # Boot runs outside any loop, so the agent's code may use one of its own.
                asyncio.run(asyncio.sleep(0))

    def consider(self, job: JobInfo) -> Considered:
        match job.metadata:
            case "buggy":
                raise ZeroDivisionError("a bug")
            case "hangs":
                self._hang()
            case "slow":
                time.sleep(0.6)
        accepted = job.metadata != "unwanted"
        return Considered(job.id, accepted, "" if accepted else "not today", identity=job.metadata)

    async def run(self, job: JobInfo, control: JobControl) -> None:
        if job.metadata == "never joins":
            await control.end_asked.wait()
            return
        if job.metadata == "stays out":
            raise ConnectionError("the room is locked")
        control.joined(journal=job.attributes.get("journal", ""))
        attempt = 1 if job.resume is None else job.resume.attempt
        if attempt <= int(job.attributes.get("crashes", 0)):
            os.kill(os.getpid(), signal.SIGKILL)
        if job.resume is not None and job.resume.farewell:
            await control.leaving("farewell", error="given up")
            return
        match job.metadata:
            case "short":
                pass
            case "raises":
                raise ValueError("the agent's bug")
            case "exits":
                sys.exit(3)
            case "crashes":
                ctypes.string_at(0)
            case "hangs":
                self._hang()
            case "stubborn":
                await self._ignore_cancel()
            case "cancellable":
                await asyncio.Event().wait()
            case "fat":
                self.ballast = bytearray(os.urandom(1 << 20) * 96)
                await control.end_asked.wait()
            case "leaves tasks":
                self.task = asyncio.create_task(self._ignore_cancel())
                self.thread = threading.Thread(target=time.sleep, args=(3600,))
                self.thread.start()
            case "wraps up":
                said: asyncio.Queue[tuple[float, bool]] = asyncio.Queue()
                control.on_wrap_up(lambda seconds, last: said.put_nowait((seconds, last)))
                while not (await said.get())[1]:
                    control.say(RoomChanged("connected", sid="told"))
            case "away":
                control.say(RoomChanged("rejoining"))
                await control.end_asked.wait()
            case "measures":
                control.say(Measured(counted=(("turns", (("kind", "x"),), 2.0),)))
                await control.end_asked.wait()
            case "reports":
                await asyncio.to_thread(Path(job.attributes["to"]).write_text, self._facts())
                await control.end_asked.wait()
            case _:
                await control.end_asked.wait()
                await control.leaving(control.end_asked.reason)

    async def _ignore_cancel(self) -> None:
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                continue

    def _hang(self) -> None:
        time.sleep(3600)

    def _facts(self) -> str:
        # Beside the standard ones.
        files = [
            os.readlink(path) for path in Path("/proc/self/fd").iterdir() if int(path.name) > 2 and path.is_symlink()
        ]
        facts = {
            "session": os.getsid(0) == os.getpid(),
            "threads": len(os.listdir("/proc/self/task")),
            "files": sorted(file for file in files if not file.startswith("/proc")),
            "oom": Path("/proc/self/oom_score_adj").read_text().strip(),
            "name": Path("/proc/self/comm").read_text().strip(),
            "faulthandler": faulthandler.is_enabled(),
            "sigterm_ignored": signal.getsignal(signal.SIGTERM) == signal.SIG_IGN,
            "openblas": os.environ["OPENBLAS_NUM_THREADS"],
        }
        return repr(facts)
