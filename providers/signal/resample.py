"""Change the rate of speech: a short polyphase FIR for live audio, soxr where delay does not matter.

The FIR answers every call at once, chunk by chunk, with a constant delay of about a millisecond and without jitter:
so many samples in, exactly so many out. soxr's streams work in blocks and hold back 6 to 115 ms, which a call can hear.
"""

from __future__ import annotations

from functools import lru_cache
from math import ceil, gcd
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

__all__ = ["RATES_HZ", "Int16Array", "Quality", "Resampler", "resample_whole"]

Int16Array = npt.NDArray[np.int16]
Float32Array = npt.NDArray[np.float32]
Quality = Literal["fir", "soxr"]

RATES_HZ = (8_000, 12_000, 16_000, 24_000, 48_000)
"""Rates that the FIR converts among. Others (44.1 kHz files) go through soxr: `wav.read`."""

_HALF_LENGTH = 16
# Half-length 16 has its transition band 0.29 of the lower Nyquist frequency wide at 75 dB (Kaiser's formula). Ending it
# at 1.1 keeps speech flat to 0.81; what folds back lies above the band that speech lives in.
_KAISER_BETA = 7.4
_CUTOFF = 0.945
_BLOCK = 96
"""Input samples that one row of the product advances. More rows copy more, wider rows multiply more zeros."""
_MIN = np.float32(-32768.0)
_MAX = np.float32(32767.0)


@lru_cache(maxsize=64)
def _design(up: int, down: int, half_length: int) -> tuple[Float32Array, int, int]:
    """The banded matrix of one row, input samples of a row, and the delay in samples at `up` times the input rate.

    A row of `history + step` input samples times the matrix gives `step * up / down` output samples. Computed once for
    a ratio: every session of the process shares the (read-only) matrix.
    """
    widest = max(up, down)
    half = ceil(half_length * widest / down) * down  # a whole number of output samples
    position = np.arange(-half, half + 1) / widest
    taps = _CUTOFF * np.sinc(_CUTOFF * position) * np.kaiser(2 * half + 1, _KAISER_BETA)
    taps *= up / taps.sum()
    step = down * max(1, _BLOCK // down)
    history = _history(up, half)
    matrix = np.zeros((history + step, step // down * up), dtype=np.float64)
    for column in range(matrix.shape[1]):
        newest = column * down // up
        for row in range(newest + history + 1):
            index = column * down - (row - history) * up
            if 0 <= index <= 2 * half and row < matrix.shape[0]:
                matrix[row, column] = taps[index]
    # Each phase passes constants exactly: an own sum per phase would be heard as a whistle on a loud low note.
    matrix /= matrix.sum(axis=0, keepdims=True)
    frozen = np.ascontiguousarray(matrix, dtype=np.float32)
    frozen.setflags(write=False)
    return frozen, step, half


def _history(up: int, half: int) -> int:
    return ceil(2 * half / up)


class Resampler:
    """One stream of int16 mono from one rate to another; filter state carries over between chunks of any length.

    `quality="fir"`: constant delay (`delay_ms`), output as long as the input at once, alias below -70 dB.
    `quality="soxr"`: flatter to the band's edge and -100 dB alias, but held back in blocks: 21 ms on average and up to
    38 ms at 48 to 16 kHz, up to 118 ms from 8 kHz. Only on request.
    """

    __slots__ = (
        "_buffer",
        "_carry",
        "_down",
        "_history",
        "_matrix",
        "_product",
        "_rows",
        "_size",
        "_soxr",
        "_step",
        "_up",
        "_view",
        "delay_ms",
        "from_hz",
        "to_hz",
    )  # fmt: skip

    def __init__(self, from_hz: int, to_hz: int, *, quality: Quality = "fir", half_length: int = _HALF_LENGTH) -> None:
        """Args: rates of `RATES_HZ`; `half_length` in samples of the lower rate. Raises ValueError for other rates."""
        for name, rate_hz in (("from_hz", from_hz), ("to_hz", to_hz)):
            if rate_hz not in RATES_HZ:
                raise ValueError(f"{name} = {rate_hz}: use one of {', '.join(map(str, RATES_HZ))}")
        if not 4 <= half_length <= 128:
            raise ValueError(f"half_length = {half_length}: use 4 to 128")
        self.from_hz = from_hz
        self.to_hz = to_hz
        self.delay_ms = 0.0
        """Constant delay of the FIR. 0 for soxr, whose stream keeps its time line but gives samples late."""
        self._soxr: Any = None
        self._up = 1
        self._down = 1
        if from_hz == to_hz:
            return
        if quality == "soxr":
            import soxr  # on first use: most processes never need it

            self._soxr = soxr.ResampleStream(from_hz, to_hz, 1, dtype="int16", quality="HQ")
            return
        common = gcd(from_hz, to_hz)
        self._up, self._down = to_hz // common, from_hz // common
        self._matrix, self._step, half = _design(self._up, self._down, half_length)
        self._history = _history(self._up, half)
        self.delay_ms = half / self._up / from_hz * 1000
        self._carry = 0
        self._size = -1
        self._buffer = np.zeros(self._history, dtype=np.float32)

    def push(self, pcm: Int16Array) -> Int16Array:
        """Convert the next chunk. Args: pcm of shape (n,). Returns n * to_hz / from_hz samples; where that is no whole
        number, the odd input samples wait for the next chunk."""
        if self._up == self._down:
            if self._soxr is None:
                return pcm
            held: Int16Array = self._soxr.resample_chunk(pcm)
            return held
        size = pcm.shape[0]
        if size != self._size:
            self._resize(size)
        carry, history, buffer = self._carry, self._history, self._buffer
        end = history + carry + size
        buffer[history + carry : end] = pcm
        usable = (carry + size) // self._down * self._down
        product = self._product
        # The overlapping view is copied: BLAS refuses rows that overlap, and NumPy's own loop is ten times slower.
        np.copyto(self._rows, self._view)
        np.matmul(self._rows, self._matrix, out=product)
        np.rint(product, out=product)
        np.maximum(product, _MIN, out=product)
        np.minimum(product, _MAX, out=product)
        converted: Int16Array = product.ravel()[: usable // self._down * self._up].astype(np.int16)
        self._carry = carry + size - usable
        kept = history + self._carry
        buffer[:kept] = buffer[end - kept : end]
        return converted

    def push_bytes(self, pcm: bytes) -> bytes:
        """As `push`, int16 little-endian bytes in and out."""
        return self.push(np.frombuffer(pcm, dtype="<i2")).tobytes()

    def flush(self) -> Int16Array:
        """The tail that the filter still holds. The stream then starts anew."""
        if self._soxr is not None:
            tail: Int16Array = self._soxr.resample_chunk(np.zeros(0, dtype=np.int16), last=True)
            self._soxr.clear()
            return tail
        if self._up == self._down:
            return np.zeros(0, dtype=np.int16)
        missing = -self._carry % self._down
        wanted = ceil(self.delay_ms * self.from_hz / 1000 / self._down) * self._down
        tail = self.push(np.zeros(missing + wanted, dtype=np.int16))
        self._carry = 0
        self._buffer[:] = 0.0
        return tail

    def _resize(self, size: int) -> None:
        """Scratch arrays for chunks of this size; streams keep to one size, so this is rare."""
        rows = ceil((size + self._down - 1) / self._step) or 1
        buffer = np.zeros(self._history + rows * self._step + self._down, dtype=np.float32)
        kept = self._history + self._carry
        buffer[:kept] = self._buffer[:kept]
        self._buffer = buffer
        self._size = size
        width = self._history + self._step
        itemsize = buffer.itemsize
        self._view = np.lib.stride_tricks.as_strided(buffer, (rows, width), (self._step * itemsize, itemsize))
        self._rows = np.empty((rows, width), dtype=np.float32)
        self._product = np.empty((rows, self._matrix.shape[1]), dtype=np.float32)


def resample_whole(pcm: Int16Array, from_hz: int, to_hz: int) -> Int16Array:
    """All of a recording at another rate of `RATES_HZ`, by the FIR, its delay taken out: sample 0 stays at 0 ms.

    Returns ceil(len * to_hz / from_hz) samples.
    """
    if from_hz == to_hz:
        return pcm
    stream = Resampler(from_hz, to_hz)
    delay = round(stream.delay_ms * to_hz / 1000)
    wanted = ceil(len(pcm) * to_hz / from_hz)
    padding = ceil((delay + 1) * from_hz / to_hz) + from_hz // gcd(from_hz, to_hz)
    converted = stream.push(np.concatenate([pcm, np.zeros(padding, dtype=np.int16)]))
    return converted[delay : delay + wanted]
