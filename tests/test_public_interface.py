"""The names that users import: there, documented, and loaded only when they are used."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys

import pytest

import greenroom

ACTING = (".__main__", ".job.rehearsal")
"""Modules that do something when they are imported."""


def test_every_public_name_is_there_and_documented() -> None:
    assert sorted(greenroom.__all__) == greenroom.__all__
    for name in greenroom.__all__:
        value = getattr(greenroom, name)
        assert name == "__version__" or value.__doc__, f"{name} has no docstring"
    assert set(dir(greenroom)) >= set(greenroom.__all__)


def test_the_typed_and_the_real_names_are_the_same() -> None:
    places = greenroom._PLACES
    assert set(places) | {"__version__"} == set(greenroom.__all__)
    for name, place in places.items():
        assert name in importlib.import_module(place).__all__


def test_an_unknown_name_says_so() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nobody'"):
        _ = greenroom.Nobody


def test_every_module_says_what_it_offers() -> None:
    silent = []
    for module in pkgutil.walk_packages(greenroom.__path__, "greenroom."):
        if module.name.endswith(ACTING):
            continue
        loaded = importlib.import_module(module.name)
        if not loaded.__doc__:
            silent.append(f"{module.name}: no docstring")
        if not module.ispkg and not hasattr(loaded, "__all__") and module.name != "greenroom.version":
            silent.append(f"{module.name}: no __all__")
        silent += [
            f"{module.name}.{name}: missing" for name in getattr(loaded, "__all__", ()) if not hasattr(loaded, name)
        ]
    assert not silent, silent


def test_the_parent_loads_nothing_that_only_a_job_needs() -> None:
    """Measured on the real import: an import-linter contract cannot see into external packages."""
    code = (
        "import sys, greenroom.daemon.daemon, greenroom.settings_file, greenroom.ops.logs\n"
        "heavy = ('numpy', 'soxr', 'livekit.rtc', 'greenroom.session', 'greenroom.dialog', 'greenroom.providers',"
        " 'greenroom.room', 'greenroom.job', 'greenroom_plugins')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
