"""Makes a test of a recorded call: the journal beside it, and the same decisions asserted."""

from __future__ import annotations

import re
from pathlib import Path

from greenroom.errors import GreenroomError
from greenroom.journal.file import SUFFIX
from greenroom.journal.format import Encoder, summary
from greenroom.journal.reader import Journal
from greenroom.journal.replay import replay

__all__ = ["default_name", "write_test"]

TEMPLATE = '''"""What was decided in the call of {started} is decided still. Written by ``greenroom journal test``."""

from __future__ import annotations

from pathlib import Path

from greenroom.journal.reader import read
from greenroom.journal.replay import compare


def {name}() -> None:
    difference = compare(read(Path(__file__).with_suffix("{suffix}")))
    assert difference is None, str(difference)
'''


def default_name(journal: Journal) -> str:
    """``test_call_AJ_x.py``."""
    return f"test_call_{re.sub(r'[^A-Za-z0-9_]', '_', journal.header.job)}.py"


def write_test(journal: Journal, file: Path, *, today: bool = False) -> Path:
    """Write the test to ``file``, and beside it the journal, whose path is returned.

    ``today``: what is asserted is what today's code decides, not what was decided in the call. Raises
    ``GreenroomError`` when the test cannot be one or cannot be written; nothing that is there is written over.
    """
    name = re.sub(r"\W", "_", file.stem)
    if file.suffix != ".py" or not name.startswith("test_"):
        raise GreenroomError(f"{file}: pytest would not find it; expected a name like test_call.py")
    beside = file.with_suffix(SUFFIX)
    text = TEMPLATE.format(started=journal.header.started, name=name, suffix=SUFFIX)
    for taken in (file, beside):
        if taken.exists():
            raise GreenroomError(f"{taken}: is there already; expected a new name: --out FILE")
    try:
        with beside.open("xb") as copy:
            copy.write(_decided_today(journal) if today else journal.path.read_bytes())
        with file.open("x", encoding="utf-8") as test:
            test.write(text)
    except OSError as error:
        raise GreenroomError(f"{error.filename or file}: cannot be written ({error.strerror})") from error
    return beside


def _decided_today(journal: Journal) -> bytes:
    """The journal with the decisions of today's code."""
    encoder = Encoder()
    steps = replay(journal)
    lines = [encoder.header(journal.header)]
    for record in journal.records:
        if (note := record.note) is not None:
            lines.append(encoder.note(note, record.now))
            continue
        step = next(steps)
        if step.error:
            raise GreenroomError(f"{journal.path}:{step.line}: today's code fails here ({step.error})")
        lines.append(encoder.event(step.event, step.now, summary(step.commands)))
    if journal.ending is not None:
        lines.append(encoder.ending(journal.ending))
    return b"".join(lines)
