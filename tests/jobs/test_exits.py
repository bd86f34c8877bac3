from __future__ import annotations

import signal

import pytest

from greenroom.jobs.exits import Exit, describe


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (0, "OK"),
        (Exit.BOOT_FAILED, "BOOT_FAILED"),
        (7, "exit code 7"),
        (-signal.SIGKILL, "SIGKILL"),
        (-63, "signal 63"),
        (None, "unknown"),
    ],
)
def test_names(code: int | None, name: str) -> None:
    assert describe(code) == name


def test_codes_leave_room_for_others() -> None:
    assert all(code == 0 or 64 <= code < 126 for code in Exit)
