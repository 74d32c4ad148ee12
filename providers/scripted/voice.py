"""The sound and the words of an answer, and when each piece of them is due."""

from __future__ import annotations

import re
from functools import lru_cache
from random import Random

import msgspec
import numpy as np

from providers.scripted.hearing import OUTPUT_HZ
from providers.scripted.scenario import Answer, Marker, Pace, Repeat, Silence, Text, Tone, Wav
from providers.signal import wav
from providers.signal.level import amplitude
from providers.signal.resample import Int16Array

__all__ = ["Piece", "Utterance", "marker", "schedule", "schedule_written", "tone", "utter", "words_of"]

_FADE_MS = 5
_NOTHING = np.zeros(0, dtype=np.int16)


class Utterance(msgspec.Struct, frozen=True):
    """An answer, ready to be said."""

    pcm: Int16Array
    text: str

    @property
    def duration_ms(self) -> float:
        return len(self.pcm) / OUTPUT_HZ * 1000


class Piece(msgspec.Struct, frozen=True, gc=False):
    """A part of a reply and when it is due, seconds after the reply's start. Either speech or words."""

    due_s: float
    speech_ms: int
    first: int = 0
    last: int = 0
    """Speech: samples of the utterance."""
    delta: str = ""


def utter(answer: Answer, *, heard: Int16Array, heard_text: str, prompted: Answer, reply: int,
          results: dict[str, object]) -> Utterance:  # fmt: skip
    """What `answer` comes to after this turn. Args: heard is the turn's audio at 24 kHz (empty for typed turns)."""
    match answer:
        case Repeat():
            text = heard_text if answer.transcript is None else answer.transcript
            if len(heard):
                return Utterance(heard, text)
            # Nothing was heard: the prompted answer gives the sound, what was typed gives the words.
            spoken = prompted if not isinstance(prompted, Repeat) else Tone(duration_ms=600)
            other = utter(spoken, heard=heard, heard_text=heard_text, prompted=prompted, reply=reply, results=results)
            return Utterance(other.pcm, text or other.text)
        case Wav():
            return _named(_wav(answer.file), answer.transcript, "a recording")
        case Tone():
            return _named(tone(answer.duration_ms, answer.frequency_hz, answer.level_dbfs), answer.transcript, "a tone")
        case Marker():
            pcm = marker(answer.duration_ms, answer.seed + reply, answer.level_dbfs)
            return _named(pcm, answer.transcript, f"marker {reply}")
        case Text():
            text = _filled(answer.text, {"heard": heard_text, **results})
            return Utterance(_hum(text, answer.ms_per_letter), text)
        case Silence():
            return Utterance(_NOTHING, "")


def _filled(template: str, fields: dict[str, object]) -> str:
    """The template with the fields it names; an unknown name stays as it is written."""
    return re.sub(r"\{(\w+)\}", lambda found: str(fields.get(found[1], found[0])), template)


def _named(pcm: Int16Array, transcript: str | None, what: str) -> Utterance:
    text = f"This is {what} of {len(pcm) / OUTPUT_HZ:.1f} s." if transcript is None else transcript
    return Utterance(pcm, text)


@lru_cache(maxsize=16)
def _wav(path: str) -> Int16Array:
    pcm = wav.read(path, OUTPUT_HZ)
    pcm.setflags(write=False)
    return pcm


def _faded(wave: np.ndarray[tuple[int], np.dtype[np.float64]], level_dbfs: float) -> Int16Array:
    fade = min(OUTPUT_HZ * _FADE_MS // 1000, len(wave) // 2)
    ramp = np.linspace(0.0, 1.0, fade, endpoint=False)
    wave[:fade] *= ramp
    wave[len(wave) - fade :] *= ramp[::-1]
    return np.clip(np.rint(wave * amplitude(level_dbfs) * 32767), -32768, 32767).astype(np.int16)


def tone(duration_ms: float, frequency_hz: float, level_dbfs: float) -> Int16Array:
    """A sine at 24 kHz whose peak has `level_dbfs`, faded at both ends."""
    time_s = np.arange(round(duration_ms * OUTPUT_HZ / 1000)) / OUTPUT_HZ
    return _faded(np.sin(2 * np.pi * frequency_hz * time_s), level_dbfs)


def marker(duration_ms: float, seed: int, level_dbfs: float) -> Int16Array:
    """Noise of 300 to 3400 Hz at 24 kHz, always the same for a seed, peak at `level_dbfs`, faded at both ends."""
    size = round(duration_ms * OUTPUT_HZ / 1000)
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(size))
    frequency = np.fft.rfftfreq(size, 1 / OUTPUT_HZ)
    spectrum[(frequency < 300) | (frequency > 3400)] = 0
    wave = np.fft.irfft(spectrum, size)
    return _faded(wave / max(1e-9, float(np.abs(wave).max())), level_dbfs)


def _hum(text: str, ms_per_letter: int) -> Int16Array:
    """One short note for each word, as long as its letters, at a height that its letters choose."""
    parts: list[Int16Array] = []
    for word in text.split():
        height = 180 + sum(word.encode()) % 120
        parts.append(tone(len(word) * ms_per_letter, height, -14.0))
        parts.append(np.zeros(OUTPUT_HZ * ms_per_letter // 1000, dtype=np.int16))
    return np.concatenate(parts) if parts else _NOTHING


def words_of(text: str) -> list[str]:
    """Pieces that joined give the text: each word with the space before it."""
    pieces: list[str] = []
    for word in text.split(" "):
        pieces.append(word if not pieces else f" {word}")
    return [piece for piece in pieces if piece]


def schedule(utterance: Utterance, pace: Pace, *, reply: int, words: bool, pieces: bool) -> list[Piece]:
    """All parts of a spoken reply in the order in which they are due; the latency is not included."""
    chunk = max(1, pace.chunk_ms * OUTPUT_HZ // 1000)
    total = len(utterance.pcm)
    random = Random(f"{pace.seed}:{reply}")
    parts: list[Piece] = []
    newest = 0.0
    for first in range(0, total, chunk):
        due_s = _due_s(first / OUTPUT_HZ, pace)
        if pace.jitter_ms:
            due_s += random.uniform(0, pace.jitter_ms / 1000)
        newest = max(newest, due_s)  # a socket keeps the order: a late message delays those behind it
        parts.append(Piece(newest, first * 1000 // OUTPUT_HZ, first, min(total, first + chunk)))
    if words:
        deltas = words_of(utterance.text) if pieces else [utterance.text]
        for index, delta in enumerate(deltas):
            speech_s = utterance.duration_ms / 1000 * index / len(deltas)
            due_s = max(0.0, _due_s(speech_s, pace) - pace.transcript_lead_ms / 1000)
            parts.append(Piece(due_s, round(speech_s * 1000), delta=delta))
    parts.sort(key=lambda piece: (piece.due_s, not piece.delta))
    return parts


def _due_s(speech_s: float, pace: Pace) -> float:
    if pace.burst_s:
        speech_s = int(speech_s / pace.burst_s + 1e-9) * pace.burst_s
    return speech_s / pace.speed


def schedule_written(text: str, pace: Pace) -> list[Piece]:
    """The words of a written reply, 50 ms apart at speed 1."""
    return [Piece(index * 0.05 / pace.speed, 0, delta=word) for index, word in enumerate(words_of(text))]
