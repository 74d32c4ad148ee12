"""The live resampler: exact lengths, constant delay, clean speech."""

from __future__ import annotations

import gc
import itertools

import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.signal.resample import RATES_HZ, Int16Array, Resampler, resample_whole

PAIRS = [pair for pair in itertools.product(RATES_HZ, RATES_HZ) if pair[0] != pair[1]]
LIVE = [(48_000, 16_000), (24_000, 48_000), (48_000, 24_000), (24_000, 16_000), (16_000, 24_000), (8_000, 16_000),
        (24_000, 8_000), (8_000, 24_000)]  # fmt: skip


def noise(size: int, seed: int = 1) -> Int16Array:
    return np.random.default_rng(seed).integers(-9000, 9000, size).astype(np.int16)


def sine(rate_hz: int, frequency_hz: float, amplitude: float = 16_000, seconds: float = 1.0) -> Int16Array:
    time_s = np.arange(int(rate_hz * seconds)) / rate_hz
    return np.rint(amplitude * np.sin(2 * np.pi * frequency_hz * time_s)).astype(np.int16)


def gain_db(pcm: Int16Array, amplitude: float = 16_000) -> float:
    """Of the middle, against a sine of this amplitude."""
    middle = pcm[len(pcm) // 10 : -len(pcm) // 10].astype(float)
    return 20 * float(np.log10(np.sqrt((middle**2).mean()) / (amplitude / np.sqrt(2)) + 1e-9))


def in_chunks(stream: Resampler, pcm: Int16Array, sizes: list[int]) -> Int16Array:
    parts: list[Int16Array] = []
    position = 0
    for size in itertools.cycle(sizes):
        if position >= len(pcm):
            return np.concatenate(parts)
        parts.append(stream.push(pcm[position : position + size]))
        position += size
    raise AssertionError("unreachable")


@pytest.mark.parametrize(("from_hz", "to_hz"), PAIRS)
@pytest.mark.parametrize("frame_ms", [10, 20, 60])
def test_every_frame_gives_exactly_its_share_at_once(from_hz: int, to_hz: int, frame_ms: int) -> None:
    stream = Resampler(from_hz, to_hz)
    frame = noise(from_hz * frame_ms // 1000)
    assert {len(stream.push(frame)) for _ in range(20)} == {to_hz * frame_ms // 1000}


@pytest.mark.parametrize(("from_hz", "to_hz"), PAIRS)
def test_streaming_equals_one_shot(from_hz: int, to_hz: int) -> None:
    pcm = noise(from_hz)
    whole = Resampler(from_hz, to_hz).push(pcm)
    streamed = in_chunks(Resampler(from_hz, to_hz), pcm, [from_hz // 50])
    assert len(whole) == len(streamed) == to_hz
    # One step of int16: BLAS may add the same products in another order.
    assert np.abs(whole.astype(int) - streamed).max() <= 1


@settings(max_examples=40, deadline=None)
@given(pair=st.sampled_from(PAIRS), sizes=st.lists(st.integers(0, 700), min_size=1, max_size=8))
def test_the_chunk_size_makes_no_difference(pair: tuple[int, int], sizes: list[int]) -> None:
    pcm = noise(3000)
    whole = Resampler(*pair).push(pcm)
    streamed = in_chunks(Resampler(*pair), pcm, [*sizes, 100])
    assert len(streamed) == len(whole)
    assert np.abs(whole.astype(int) - streamed).max(initial=0) <= 1


@pytest.mark.parametrize(("from_hz", "to_hz"), PAIRS)
def test_the_delay_is_what_it_says_and_never_grows(from_hz: int, to_hz: int) -> None:
    stream = Resampler(from_hz, to_hz)
    click_every = from_hz // 10
    pcm = np.zeros(from_hz * 3, dtype=np.int16)
    pcm[::click_every] = 20_000
    out = in_chunks(stream, pcm, [from_hz // 50])
    for number in (1, 15, 28):
        expected = number * to_hz / 10 + stream.delay_ms * to_hz / 1000
        window = out[int(expected) - 40 : int(expected) + 40].astype(float)
        found = int(expected) - 40 + float((np.arange(len(window)) * window**2).sum() / (window**2).sum())
        assert found == pytest.approx(expected, abs=0.6)


@pytest.mark.parametrize(
    ("pair", "delay_ms"), [((48_000, 16_000), 1.0), ((24_000, 48_000), 2 / 3), ((8_000, 16_000), 2)]
)
def test_the_delay_is_sixteen_samples_of_the_lower_rate(pair: tuple[int, int], delay_ms: float) -> None:
    assert Resampler(*pair).delay_ms == pytest.approx(delay_ms)


@pytest.mark.parametrize(("from_hz", "to_hz"), LIVE)
def test_speech_passes_unchanged_up_to_three_quarters_of_the_band(from_hz: int, to_hz: int) -> None:
    band_hz = min(from_hz, to_hz) / 2
    for share in (0.1, 0.5, 0.75):
        assert gain_db(resample_whole(sine(from_hz, share * band_hz), from_hz, to_hz)) == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize(("from_hz", "to_hz"), [pair for pair in LIVE if pair[0] > pair[1]])
def test_what_lies_above_the_new_band_does_not_fold_back(from_hz: int, to_hz: int) -> None:
    for share, limit_db in ((1.1, -74), (1.25, -80)):
        assert gain_db(resample_whole(sine(from_hz, share * to_hz / 2), from_hz, to_hz)) < limit_db


@pytest.mark.parametrize(("from_hz", "to_hz"), [pair for pair in LIVE if pair[0] < pair[1]])
def test_no_mirror_image_appears_above_the_old_band(from_hz: int, to_hz: int) -> None:
    out = resample_whole(sine(from_hz, 0.35 * from_hz), from_hz, to_hz).astype(float)
    spectrum = np.abs(np.fft.rfft(out * np.hanning(len(out))))
    frequency = np.fft.rfftfreq(len(out), 1 / to_hz)
    image = spectrum[frequency > 0.6 * from_hz].max() / spectrum.max()
    assert 20 * np.log10(image) < -70


@pytest.mark.parametrize(("from_hz", "to_hz"), LIVE)
def test_agrees_with_soxr_on_speech_band_noise(from_hz: int, to_hz: int) -> None:
    spectrum = np.fft.rfft(noise(from_hz).astype(float))
    spectrum[np.fft.rfftfreq(from_hz, 1 / from_hz) > 0.7 * min(from_hz, to_hz) / 2] = 0
    pcm = np.fft.irfft(spectrum, from_hz).astype(np.int16)
    reference = soxr.resample(pcm, from_hz, to_hz, quality="VHQ").astype(float)
    found = resample_whole(pcm, from_hz, to_hz).astype(float)
    middle = slice(to_hz // 10, -to_hz // 10)
    difference = found[middle] - reference[middle]
    assert 10 * np.log10((difference**2).mean() / (reference[middle] ** 2).mean()) < -55


def test_loud_input_is_clipped_not_wrapped() -> None:
    square = np.where(np.arange(4800) // 40 % 2, 32_767, -32_768).astype(np.int16)
    out = resample_whole(square, 48_000, 16_000)
    assert out.max() == 32_767 and out.min() == -32_768
    assert np.all(np.sign(out[20:26]) == np.sign(out[23]))


def test_a_constant_stays_that_constant() -> None:
    for from_hz, to_hz in PAIRS:
        out = Resampler(from_hz, to_hz).push(np.full(from_hz // 5, 12_345, dtype=np.int16))
        assert set(out[len(out) // 2 :].tolist()) == {12_345}


def test_flush_gives_the_tail_and_starts_anew() -> None:
    stream = Resampler(48_000, 16_000)
    pcm = noise(960)
    first = np.concatenate([stream.push(pcm), stream.flush()])
    assert len(first) == 320 + 16
    again = np.concatenate([stream.push(pcm), stream.flush()])
    assert np.array_equal(first, again)


def test_the_whole_keeps_its_place_and_length() -> None:
    for from_hz, to_hz in PAIRS:
        pcm = np.zeros(from_hz // 10 + 1, dtype=np.int16)
        pcm[from_hz // 20] = 30_000
        out = resample_whole(pcm, from_hz, to_hz)
        assert len(out) == -(-len(pcm) * to_hz // from_hz)
        assert abs(int(np.argmax(out)) - to_hz / 20) <= 1


def test_bytes_go_through_unchanged_where_the_rates_agree() -> None:
    assert Resampler(24_000, 24_000).push_bytes(b"\x01\x02\x03\x04") == b"\x01\x02\x03\x04"
    assert Resampler(24_000, 24_000).flush().size == 0


@pytest.mark.parametrize("rates", [(44_100, 16_000), (16_000, 0)])
def test_other_rates_are_refused_by_name(rates: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"_hz = \d+: use one of 8000"):
        Resampler(*rates)


def test_the_soxr_mode_loses_nothing_but_is_late() -> None:
    stream = Resampler(48_000, 16_000, quality="soxr")
    first = stream.push(noise(960))
    rest = np.concatenate([stream.push(noise(960)) for _ in range(9)])
    assert len(first) < 320
    assert len(first) + len(rest) + len(stream.flush()) == 3200


def test_a_frame_leaves_no_cyclic_garbage() -> None:
    stream, frame = Resampler(48_000, 16_000), noise(960)
    stream.push(frame)
    gc.collect()
    gc.disable()
    try:
        for _ in range(200):
            stream.push(frame)
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_streams_share_one_set_of_taps() -> None:
    one, two = Resampler(48_000, 16_000), Resampler(48_000, 16_000)
    assert one._matrix is two._matrix and not one._matrix.flags.writeable
