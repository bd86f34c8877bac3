"""End of turn by its sound, with Smart Turn: a small model that hears intonation, fillers and pace, in 23 languages.

Options (``turn_detector: {plugin: smart_turn, ...}``):

``model``: ``v3.2``, or the path of a ``.onnx`` of Smart Turn 3. ``v3.2`` is looked for where ``make`` puts it, in
``share/greenroom`` of the Python environment, and in the package ``pipecat-ai``, whose wheel carries it with much that
is not needed here: ``pip install --no-deps pipecat-ai`` is enough. ``threshold``:
from this probability on the user counts as done. ``threads``: of onnxruntime; one judgement takes about 30 ms of one
core, whatever the length.

The model is shown the last 8 seconds, as log-mel spectrum. It learned from turns with 0.2 s of silence behind them and
takes more for an end, so what is silent beyond that is left out: a judgement that comes late, after the transcript, is
the same as one that comes at once.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from msgspec import Meta, Struct
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from greenroom.audio import Pcm
from greenroom.errors import ProviderError
from greenroom.providers import Heard, OptionError, Plugin, TurnDetector

__all__ = ["SmartTurnDetector", "SmartTurnOptions", "plugin"]

_RATE = 16000
_SECONDS = 8
_TAIL = round(0.2 * _RATE)
_FRAME = _RATE // 50
_SILENT = 0.05  # of the loudest frame's level: what stays below is a room's noise
_SHARED = Path(sys.prefix, "share", "greenroom")
_PACKAGED = {"v3.2": ("pipecat", "audio/turn/smart_turn/data/smart-turn-v3.2-cpu.onnx")}


class SmartTurnOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What may stand beside ``plugin: smart_turn``; the module's docstring says what each does."""

    model: Annotated[str, Meta(min_length=1)] = "v3.2"
    threshold: Annotated[float, Meta(gt=0, lt=1)] = 0.5
    threads: Annotated[int, Meta(ge=1, le=16)] = 1

    def verify(self) -> None:
        """The model is there. Raises ``OptionError``."""
        model_file(self)


def model_file(options: SmartTurnOptions) -> Path:
    """Where the model is. Raises ``OptionError`` when there is none."""
    if options.model in _PACKAGED:
        package, inside = _PACKAGED[options.model]
        shared = _SHARED / Path(inside).name
        if shared.is_file():
            return shared
        spec = find_spec(package)
        if spec is not None and spec.origin is not None and (file := Path(spec.origin).parent / inside).is_file():
            return file
        raise OptionError(
            f"`{options.model}` is not here; expected after: pip install --no-deps pipecat-ai", path=("model",)
        )
    file = Path(options.model).expanduser()
    if not file.is_file():
        raise OptionError(f"no such file; expected that of a model (.onnx), or {', '.join(_PACKAGED)}", path=("model",))
    return file


class SmartTurnDetector(TurnDetector):
    """One model and one thread: judgements are made one after another, never on the event loop.

    In the model host as many threads as ``share`` is asked for, which have one set of weights.
    """

    modality: Literal["text", "audio"] = "audio"
    sample_rate = _RATE
    seconds = float(_SECONDS)

    def __init__(self, options: SmartTurnOptions) -> None:
        self.threshold = options.threshold
        self._options = options
        self._loading = threading.Lock()
        self._model: _Model | None = None
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="smart-turn")

    def share(self, requests: int) -> int:
        self._pool = ThreadPoolExecutor(requests, thread_name_prefix="smart-turn")
        return requests

    def load(self) -> None:
        self._loaded()

    async def probability(self, heard: Heard) -> float:
        audio = heard.audio
        if audio is None or not np.any(audio.pcm):
            return 1.0
        if audio.sample_rate != _RATE:
            raise ValueError(f"audio at {audio.sample_rate} Hz; expected {_RATE}")
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._judge, audio.pcm)

    def _judge(self, pcm: Pcm) -> float:
        """In the thread."""
        model = self._loaded()
        try:
            return model.probability(log_mel(_turn(pcm)))
        except model.errors as error:
            raise ProviderError(f"a turn cannot be judged: {error}", provider="smart_turn") from error

    def _loaded(self) -> _Model:
        with self._loading:
            if self._model is None:
                self._model = _Model(self._options)
            return self._model


class _Model:
    """The weights, loaded and tried."""

    def __init__(self, options: SmartTurnOptions) -> None:
        try:
            import onnxruntime
            from onnxruntime.capi import onnxruntime_pybind11_state as state
        except ImportError as error:
            raise ProviderError(f"{error}; pip install 'greenroom[smart-turn]'", provider="smart_turn") from error
        # onnxruntime's exceptions have no base of their own.
        own = [getattr(state, name) for name in dir(state)]
        failures = [kind for kind in own if isinstance(kind, type) and issubclass(kind, Exception)]
        self.errors: tuple[type[Exception], ...] = (*failures, RuntimeError, ValueError)
        settings = onnxruntime.SessionOptions()
        settings.inter_op_num_threads = 1
        settings.intra_op_num_threads = options.threads
        try:
            self._session = onnxruntime.InferenceSession(
                str(model_file(options)), sess_options=settings, providers=["CPUExecutionProvider"]
            )
            self.probability(log_mel(np.zeros(0, dtype=np.int16)))
        except self.errors as error:  # that there is no file is one of them
            raise ProviderError(f"model `{options.model}` cannot be loaded: {error}", provider="smart_turn") from error

    def probability(self, features: NDArray[np.float32]) -> float:
        (found,) = self._session.run(None, {"input_features": features[np.newaxis]})
        return float(np.clip(found.item(), 0.0, 1.0))


def _turn(pcm: Pcm) -> Pcm:
    """The samples without the silence at their end, but for ``_TAIL`` of it."""
    whole = len(pcm) - len(pcm) % _FRAME
    if not whole:
        return pcm
    levels = np.abs(pcm[:whole].reshape(-1, _FRAME).astype(np.int32)).mean(axis=1)
    loud = np.flatnonzero(levels > _SILENT * np.max(levels))
    return pcm[: (int(loud[-1]) + 1) * _FRAME + _TAIL] if len(loud) else pcm


# --- what the model sees: Whisper's log-mel spectrum ----------------------------------------------------------------

_MELS = 80
_WINDOW = 400
_HOP = 160
_CORNER, _PER_HERTZ, _PER_OCTAVE = 15.0, 3 / 200, 27 / np.log(6.4)  # Slaney's mels: linear to 1 kHz, then logarithmic

_Floats = NDArray[np.float64]


def log_mel(pcm: Pcm) -> NDArray[np.float32]:
    """The last 8 seconds, zeros before what is shorter, brought to mean 0 and variance 1; shape ``(80, 800)``."""
    samples = np.zeros(_SECONDS * _RATE, dtype=np.float32)
    last = pcm[-len(samples) :]
    if len(last):
        samples[-len(last) :] = last * np.float32(1 / 32768)
    samples = (samples - samples.mean()) / np.sqrt(samples.var() + np.float32(1e-7))
    padded = np.pad(samples, _WINDOW // 2, mode="reflect")
    windows = sliding_window_view(padded, _WINDOW)[::_HOP][: len(samples) // _HOP]
    spectrum = np.fft.rfft(windows * _HANN)
    # Not ``@``: its threads would spin on for a while, and take more of a small machine than the model itself.
    mels = np.einsum("tf,mf->mt", spectrum.real**2 + spectrum.imag**2, _FILTERS)
    logs = np.log10(np.maximum(mels, 1e-10))
    return np.asarray((np.maximum(logs, logs.max() - 8) + 4) / 4, dtype=np.float32)


def _filters() -> _Floats:
    """A triangle of area 1 for each mel band; shape ``(80, 201)``."""
    top = _CORNER + np.log(_RATE / 2 / 1000) * _PER_OCTAVE
    mels = np.linspace(0, top, _MELS + 2)
    corners = np.where(mels < _CORNER, mels / _PER_HERTZ, 1000 * np.exp((mels - _CORNER) / _PER_OCTAVE))
    low, peak, high = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    bins = np.linspace(0, _RATE / 2, _WINDOW // 2 + 1)
    triangles = np.maximum(0, np.minimum((bins - low) / (peak - low), (high - bins) / (high - peak)))
    return np.asarray(triangles * 2 / (high - low))


_FILTERS = _filters()
_HANN = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_WINDOW) / _WINDOW)


plugin = Plugin(
    kinds={"turn": "greenroom_plugins.smart_turn:SmartTurnDetector"},
    options={"turn": SmartTurnOptions},
    requires=("onnxruntime",),
    extra="smart-turn",
    shared=("turn",),
)
