"""Whatever a test does to this process's logs, the next one finds them as they were."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator

import pytest
import structlog

from greenroom import redaction
from greenroom.ops import logs


@pytest.fixture(autouse=True)
def logs_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    config = structlog.get_config()
    handlers, level = [*logging.root.handlers], logging.root.level
    levels = {name: logging.getLogger(name).level for name in logs.TALKATIVE}
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    monkeypatch.setattr(redaction, "_hidden", set())
    monkeypatch.setattr(redaction, "_hidden_pattern", None)
    yield
    logging.captureWarnings(False)
    logging.root.handlers[:], logging.root.level = handlers, level
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)
    structlog.configure(**config)
