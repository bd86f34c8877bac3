"""``docs/reference.md`` names tests that exist, a test for every sentence, and every snippet."""

from __future__ import annotations

import ast
from functools import cache

from .snippets import snippets
from .table import ROOT, rows

ELSEWHERE = ("Instant connect",)
"""Sections whose sentences are not held here."""


@cache
def functions(path: str) -> dict[str, ast.AsyncFunctionDef | ast.FunctionDef]:
    """The test functions of a file."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return {node.name: node for node in tree.body if isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef)}


def exists(test: str) -> bool:
    path, _, name = test.partition("::")
    return (ROOT / path).is_file() and name.startswith("test_") and name in functions(path)


def runs(test: str, name: str) -> bool:
    """The test runs the snippet of this name."""
    path, _, function = test.partition("::")
    return any(
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "snippet"
        and isinstance(node.args[0], ast.Constant)
        and node.args[0].value == name
        for node in ast.walk(functions(path)[function])
    )


def test_every_sentence_is_held_by_tests_that_exist() -> None:
    assert len(rows()) > 80
    loose = [row.text for row in rows() if row.section not in ELSEWHERE and not row.tests]
    assert loose == []
    assert [test for row in rows() for test in row.tests if not exists(test)] == []


def test_every_snippet_stands_beside_a_test_that_runs_it() -> None:
    missing = [
        name
        for name in snippets()
        if not any(runs(test, name) for row in rows() if f"nippet `{name}`" in row.text for test in row.tests)
    ]
    assert missing == []
