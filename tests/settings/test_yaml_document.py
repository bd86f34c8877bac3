"""YAML to plain values: the core schema, lines, variables, merge keys, and files that are no YAML."""

from __future__ import annotations

import math
from typing import Any

import pytest

from greenroom.yaml_document import BROKEN, MAX_BYTES, Document, read, spell


def parse(text: str, **environ: str) -> Document:
    return read(text.encode(), environ=environ)


def good(text: str, **environ: str) -> Any:
    document = parse(text, **environ)
    assert document.mistakes == []
    return document.value


def only_mistake(data: str | bytes, **environ: str) -> tuple[int, str, str]:
    document = read(data.encode() if isinstance(data, str) else data, environ=environ)
    (mistake,) = document.mistakes
    return mistake.line, spell(mistake.path), mistake.message


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("~", None),
        ("null", None),
        ("true", True),
        ("False", False),
        ("no", "no"),
        ("on", "on"),
        ("12", 12),
        ("-3", -3),
        ("007", 7),
        ("0o17", 15),
        ("0x1F", 31),
        ("1:30", "1:30"),
        ("2026-11-21", "2026-11-21"),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("-.inf", -math.inf),
        ("1_000", "1_000"),
        ("'12'", "12"),
        ('"true"', "true"),
        ("!!str 12", "12"),
        ("!!int '12'", 12),
        ("!!float 3", 3.0),
    ],
)
def test_scalars_follow_the_core_schema(text: str, value: Any) -> None:
    read_value = good(f"key: {text}")["key"]
    assert read_value == value
    assert type(read_value) is type(value)


def test_not_a_number_is_a_number() -> None:
    assert math.isnan(good("key: .nan")["key"])


def test_each_key_and_item_has_its_line() -> None:
    document = parse("a:\n  b: 1\n\n  c:\n    - x\n    - y: {z: 2}\n")
    places: list[tuple[str | int, ...]] = [("a",), ("a", "b"), ("a", "c"), ("a", "c", 1), ("a", "c", 1, "y", "z")]
    assert [document.line(place) for place in places] == [1, 2, 4, 6, 6]
    assert document.line(("a", "c", 1, "missing", 3)) == 6
    assert document.written(("a", "b"))
    assert not document.written(("a", "d"))


@pytest.mark.parametrize(
    ("path", "text"),
    [((), ""), (("a",), "a"), (("agents", 0, "stt", "model"), "agents[0].stt.model"), (("a", 0, 1), "a[0][1]")],
)
def test_a_path_is_spelled_as_people_write_it(path: tuple[str | int, ...], text: str) -> None:
    assert spell(path) == text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("key: ${NAME}", "value"),
        ("key: a-${NAME}-b", "a-value-b"),
        ('key: "${NAME}"', "value"),
        ("key: ${NUMBER}", 8),
        ('key: "${NUMBER}"', "8"),
        ("key: 1${NUMBER}", 18),
        ("key: ${SWITCH}", True),
        ("key: ${EMPTY}", None),
        ("key: '${EMPTY}'", ""),
        ("key: ${UNSET:-12}", 12),
        ("key: ${EMPTY:-12}", 12),
        ("key: ${UNSET:-}", None),
        ("key: ${UNSET:-a b}", "a b"),
        ("key: ${NAME:-other}", "value"),
        ("key: $$", "$"),
        ("key: $${NAME}", "${NAME}"),
        ("key: costs $5", "costs $5"),
        ("key: ^end$", "^end$"),
        ("key: ${NESTED}", "${NAME}"),
        ("key: |\n  hello\n  ${NAME}\n", "hello\nvalue\n"),
        ("key: [1, '${NUMBER}']", [1, "8"]),
        ("${NAME}: 1", None),
    ],
)
def test_variables_are_filled_into_values(text: str, value: Any) -> None:
    environ = {"NAME": "value", "NUMBER": "8", "SWITCH": "true", "EMPTY": "", "NESTED": "${NAME}"}
    assert good(text, **environ).get("key") == value


def test_a_plain_variable_keeps_its_text_for_who_wants_text() -> None:
    document = parse("key: ${PIN}\nother: 7", PIN="0042")
    assert document.value["key"] == 42
    assert document.texts == {("key",): "0042"}


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        (
            "a: 1\nkey: ${NAME}",
            2,
            "the variable NAME is not set; expected it in the environment, or ${NAME:-default} here",
        ),
        ("key: ${}", 1, "'${}' names no variable; expected ${NAME}, ${NAME:-default}, or $$ for a dollar"),
        ("key: ${A B}", 1, "'${A B}' names no variable; expected ${NAME}, ${NAME:-default}, or $$ for a dollar"),
        ("key: '${A'", 1, "'${' names no variable; expected ${NAME}, ${NAME:-default}, or $$ for a dollar"),
        ("key: ${A:-${B}}", 1, "'${A:-${B}' names no variable; expected ${NAME}, ${NAME:-default}, or $$ for a dollar"),
    ],
)
def test_a_variable_that_is_wrong_or_not_set_is_named(text: str, line: int, message: str) -> None:
    assert only_mistake(text) == (line, "key", message)
    assert parse(text).value["key"] is BROKEN


def test_every_unset_variable_of_a_value_is_named() -> None:
    document = parse("key: ${A}${B}")
    assert ["A" in document.mistakes[0].message, "B" in document.mistakes[1].message] == [True, True]


def test_aliases_and_merge_keys() -> None:
    text = """
base: &base {model: tiny, threads: 1}
more: &more {threads: 2, device: cpu}
own: {<<: *base, threads: 4}
both: {<<: [*base, *more], device: cuda}
alias: *base
chained: &chained {<<: *more, x: 1}
far: {<<: *chained}
"""
    value = good(text)
    assert value["own"] == {"model": "tiny", "threads": 4}
    assert value["both"] == {"model": "tiny", "threads": 1, "device": "cuda"}
    assert value["alias"] == value["base"]
    assert value["far"] == {"threads": 2, "device": "cpu", "x": 1}


@pytest.mark.parametrize(
    ("text", "line", "key", "message"),
    [
        ("a: 1\nb: 2\na: 3", 3, "a", "written twice, first on line 1; expected it once"),
        ("a: {b: 1, b: 2}", 1, "a.b", "written twice, first on line 1; expected it once"),
        ("a:\n  1: x", 2, "a", "the key is 1; expected text, in quotes if need be"),
        ("a:\n  ~: x", 2, "a", "the key is ~; expected text, in quotes if need be"),
        ("? [a]\n: x", 1, "", "the key is a list or a mapping; expected text, in quotes if need be"),
        ("a: !secret x", 1, "a", "not what its tag !secret says; expected a value without a tag"),
        ("a: !!int x", 1, "a", "not what its tag !!int says; expected a value without a tag"),
        ("a: !!set {x}", 1, "a", "the tag !!set; expected a value without a tag"),
        ("a: &a [1, *a]", 1, "a[1]", "an alias inside what it stands for; expected an end to it"),
        ("a: &a {<<: *a}", 1, "a.<<", "cannot be merged; expected an alias of another mapping"),
        ("a: {<<: &b {<<: &c {<<: *b}}}", 1, "a.<<", "cannot be merged; expected an alias of another mapping"),
        ("a: {<<: 3}", 1, "a.<<", "cannot be merged; expected an alias of another mapping"),
    ],
)
def test_what_yaml_allows_and_settings_do_not(text: str, line: int, key: str, message: str) -> None:
    assert only_mistake(text) == (line, key, message)


@pytest.mark.parametrize(
    ("data", "line", "message"),
    [
        (b"", 1, "the file is empty; expected the keys server and agents"),
        (b"# only a comment\n", 1, "the file is empty; expected the keys server and agents"),
        (b"a: 1\n\tb: 2\n", 2, "a tab in the indentation; expected spaces"),
        (b"a:\n  - b\n  \t- c\n", 3, "a tab in the indentation; expected spaces"),
        (b"a:\tb\n", 1, "a tab after 'a:'; expected spaces"),
        (b"a: |\n\ttext\n", 2, "a tab in the indentation; expected spaces"),
        (b"a: b: c\n", 1, "not valid YAML: mapping values are not allowed here; expected key: value"),
        (b"a: {key: ${NAME}}\n", 1, None),
        (b"a: [1\nb: 2\n", 2, None),
        (b"a: 'x\n", 2, None),
        (b"a: *b\n", 1, "not valid YAML: found undefined alias 'b'; expected key: value"),
        (b"a: 1\n---\nb: 2\n", 2, "a second document begins here; expected one in a file"),
        (b"a: 1\nb: \xff\n", 2, "byte 0xff is not UTF-8; expected a text file in UTF-8"),
        ("a: ü\n".encode("utf-16"), 1, "byte 0xff is not UTF-8; expected a text file in UTF-8"),
        (b"a: 1\nb: \x07\n", 2, "the character U+0007; expected printable text"),
        (b'a: "\\UFFFFFFFF"\n', 1, "not valid YAML: a number or an escape is out of range; expected a smaller one"),
        (b"a: " + b"[" * 5000, 1, "nested too deeply; expected far fewer levels"),
        (b"#" * (MAX_BYTES + 1), 1, f"the file has {MAX_BYTES + 1} bytes; expected at most {MAX_BYTES}"),
    ],
)
def test_what_cannot_be_read_is_one_mistake(data: bytes, line: int, message: str | None) -> None:
    found_line, key, found_message = only_mistake(data)
    assert (found_line, key) == (line, "")
    assert message is None or found_message == message
    assert "\n" not in found_message
    assert "; expected " in found_message


def test_variables_inside_braces_are_told_to_be_quoted() -> None:
    _, _, message = only_mistake("a: {key: ${NAME}}\n")
    assert message.endswith("; expected quotes around ${...} inside { } and [ ]")


def test_a_byte_order_mark_is_no_mistake() -> None:
    assert read(b"\xef\xbb\xbfa: 1\n", environ={}).value == {"a": 1}


def test_aliases_of_aliases_do_not_grow_without_end() -> None:
    text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)
    )
    _, _, message = only_mistake(text)
    assert message == "aliases grow to more than 100000 values; expected fewer"


def test_merges_of_merges_do_not_take_forever() -> None:
    text = "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 60))
    assert good(text)["a59"] == {"x": 1}


def test_an_integer_of_thousands_of_digits_is_refused() -> None:
    line, key, _ = only_mistake(f"a: {'9' * 5000}")
    assert (line, key) == (1, "a")
