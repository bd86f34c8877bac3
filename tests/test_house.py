"""The rules of the house: what holds for every file, and what no linter says."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from greenroom.version import __version__
from tests.shares import holds_calls

ROOT = Path(__file__).parents[1]
MODULES = sorted([*ROOT.glob("worker/**/*.py"), *ROOT.glob("plugins/**/*.py")])
MAX_LINES = 600

# Put together here, so that this file does not break its own rule.
HOSTS = [
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("files", "pythonhosted", "org"),
        ("registry", "npmjs", "org"),
        ("registry", "yarnpkg", "com"),
        ("proxy", "golang", "org"),
        ("sum", "golang", "org"),
        ("index", "crates", "io"),
        ("static", "crates", "io"),
        ("repo1", "maven", "org"),
        ("deb", "debian", "org"),
        ("security", "debian", "org"),
        ("registry-1", "docker", "io"),
    )
]
REGISTRY = re.compile("|".join(map(re.escape, HOSTS)))
OURS = "|".join(re.escape(str(path)) for path in (ROOT, Path.home()) if len(path.parts) > 1)
FOLDER = re.compile(rf"(?<![\w.~$}})/-])(?:{OURS}|/(?:root|work))(?:/|\b(?=[\s\"'`)]))")


def tracked() -> list[Path]:
    """Every file that is, or is about to be, in the repository."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [file for name in listing.split("\0") if name and (file := ROOT / name).is_file()]


def violations(pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{file.relative_to(ROOT)}:{number}: {found[0]}"
        for file in tracked()
        for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), start=1)
        if (found := pattern.search(line))
    ]


def test_no_file_names_a_package_registry() -> None:
    assert violations(REGISTRY) == []


def test_no_file_names_a_folder_of_somebodys_machine() -> None:
    assert violations(FOLDER) == []


def test_folders_are_recognised() -> None:
    for text in (f"see {ROOT}/web", f"'{Path.home()}'", "cd /{}/agents".format("root"), '"/{}/main"'.format("work")):
        assert FOLDER.search(text), text
    for text in ("~/agents", "${HOME}/work/x", "frame/work/", "../work/x", "/workers", "https://a.example/root/x"):
        assert not FOLDER.search(text), text


def test_modules_stay_small() -> None:
    assert len(MODULES) > 20
    lengths = {str(module.relative_to(ROOT)): len(module.read_text().splitlines()) for module in MODULES}
    assert {name: length for name, length in lengths.items() if length > MAX_LINES} == {}


def test_every_module_says_what_it_is() -> None:
    silent = [module for module in MODULES if not ast.get_docstring(ast.parse(module.read_text()))]
    assert [str(module.relative_to(ROOT)) for module in silent] == []


def test_changelog_knows_this_version() -> None:
    versions = re.findall(r"^## \[([^\]]+)\]", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert __version__ == next(version for version in versions if version != "Unreleased")


def test_locks_hold_every_direct_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = {
        "local": [
            *project["dependencies"],
            *(each for name in ("piper", "silero", "whisper") for each in extras[name]),
        ],
        "dev": [*project["dependencies"], *extras["dev"]],
        "build": tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"],
    }
    for lock, requirements in wanted.items():
        text = (ROOT / "requirements" / f"{lock}.txt").read_text()
        pinned = set(re.findall(r"^([a-z0-9][a-z0-9._-]*)==", text, flags=re.MULTILINE))
        names = {re.split(r"[\[<>=;\s]", each)[0].lower() for each in requirements} - {"greenroom"}
        assert names <= pinned, lock
        assert text.count("==") <= text.count("--hash=sha256:"), lock


def test_tests_that_hold_calls_are_in_one_share() -> None:
    quiet = ("tests/room/", "tests/server/", "tests/job/")
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        file = path.relative_to(ROOT).as_posix()
        if re.search(r"^[^#]*mark\.(e2e|browser)\b", path.read_text(), flags=re.MULTILINE):
            assert holds_calls(f"{file}::test") or file.startswith(quiet), f"{file}: not in CALLS of tests/shares.py"


def test_parent_loads_nothing_that_only_a_job_needs() -> None:
    """The truth at run time, third parties' own imports included, of what import-linter holds for the source."""
    foreign = "numpy soxr av livekit.rtc greenroom.dialog greenroom.session greenroom.providers greenroom_plugins"
    program = f"import sys, greenroom.daemon.daemon; print(*(set({foreign.split()!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == ""


def test_readme_shows_what_works(tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text()
    (module,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    files = {"reception.py": module}
    for number, settings in enumerate(re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL)):
        files[f"{number}.yaml"] = settings
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    server = {"LIVEKIT_URL": "ws://127.0.0.1:7880", "LIVEKIT_API_KEY": "key", "LIVEKIT_API_SECRET": "s" * 32}
    settings_files = sorted(name for name in files if name.endswith(".yaml"))
    command = [sys.executable, "-m", "greenroom", "check", *settings_files]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | server, capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(settings_files) == 2


def test_documents_point_at_files_that_exist() -> None:
    documents = [file for file in tracked() if file.suffix == ".md"]
    assert len(documents) > 5
    missing = [
        f"{document.relative_to(ROOT)}: {target}"
        for document in documents
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", document.read_text())
        if "://" not in target and not (document.parent / target).exists()
    ]
    assert missing == []
