"""``docs/states.md`` shows the tables that the machines run on."""

from __future__ import annotations

from pathlib import Path

from tests.states import page


def test_the_page_is_current() -> None:
    written = (Path(__file__).parents[1] / "docs" / "states.md").read_text(encoding="utf-8")
    assert written == page(), "run `make states`"
