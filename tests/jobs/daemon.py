"""A daemon that starts one job and is then killed: run by the tests as ``python -m tests.jobs.daemon RUN_DIR FD``.

It writes the pids of the job, of a warm process and of the fork server to the file descriptor.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from tests.jobs.greenrooms import GreenRoom, job


async def main(run_dir: Path, fd: int) -> None:
    room = GreenRoom(run_dir)
    await room.pool.start()
    await room.warm()
    process = await room.started(job())
    await room.warm()
    (spare,) = [one for one in room.processes if one is not process]
    os.write(fd, f"{process.pid} {spare.pid} {room.pool.fork_server_pid}".encode())
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
