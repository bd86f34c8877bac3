"""greenroom's worker for the benchmark: ``python tests/bench/greenroom_worker.py``, in the environment of the contract.

It becomes ``greenroom start`` with ``worker.yaml``, so that what is measured is what a user runs. Journals and sockets
go to a folder that is gone with the machine's temporary files.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

__all__ = ["main"]

ROOT = Path(__file__).parents[2]
SETTINGS = Path(__file__).with_name("worker.yaml")


def main() -> None:
    os.chdir(ROOT)  # where the agent's module is looked up
    if "BENCH_STATE" not in os.environ:
        os.environ["BENCH_STATE"] = tempfile.mkdtemp(prefix="greenroom-bench-")
    os.execv(sys.executable, [sys.executable, "-P", "-m", "greenroom", "start", "-c", str(SETTINGS)])  # noqa: S606  # it is to be this process


if __name__ == "__main__":
    main()
