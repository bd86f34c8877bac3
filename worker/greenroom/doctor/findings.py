"""What an examination finds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeAlias

import msgspec
from msgspec import Struct

from greenroom.redaction import redact
from greenroom.wording import on_one_line

__all__ = ["Finding", "Verdict", "as_json", "as_text", "note", "right", "wrong"]

Verdict: TypeAlias = Literal["right", "note", "wrong"]
"""As it should be; worth knowing; the reason, or one of them, why a dispatch does not arrive."""


class Finding(Struct, frozen=True, kw_only=True):
    """``topic``: what was looked at, a word. ``text``: what was found. ``mend``: what to do about it."""

    topic: str
    verdict: Verdict
    text: str
    mend: str = ""


def right(topic: str, text: str) -> Finding:
    return Finding(topic=topic, verdict="right", text=text)


def note(topic: str, text: str, *, mend: str = "") -> Finding:
    return Finding(topic=topic, verdict="note", text=text, mend=mend)


def wrong(topic: str, text: str, *, mend: str) -> Finding:
    return Finding(topic=topic, verdict="wrong", text=text, mend=mend)


def as_text(findings: Iterable[Finding]) -> str:
    """A line each, and one more for its mend. Without secrets, and without what moves a terminal's cursor."""
    lines = []
    for one in findings:
        lines.append(f"{one.verdict:<5}  {one.topic:<11}  {one.text}")
        if one.mend:
            lines.append(f"{'':<5}  {'':<11}  mend: {one.mend}")
    return "\n".join(on_one_line(redact(line)) for line in lines)


def as_json(findings: Iterable[Finding]) -> str:
    """A JSON object a line."""
    return "\n".join(redact(msgspec.json.encode(one).decode()) for one in findings)
