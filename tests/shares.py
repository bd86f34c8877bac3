"""Who runs which tests, where several processes share them (``pytest -n 2``).

A test that holds a whole call (a worker, models, a caller or a browser, in real time) takes about a processor while it
lasts. Those are all for one process, so that no two of them are ever held at once; the other processes take the rest,
file by file. That one's share is the longest, so it comes first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xdist.scheduler import LoadScopeScheduling

if TYPE_CHECKING:
    import pytest

__all__ = ["CALLS", "Shares", "holds_calls"]

CALLS = (
    "tests/bench",
    "tests/deploy",
    "tests/doctor",
    "tests/e2e",
    "tests/embedded",
    "tests/faults",
    "tests/instant",
    "tests/models/test_calls_e2e.py",
    "tests/ops",
    "tests/plugins/openai/test_calls.py",
    "tests/soak",
)
"""Where calls are held. What only opens rooms on a media server (``tests/room``) is quiet enough for company."""


def holds_calls(nodeid: str) -> bool:
    return any(nodeid.startswith((f"{place}/", f"{place}::")) for place in CALLS)


class Shares(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    def __init__(self, config: pytest.Config, log: object = None) -> None:
        config.option.loadscopereorder = False  # by the number of tests, which says nothing about how long they take
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return "calls" if holds_calls(nodeid) else nodeid.partition("::")[0]
