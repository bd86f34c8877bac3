"""The sounds that come along, made from noise and sines: each a loop without a seam, and the same each time.

Noise is drawn as a spectrum, whose inverse transform is periodic; events that reach over the end go on at the
beginning. A loop takes some hundredths of a second to make and is made once in a process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from greenroom.audio import Pcm

__all__ = ["BuiltinAudioClip"]

Wave = NDArray[np.float64]
Shape = Callable[[Wave], Wave]
"""How loud noise is at each pitch, Hz."""


class BuiltinAudioClip(Enum):
    """Sounds that need no file. The names are LiveKit's; the sounds are made by greenroom itself."""

    CITY_AMBIENCE = "city_ambience"
    FOREST_AMBIENCE = "forest_ambience"
    OFFICE_AMBIENCE = "office_ambience"
    CROWDED_ROOM = "crowded_room"
    KEYBOARD_TYPING = "keyboard_typing"
    KEYBOARD_TYPING2 = "keyboard_typing2"
    HOLD_MUSIC = "hold_music"

    def samples(self, sample_rate: int) -> Pcm:
        """One round of the loop. Blocks for up to some tenths of a second, the first time; read-only."""
        if not self.made(sample_rate):
            _made[self, sample_rate] = _make(self, sample_rate)
        return _made[self, sample_rate]

    def made(self, sample_rate: int) -> bool:
        """Whether ``samples`` returns at once."""
        return (self, sample_rate) in _made


_made: dict[tuple[BuiltinAudioClip, int], Pcm] = {}


def _make(clip: BuiltinAudioClip, sample_rate: int) -> Pcm:
    make, seed, level = _RECIPES[clip]
    wave = make(_Studio(sample_rate, seed))
    wave *= 32767 * 10 ** (level / 20) / float(np.sqrt(np.mean(wave**2)))
    pcm = np.asarray(np.rint(np.clip(wave, -32767, 32767)), dtype=np.int16)
    pcm.flags.writeable = False
    return pcm


class _Studio:
    """What the recipes are made with. Everything is periodic in the length of its loop."""

    def __init__(self, sample_rate: int, seed: int) -> None:
        self.sample_rate = sample_rate
        self.random = np.random.default_rng(seed)

    def silence(self, seconds: float) -> Wave:
        return np.zeros(round(seconds * self.sample_rate))

    def noise(self, seconds: float, shape: Shape) -> Wave:
        """Noise of a given colour, of RMS 1."""
        count = round(seconds * self.sample_rate)
        pitches: Wave = np.asarray(np.fft.rfftfreq(count, 1 / self.sample_rate), dtype=np.float64)
        spectrum = shape(pitches) * np.exp(2j * np.pi * self.random.random(len(pitches)))
        spectrum[0] = 0.0
        wave = np.fft.irfft(spectrum, count)
        return np.asarray(wave / np.sqrt(np.mean(wave**2)))

    def swell(self, seconds: float, *, low: float, slowest: int, fastest: int) -> Wave:
        """A slow wave between ``low`` and 1, of so many to so many periods a loop."""
        spectrum = np.zeros(round(seconds * self.sample_rate) // 2 + 1, dtype=np.complex128)
        turns = fastest - slowest + 1
        spectrum[slowest : fastest + 1] = self.random.normal(size=turns) + 1j * self.random.normal(size=turns)
        wave = np.fft.irfft(spectrum, round(seconds * self.sample_rate))
        wave -= np.min(wave)
        return np.asarray(low + (1 - low) * wave / np.max(wave))

    def add(self, wave: Wave, event: Wave, *, at: float) -> None:
        """Let something happen ``at`` seconds; what reaches over the end is at the beginning."""
        places = (round(at * self.sample_rate) + np.arange(len(event))) % len(wave)
        np.add.at(wave, places, event)

    def ring(self, seconds: float, pitch: float, *, decay: float) -> Wave:
        """A tone that dies away, ``decay`` seconds to a third, without a click at either end."""
        time = np.arange(round(seconds * self.sample_rate)) / self.sample_rate
        tone = np.sin(2 * np.pi * pitch * time) * np.exp(-time / decay)
        edge = np.minimum(1.0, np.minimum(time, time[::-1]) / 0.004)
        return np.asarray(tone * edge)


def _band(low: float, high: float, *, slope: float = 2.0) -> Shape:
    """Between two pitches; beyond them it falls with ``slope``, in powers of the pitch."""

    def shape(pitches: Wave) -> Wave:
        safe = np.maximum(pitches, 1.0)
        return np.asarray(np.minimum(1.0, (safe / low) ** slope) * np.minimum(1.0, (high / safe) ** slope))

    return shape


def _murmur(studio: _Studio, seconds: float, *, voices: int) -> Wave:
    """Voices too far away to be understood: noise in the bands of vowels, at the pace of syllables."""
    mixed = studio.silence(seconds)
    for _ in range(voices):
        formant = studio.random.uniform(350, 700)
        voice = studio.noise(seconds, _band(formant * 0.7, formant * 1.3, slope=3.0))
        voice += 0.3 * studio.noise(seconds, _band(formant * 2.4, formant * 3.2, slope=3.0))
        syllables = studio.swell(seconds, low=0.0, slowest=round(2 * seconds), fastest=round(5 * seconds)) ** 2
        sentences = studio.swell(seconds, low=0.0, slowest=1, fastest=round(seconds / 2))
        mixed += voice * syllables * sentences * studio.random.uniform(0.4, 1.0)
    return np.asarray(mixed / np.sqrt(np.mean(mixed**2)))


def _key(studio: _Studio, *, deep: bool) -> Wave:
    """A key goes down, and comes up more softly."""
    low = studio.random.uniform(260, 340) if deep else studio.random.uniform(700, 1000)
    stroke = studio.silence(0.16)
    for at, loud in ((0.0, 1.0), (studio.random.uniform(0.07, 0.11), 0.35)):
        length = 0.03
        time = np.arange(round(length * studio.sample_rate)) / studio.sample_rate
        click = studio.noise(length, _band(1800, 5000)) * np.exp(-time / 0.0025)
        body = studio.ring(length, low, decay=0.008) + 0.6 * studio.ring(length, low * 2.7, decay=0.005)
        studio.add(stroke, loud * (0.5 * click + body), at=at)
    return stroke


def _typing(studio: _Studio, *, words: Sequence[int], pace: float) -> Wave:
    """Words of so many letters, with pauses between them."""
    strokes: list[tuple[float, bool]] = []
    at = 0.05
    for letters in words:
        for _ in range(letters):
            strokes.append((at, False))
            at += studio.random.normal(pace, pace / 5)
        strokes.append((at, True))
        at += studio.random.uniform(1.5, 4.0) * pace
    wave = studio.silence(at + 0.1)
    for when, deep in strokes:
        studio.add(wave, studio.random.uniform(0.6, 1.0) * _key(studio, deep=deep), at=when)
    return wave


def _office(studio: _Studio) -> Wave:
    seconds = 16.0
    air = studio.noise(seconds, _band(90, 400, slope=1.2))
    wave = air * studio.swell(seconds, low=0.8, slowest=1, fastest=3) + 0.45 * _murmur(studio, seconds, voices=5)
    for _ in range(14):
        start = studio.random.uniform(0, seconds)
        for stroke in range(int(studio.random.integers(2, 7))):
            studio.add(wave, 0.35 * _key(studio, deep=False), at=start + stroke * studio.random.uniform(0.12, 0.2))
    return wave


def _city(studio: _Studio) -> Wave:
    seconds = 20.0
    wave = studio.noise(seconds, _band(50, 180, slope=1.5)) * studio.swell(seconds, low=0.6, slowest=1, fastest=4)
    for _ in range(5):  # cars that pass
        tyres = studio.noise(seconds, _band(300, 1400, slope=1.5))
        wave += 0.35 * tyres * studio.swell(seconds, low=0.0, slowest=1, fastest=3) ** 4
    return np.asarray(wave)


def _forest(studio: _Studio) -> Wave:
    seconds = 20.0
    wave = studio.noise(seconds, _band(200, 1200, slope=1.0)) * studio.swell(seconds, low=0.3, slowest=1, fastest=5)
    for _ in range(9):  # birds
        start, pitch = studio.random.uniform(0, seconds), studio.random.uniform(2200, 4200)
        for call in range(int(studio.random.integers(2, 6))):
            time = np.arange(round(0.11 * studio.sample_rate)) / studio.sample_rate
            glide = pitch * (1 + 0.12 * np.sin(2 * np.pi * time / 0.11 + studio.random.random()))
            song = np.sin(2 * np.pi * np.cumsum(glide) / studio.sample_rate) * np.sin(np.pi * time / 0.11) ** 2
            studio.add(wave, studio.random.uniform(0.3, 1.2) * song, at=start + 0.17 * call)
    return wave


def _crowd(studio: _Studio) -> Wave:
    seconds = 14.0
    return _murmur(studio, seconds, voices=16) + 0.25 * studio.noise(seconds, _band(100, 500, slope=1.2))


def _music(studio: _Studio) -> Wave:
    """Four bars of broken chords over a soft bass."""
    bar, wave = 3.2, studio.silence(4 * 3.2)
    for number, (bass, *chord) in enumerate(
        ((36, 60, 64, 67, 71), (33, 57, 60, 64, 67), (29, 57, 60, 65, 69), (31, 55, 59, 62, 65))
    ):
        start = number * bar
        studio.add(wave, 0.9 * _note(studio, bass + 12, seconds=3.4), at=start)
        for place, key in enumerate((*chord, *chord[-2:0:-1])):
            studio.add(wave, 0.55 * _note(studio, key + 12, seconds=2.6), at=start + place * bar / 6)
    return wave


def _note(studio: _Studio, key: int, *, seconds: float) -> Wave:
    """A key of the piano (60 is the middle C), struck softly."""
    pitch = 440.0 * 2 ** ((key - 69) / 12)
    overtones = ((1.0, 1.0, 0.9), (2.0, 0.28, 0.5), (3.0, 0.1, 0.3), (4.0, 0.05, 0.15))
    return np.asarray(
        sum(loud * studio.ring(seconds, pitch * multiple, decay=decay) for multiple, loud, decay in overtones)
    )


_RECIPES: dict[BuiltinAudioClip, tuple[Callable[[_Studio], Wave], int, float]] = {
    BuiltinAudioClip.CITY_AMBIENCE: (_city, 11, -32.0),
    BuiltinAudioClip.FOREST_AMBIENCE: (_forest, 12, -34.0),
    BuiltinAudioClip.OFFICE_AMBIENCE: (_office, 13, -33.0),
    BuiltinAudioClip.CROWDED_ROOM: (_crowd, 14, -31.0),
    BuiltinAudioClip.KEYBOARD_TYPING: (lambda s: _typing(s, words=(4, 3, 7, 5, 2, 6, 4, 8), pace=0.13), 15, -37.0),
    BuiltinAudioClip.KEYBOARD_TYPING2: (lambda s: _typing(s, words=(5, 3, 6), pace=0.11), 16, -37.0),
    BuiltinAudioClip.HOLD_MUSIC: (_music, 17, -24.0),
}
"""Of each: how it is made, its seed, and its RMS in dB of the loudest that there is."""
