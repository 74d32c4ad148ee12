"""The tables agree with the recommendation, code by code and sample by sample."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest

from providers.signal.g711 import alaw_decode, alaw_encode, mulaw_decode, mulaw_encode
from providers.signal.resample import Int16Array

EVERY_CODE = bytes(range(256))
EVERY_SAMPLE = np.arange(-32_768, 32_768).astype(np.int16)


def mulaw_value(code: int) -> int:
    """ITU-T G.711 table 2, scaled from 14 to 16 bits."""
    code = ~code & 0xFF
    size = ((((code & 0x0F) * 2 + 33) << ((code >> 4) & 7)) - 33) * 4
    return -size if code & 0x80 else size


def alaw_value(code: int) -> int:
    """ITU-T G.711 table 1, scaled from 13 to 16 bits."""
    code ^= 0x55
    step, segment = code & 0x0F, (code >> 4) & 7
    size = (step * 2 + 1) * 8 if segment == 0 else ((step * 2 + 33) << (segment - 1)) * 8
    return size if code & 0x80 else -size


def test_every_code_has_the_value_of_the_recommendation() -> None:
    assert mulaw_decode(EVERY_CODE).tolist() == [mulaw_value(code) for code in EVERY_CODE]
    assert alaw_decode(EVERY_CODE).tolist() == [alaw_value(code) for code in EVERY_CODE]


@pytest.mark.parametrize(
    ("encode", "decode"), [(mulaw_encode, mulaw_decode), (alaw_encode, alaw_decode)], ids=["mulaw", "alaw"]
)
def test_a_sample_is_off_by_at_most_half_a_step_of_its_segment(
    encode: Callable[..., bytes], decode: Callable[..., Int16Array]
) -> None:
    clipped = np.clip(EVERY_SAMPLE.astype(int), -32_635, 32_635)
    error = np.abs(decode(encode(EVERY_SAMPLE)).astype(int) - clipped)
    assert np.all(error <= (np.abs(clipped) + 132) / 32 + 8)


@pytest.mark.parametrize(
    ("encode", "decode"), [(mulaw_encode, mulaw_decode), (alaw_encode, alaw_decode)], ids=["mulaw", "alaw"]
)
def test_a_decoded_code_encodes_to_itself(encode: Callable[..., bytes], decode: Callable[..., Int16Array]) -> None:
    again = decode(encode(decode(EVERY_CODE)))
    assert np.array_equal(again, decode(EVERY_CODE))


def test_silence_is_the_byte_that_telephony_expects() -> None:
    assert mulaw_encode(np.zeros(3, np.int16)) == b"\xff\xff\xff"
    assert alaw_encode(np.zeros(3, np.int16)) == b"\xd5\xd5\xd5"


def test_the_tables_equal_the_standard_librarys_own_where_it_still_has_them() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        audioop = pytest.importorskip("audioop", reason="Python 3.13 removed audioop")
    pcm = EVERY_SAMPLE.tobytes()
    assert mulaw_encode(EVERY_SAMPLE) == audioop.lin2ulaw(pcm, 2)
    assert alaw_encode(EVERY_SAMPLE) == audioop.lin2alaw(pcm, 2)
