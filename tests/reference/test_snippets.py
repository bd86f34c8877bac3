"""The snippets that run are those of the texts, and none is left out."""

from __future__ import annotations

import ast
import re

import pytest

from .snippets import HERE, TEXTS, snippet, snippets


@pytest.mark.parametrize("text", TEXTS)
def test_snippets_are_as_printed(text: str) -> None:
    """Only the indentation, and where one ends, is ours."""
    printed = (HERE / "as_printed" / f"{text}.txt").read_text(encoding="utf-8")
    code = re.sub(r"^## .*$", "", printed, flags=re.MULTILINE)
    ours = "".join(each.source for each in snippets().values() if each.text == text)
    assert "".join(ours.split()) == "".join(code.split())


def test_every_snippet_is_run_by_a_test() -> None:
    run = {
        node.args[0].value
        for module in HERE.glob("test_*.py")
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "snippet"
        and isinstance(node.args[0], ast.Constant)
    }
    assert len(snippets()) == 22
    assert run == set(snippets())


async def test_only_what_is_elided_can_be_filled_in() -> None:
    with pytest.raises(AssertionError, match="0 of 'Goodbye'"):
        await snippet("done_callback").run(fill={"Goodbye": "Hello"})
