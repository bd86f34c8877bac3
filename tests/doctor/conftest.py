"""What the process learns to hide in one test, it forgets before the next."""

from __future__ import annotations

import pytest

from greenroom import redaction


@pytest.fixture(autouse=True)
def nothing_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "_hidden", set())
    monkeypatch.setattr(redaction, "_hidden_pattern", None)
