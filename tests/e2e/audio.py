"""What a recording tells: where a sound is in it, how alike, how loud, how long, and where it has holes."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import numpy.typing as npt

__all__ = [
    "Found",
    "Samples",
    "find",
    "from_pcm",
    "gaps",
    "level_dbfs",
    "likeness",
    "noise_marker",
    "pitch_ratio",
    "read_wav",
    "resampled",
    "speechlike",
    "stretch_ms",
    "to_pcm",
    "write_wav",
]

Samples = npt.NDArray[np.float64]
_SILENCE_DBFS = -50.0
_FINE_HZ = 48_000


class Found:
    """Where a sound begins in a recording (s), and its normalised correlation with what is there (-1 to 1)."""

    def __init__(self, at_s: float, correlation: float) -> None:
        self.at_s = at_s
        self.correlation = correlation

    def __repr__(self) -> str:
        return f"Found(at_s={self.at_s:.4f}, correlation={self.correlation:.3f})"


def from_pcm(pcm: bytes) -> Samples:
    """int16 little-endian to -1..1."""
    return np.frombuffer(pcm, dtype="<i2").astype(np.float64) / 32768


def to_pcm(samples: Samples) -> bytes:
    """-1..1 to int16 little-endian, clipped."""
    return np.clip(np.round(samples * 32768), -32768, 32767).astype("<i2").tobytes()


def read_wav(path: Path) -> tuple[Samples, int]:
    """First channel and rate of a 16-bit WAV."""
    with wave.open(str(path), "rb") as source:
        channels, rate_hz = source.getnchannels(), source.getframerate()
        return from_pcm(source.readframes(source.getnframes()))[::channels], rate_hz


def write_wav(path: Path, samples: Samples, rate_hz: int, channels: int = 1) -> Path:
    """Write mono samples; more channels get the same signal."""
    with wave.open(str(path), "wb") as out:
        out.setnchannels(channels)
        out.setsampwidth(2)
        out.setframerate(rate_hz)
        out.writeframes(to_pcm(np.repeat(samples, channels)))
    return path


def resampled(samples: Samples, from_hz: int, to_hz: int) -> Samples:
    """The same sound at another rate."""
    if from_hz == to_hz:
        return samples
    import soxr

    return np.asarray(soxr.resample(samples, from_hz, to_hz, quality="HQ"), dtype=np.float64)


def find(needle: Samples, haystack: Samples, rate_hz: int) -> Found:
    """The place in `haystack` that is most like `needle` in shape, whatever its level. Both at `rate_hz`."""
    n, m = len(needle), len(haystack)
    if m < n or n == 0:
        return Found(0.0, 0.0)
    needle = needle - needle.mean()
    size = 1 << (n + m - 1).bit_length()
    cross = np.fft.irfft(np.fft.rfft(haystack, size) * np.conj(np.fft.rfft(needle, size)), size)[: m - n + 1]
    sums = np.concatenate(([0.0], np.cumsum(haystack)))
    squares = np.concatenate(([0.0], np.cumsum(haystack**2)))
    energy = (squares[n:] - squares[:-n]) - (sums[n:] - sums[:-n]) ** 2 / n
    own = float(np.sum(needle**2))
    if own == 0.0:
        return Found(0.0, 0.0)
    # Where there is next to nothing, rounding would look like a likeness.
    floor = own * 1e-6
    alike = np.where(energy > floor, cross / np.sqrt(np.maximum(energy, floor) * own), 0.0)
    best = int(np.argmax(alike))
    return Found(best / rate_hz, float(alike[best]))


def likeness(
    source: Samples, heard: Samples, rate_hz: int, *, slack_ms: float = 60.0, piece_ms: float = 100.0
) -> float:
    """How alike two recordings are, each `piece_ms` aligned by itself within `slack_ms`, weighted by energy.

    A receiver's jitter buffer stretches and squeezes the first second of speech by some 10 ms to find its delay,
    after which one correlation of the whole says little about what an ear would say. Compared at 48 kHz at least: at
    16 kHz, half a sample between two grids would cost 0.05.
    """
    if rate_hz < _FINE_HZ:
        source, heard = resampled(source, rate_hz, _FINE_HZ), resampled(heard, rate_hz, _FINE_HZ)
        rate_hz = _FINE_HZ
    piece, slack = int(rate_hz * piece_ms / 1000), int(rate_hz * slack_ms / 1000)
    at = int(find(source, heard, rate_hz).at_s * rate_hz)
    total = weights = 0.0
    for start in range(0, len(source) - piece + 1, piece):
        part = source[start : start + piece]
        around = heard[max(at + start - slack, 0) : at + start + piece + slack]
        weight = float(np.sum(part**2))
        total += weight * find(part, around, rate_hz).correlation
        weights += weight
    return total / weights if weights else 0.0


def level_dbfs(samples: Samples) -> float:
    """RMS level; -inf for digital silence."""
    power = float(np.mean(samples**2)) if len(samples) else 0.0
    return 10 * float(np.log10(power)) if power > 0 else float("-inf")


def gaps(
    heard: Samples, rate_hz: int, *, source: Samples | None = None, over_ms: float = 20.0
) -> list[tuple[float, float]]:
    """Stretches (start s, length ms) longer than `over_ms` below -50 dBFS, where the aligned `source` has none."""
    window = rate_hz // 200  # 5 ms
    quiet = _quiet(heard, window)
    if source is not None:
        own = _quiet(source, window)
        # A pause may be smeared by half a frame in the codec: quiet in the source nearby is no gap.
        near = np.convolve(own, np.ones(9), mode="same") > 0
        length = min(len(quiet), len(near))
        quiet = quiet[:length] & ~near[:length]
    found = []
    start: int | None = None
    for index, is_quiet in enumerate((*quiet, False)):
        if is_quiet and start is None:
            start = index
        elif not is_quiet and start is not None:
            length_ms = (index - start) * 5.0
            if length_ms > over_ms:
                found.append((start * 0.005, length_ms))
            start = None
    return found


def _quiet(samples: Samples, window: int) -> npt.NDArray[np.bool_]:
    blocks = samples[: len(samples) // window * window].reshape(-1, window)
    power = np.mean(blocks**2, axis=1)
    quiet: npt.NDArray[np.bool_] = power < 10 ** (_SILENCE_DBFS / 10)
    return quiet


_PIECE_S, _HOP_S = 0.06, 0.03


def _lags_s(heard: Samples, source: Samples, rate_hz: int) -> npt.NDArray[np.float64]:
    """How much later than at its beginning each 60 ms of `source`, every 30 ms, is found in `heard`, s."""
    piece, hop, slack = int(rate_hz * _PIECE_S), int(rate_hz * _HOP_S), rate_hz // 10
    at = int(find(source, heard, rate_hz).at_s * rate_hz)
    lags = []
    for start in range(0, len(source) - piece + 1, hop):
        low = max(at + start - slack, 0)
        found = find(source[start : start + piece], heard[low : at + start + piece + slack], rate_hz)
        lags.append(low / rate_hz + found.at_s - (at + start) / rate_hz)
    return np.array(lags)


def pitch_ratio(heard: Samples, source: Samples, rate_hz: int) -> float:
    """How much faster (over 1) or slower `heard` runs than `source`, by the median over stretches of 300 ms.

    A wrong rate shows in each stretch; a step of the receiver's jitter buffer (10 ms here or there) only in some.
    """
    lags = _lags_s(heard, source, rate_hz)
    return 1.0 - float(np.median(lags[10:] - lags[:-10])) / (10 * _HOP_S)


def stretch_ms(heard: Samples, source: Samples, rate_hz: int) -> float:
    """How much longer (or shorter) than `source` it lasts in `heard`, ms."""
    lags = _lags_s(heard, source, rate_hz)
    return float(np.median(lags[-7:]) - np.median(lags[:7])) * 1000


def noise_marker(seed: int, rate_hz: int, ms: float = 60.0, level: float = 0.3) -> Samples:
    """A short noise-like sound that correlation tells from all others, and that survives Opus: 300 to 3400 Hz."""
    return _band_noise(seed, rate_hz, ms) * level


def speechlike(seed: int, rate_hz: int, seconds: float, level: float = 0.25) -> Samples:
    """Noise in the band of speech whose loudness rises and falls four times a second, never to silence."""
    noise = _band_noise(seed, rate_hz, seconds * 1000)
    t = np.arange(len(noise)) / rate_hz
    return np.asarray(noise * (0.65 + 0.35 * np.sin(2 * np.pi * 4 * t)) * level, dtype=np.float64)


def _band_noise(seed: int, rate_hz: int, ms: float) -> Samples:
    # Made on one fine spectrum, so that the same seed is the same sound at each rate.
    count = int(rate_hz * ms / 1000)
    rng = np.random.default_rng(seed)
    bins = int(4000 * ms / 1000) + 1
    spectrum = np.zeros(count // 2 + 1, dtype=np.complex128)
    drawn = rng.standard_normal(bins) + 1j * rng.standard_normal(bins)
    low, high = int(300 * ms / 1000), min(int(3400 * ms / 1000), count // 2)
    spectrum[low:high] = drawn[low:high]
    noise = np.fft.irfft(spectrum, count)
    return np.asarray(noise / np.max(np.abs(noise)), dtype=np.float64)
