"""What is written and not to be spoken: the marks of Markdown, emoji; and digits that are no number."""

from __future__ import annotations

import re
from collections.abc import Iterator

from greenroom.speech.rewriting import Edit, TextFilter

__all__ = ["EmojiFilter", "MarkdownFilter", "NumberFilter"]


def _settled(edits: list[Edit], certain: int, *, offset: int = 0) -> tuple[list[Edit], int]:
    """The edits before ``certain``, which is moved so that it cuts none. ``offset``: to be taken off all places."""
    kept = [edit for edit in edits if edit.end <= certain]
    cut = [edit.start for edit in edits if edit.start < certain < edit.end]
    return [Edit(edit.start - offset, edit.end - offset, edit.spoken) for edit in kept], min(
        cut, default=certain
    ) - offset


# --- Markdown ---------------------------------------------------------------------------------------------------------

# Letters of scripts that put spaces between words: between two of them, or two digits, a star is no emphasis.
_LETTER = r"[0-9A-Za-z\u00c0-\u1fff]"
_DASHES = r"[ \t]{0,3}:?-{2,40}:?[ \t]{0,3}"
_ITEM = r"[-*+•][ \t]{1,8}(?:\[[ xX]\][ \t]{1,8})?"
_LINE = re.compile(
    r"^(?:"
    r"(?P<fence>[ \t]{0,8}(?:```|~~~)[^\n]{0,80}(?:\n|\Z))"
    r"|(?P<rule>[ \t]{0,3}(?:(?:-[ \t]{0,3}){3,40}|(?:\*[ \t]{0,3}){3,40}|(?:_[ \t]{0,3}){3,40})(?=\n|\Z))"
    rf"|(?P<ruler>[ \t]{{0,3}}\|?(?:{_DASHES}\|){{1,12}}(?:{_DASHES})?[ \t]{{0,3}}(?=\n|\Z))"
    r"|(?P<row>[ \t]{0,3}\|[^\n]{0,400}(?=\n|\Z))"
    rf"|(?P<lead>[ \t]{{0,12}}(?=[>#*+•-])(?:>[ \t]{{0,3}}){{0,6}}(?:#{{1,6}}[ \t]{{1,8}}|{_ITEM})?)"
    r")",
    re.MULTILINE,
)
_ADDRESS = r"\([^()\n]{0,400}(?:\([^()\n]{0,80}\)[^()\n]{0,80})?\)"
_INLINE = re.compile(
    r"(?P<escape>\\(?=[!-/:-@\[\]-`{-~]))"
    rf"|(?P<link>(?<!\\)!?\[(?=[^\]\[\n]{{0,200}}\]{_ADDRESS}))"
    rf"|(?P<target>(?<!\\)\]{_ADDRESS})"
    r"|(?P<code>(?<!\\)`+)"
    rf"|(?P<star>(?<!{_LETTER})(?<![*~\\])(?:\*{{1,3}}|~~)(?=[^\s*~])|(?<=[^\s*~\\])(?:\*{{1,3}}|~~)(?!{_LETTER}|[*~]))"
    r"|(?P<score>(?<![\w\\])_{1,3}(?=[^\s_])|(?<=[^\s_\\])_{1,3}(?!\w))"
    r"|(?P<bar>(?<!\\)\|)"
)
# What may become one of these with more text.
_OPEN_LINE = re.compile(
    r"^(?:"
    r"[ \t]{0,12}[-*+•>#|_`~: \t\[\]xX]{0,200}"
    r"|[ \t]{0,8}(?:```|~~~)[^\n]{0,80}"
    r"|[ \t]{0,3}\|[^\n]{0,400}"
    r")\Z",
    re.MULTILINE,
)
_OPEN_ADDRESS = r"(?:\([^()\n]{0,400}(?:\([^()\n]{0,80}\)?[^()\n]{0,80})?)?"
_OPEN = re.compile(rf"(?<!\\)!?\[[^\]\[\n]{{0,200}}(?:\]{_OPEN_ADDRESS})?\Z|(?<!\\)\]{_OPEN_ADDRESS}\Z|[*~_`\\!]+\Z")


class MarkdownFilter(TextFilter):
    """Leaves out the marks and keeps the words: of a link its text, of a table its cells, of code the code.

    Tags are left as they are: they may be SSML.
    """

    def scan(self, text: str, *, before: str, final: bool) -> tuple[list[Edit], int]:
        whole, begin = before + text, len(before)
        lines = list(_LINE.finditer(whole, begin))
        edits = [Edit(*match.span()) for match in lines if match.lastgroup != "row" and match.end() > match.start()]
        rows = [match.span() for match in lines if match.lastgroup == "row"]
        for match in _INLINE.finditer(whole, begin):
            if any(edit.start < match.end() and match.start() < edit.end for edit in edits):
                continue
            if match.lastgroup == "bar":
                edits += _bar(whole, match.start(), rows)
            else:
                edits.append(Edit(*match.span()))
        edits.sort(key=lambda edit: edit.start)
        certain = len(whole) if final else min(self._open(whole, begin))
        return _settled(edits, certain, offset=begin)

    def _open(self, whole: str, begin: int) -> Iterator[int]:
        yield len(whole)
        for pattern in (_OPEN_LINE, _OPEN):
            if match := pattern.search(whole, begin):
                yield match.start()


def _bar(text: str, at: int, rows: list[tuple[int, int]]) -> list[Edit]:
    """A bar between two cells is a pause, one before the first or after the last is nothing; others are text."""
    for start, end in rows:
        if start <= at < end:
            inside = text[start:at].strip() and text[at + 1 : end].strip()
            return [Edit(at, at + 1, "," if inside else "")]
    return []


# --- emoji ------------------------------------------------------------------------------------------------------------

_PICTURE = (
    "\u231a\u231b\u23e9-\u23f3\u23f8-\u23fa\u25fd\u25fe\u2600-\u27bf\u2b1b\u2b1c\u2b50\u2b55\U0001f000-\U0001faff"
)
_TEXTUAL = (
    "#*0-9\u00a9\u00ae\u203c\u2049\u2122\u2139\u2194-\u21aa\u2328\u23cf\u24c2\u25aa-\u25fc"
    "\u2934\u2935\u2b05-\u2b07\u3030\u303d\u3297\u3299"
)
_EMOJI = re.compile(
    rf"(?P<keycap>[#*0-9]\ufe0f?\u20e3)|[{_TEXTUAL}]\ufe0f"
    rf"|[{_PICTURE}\ufe0f\U000e0020-\U000e007f]|(?<=[{_PICTURE}\ufe0f])\u200d|\u20e3"
)
_OPEN_EMOJI = re.compile(rf"[{_TEXTUAL}]\ufe0f?\Z")


class EmojiFilter(TextFilter):
    """Leaves out emoji. Of a key (a digit in a square) the digit is kept; so are signs such as ™ that are text."""

    def scan(self, text: str, *, before: str, final: bool) -> tuple[list[Edit], int]:
        whole, begin = before + text, len(before)
        edits = [Edit(m.start() + (m["keycap"] is not None), m.end()) for m in _EMOJI.finditer(whole, begin)]
        open_end = None if final else _OPEN_EMOJI.search(whole, begin)
        return _settled(edits, open_end.start() if open_end else len(whole), offset=begin)


# --- digits -----------------------------------------------------------------------------------------------------------

_RUN = re.compile(r"(?<![\w.,:/+-])\+?(?:\(\d{1,6}\)[ ]?)?\d{1,24}(?:[ -]\d{1,12}){0,8}(?![\w:/-])(?![.,]\d)")
_OPEN_RUN = re.compile(r"(?<![\w.,:/+-])\+?(?:\(\d{0,6}\)?[ ]?)?\d{0,24}(?:[ -]\d{0,12}){0,8}[.,]?\Z")
_DATE = re.compile(r"\d{4}-\d\d-\d\d|\d\d?-\d\d?-\d{2,4}")
_THOUSANDS = re.compile(r"[1-9]\d{0,2}(?: \d{3})+")


class NumberFilter(TextFilter):
    """Has telephone numbers, codes and the like spoken digit by digit, with a pause between groups.

    They are what a voice would read as millions: seven digits or more, or digits behind a plus or a leading zero.
    Dates, times, sums of money, years and numbers in groups of thousands are left to the voice.
    """

    def scan(self, text: str, *, before: str, final: bool) -> tuple[list[Edit], int]:
        whole, begin = before + text, len(before)
        edits = [
            Edit(match.start(), match.end(), _spelled(match[0]))
            for match in _RUN.finditer(whole, begin)
            if _is_code(match[0])
        ]
        open_end = None if final else _OPEN_RUN.search(whole, begin)
        return _settled(edits, open_end.start() if open_end else len(whole), offset=begin)


def _is_code(run: str) -> bool:
    digits = sum(character.isdigit() for character in run)
    if _DATE.fullmatch(run) or _THOUSANDS.fullmatch(run):
        return False
    return digits >= 7 or (digits >= 4 and run[0] in "+0(")


def _spelled(run: str) -> str:
    groups = re.findall(r"\d+", run)
    return ("+" if run[0] == "+" else "") + ", ".join(" ".join(group) for group in groups)
