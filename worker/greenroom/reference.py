"""``module:Class`` as the settings name the user's code.

The user's module is looked up in the folder of the settings file and in the current one, before anything installed.
Importing runs the user's code: never do it in the daemon.
"""

from __future__ import annotations

import importlib
import sys
import sysconfig
import traceback
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from greenroom.errors import GreenroomError
from greenroom.redaction import redact
from greenroom.wording import suggestion

__all__ = ["BadReference", "resolve"]

Kind = TypeVar("Kind")
_OURS = (f"{sysconfig.get_path('stdlib')}/", f"{Path(__file__).parent}/")


class BadReference(GreenroomError):
    """What is wrong with a reference, in one line, and what was expected."""


def resolve(reference: str, *, kind: type[Kind], beside: str | Path) -> type[Kind]:
    """The class that ``reference`` names, a subclass of ``kind``. Raises ``BadReference``.

    ``beside``: the settings file. Its folder and the current one are put on ``sys.path``, for good: the user's code
    may import from there later too.
    """
    folders = list(dict.fromkeys((str(Path(beside).absolute().parent), str(Path.cwd()))))
    sys.path[:0] = [folder for folder in folders if folder not in sys.path]
    name, _, attribute = reference.partition(":")
    module = _import(name, folders)
    try:
        value = getattr(module, attribute)
    except AttributeError:
        raise BadReference(_no_attribute(module, attribute, kind)) from None
    if not isinstance(value, type):
        raise BadReference(f"{reference} is {_article(value)}; expected a subclass of greenroom.{kind.__name__}")
    if not issubclass(value, kind):
        raise BadReference(f"{reference} is another kind of class; expected a subclass of greenroom.{kind.__name__}")
    return value


def _import(name: str, folders: list[str]) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise BadReference(_not_found(error.name, folders)) from None
        raise BadReference(
            f"module {name} imports {error.name}, which is not installed ({_where(error)}); expected it to be installed"
        ) from error
    except KeyboardInterrupt:
        raise
    # The user's code may raise whatever it likes, and exit the process too.
    except BaseException as error:
        said = redact(" ".join(str(error.msg if isinstance(error, SyntaxError) else error).split()))
        text = f"{type(error).__name__}: {said}" if said else type(error).__name__
        raise BadReference(
            f"importing {name} raised {text} ({_where(error)}); expected an import that works"
        ) from error


def _not_found(name: str, folders: list[str]) -> str:
    parent, _, last = name.rpartition(".")
    within = [Path(folder, *parent.split(".")) if parent else Path(folder) for folder in folders]
    hint = suggestion(last, [path.stem for folder in within for path in _modules(folder)])
    places = " or ".join(str(folder) for folder in within)
    return f"no module {name} is installed or in {places}; expected {last}.py there{hint}"


def _no_attribute(module: ModuleType, attribute: str, kind: type) -> str:
    own = [
        key
        for key, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, kind) and value.__module__ == module.__name__
    ]
    expected = f"one of its agents: {', '.join(own)}" if own else f"class {attribute}({kind.__name__}) in it"
    place = getattr(module, "__file__", None) or "it has no file"
    return f"module {module.__name__} has no {attribute} ({place}); expected {expected}{suggestion(attribute, own)}"


def _modules(folder: Path) -> Iterable[Path]:
    """What could be imported from a folder."""
    try:
        return [path for path in folder.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()]
    except OSError:
        return []


def _where(error: BaseException) -> str:
    """File and line in the user's code: the innermost frame that is neither Python's nor an installed package's."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith("<frozen")][1:]
    theirs = [f for f in frames if not _installed(f.filename)] or frames
    return f"{theirs[-1].filename}:{theirs[-1].lineno}" if theirs else "no line of it ran"


def _installed(filename: str) -> bool:
    return "site-packages" in filename or filename.startswith(_OURS)


def _article(value: object) -> str:
    kind = type(value).__name__
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"
