from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import pytest

import tests
from greenroom.settings import Settings
from tests.jobs.greenrooms import GreenRoom

Open: TypeAlias = Callable[..., Awaitable[GreenRoom]]


@pytest.fixture
def run_dir() -> Iterator[Path]:
    # pytest's own directory may be too deep for a unix socket's path.
    with TemporaryDirectory(prefix="gr-") as name:
        yield Path(name, "run")


@pytest.fixture
async def open_room(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Open]:
    """Opens pools that are closed after the test, with all their processes."""
    monkeypatch.setenv("PYTHONPATH", str(Path(tests.__file__).parent.parent))
    monkeypatch.setattr("greenroom.jobs.breaker.FIRST_RETRY", 0.05)
    opened: list[GreenRoom] = []

    async def open_one(what: Settings | None = None, **options: Any) -> GreenRoom:
        room = GreenRoom(run_dir, what, **options)
        await room.pool.start()
        opened.append(room)
        return room

    yield open_one
    for room in opened:
        await room.pool.aclose()
        assert not room.processes
