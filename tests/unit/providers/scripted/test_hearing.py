"""What a scripted mind keeps of its input."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from providers.scripted.hearing import Hearing, Recording
from providers.scripted.scenario import ServerVad
from providers.scripted.voice import marker
from providers.signal import wav


def ramp(first: int, size: int) -> bytes:
    return np.arange(first, first + size, dtype=np.int16).tobytes()


def test_parts_are_found_by_their_place_also_after_the_oldest_went() -> None:
    recording = Recording(1000, limit_s=1.0)
    for index in range(30):
        recording.add(ramp(index * 100, 100), float(index))
    assert recording.total_ms == 3000 and 1900 <= recording.dropped_ms <= 2200
    assert recording.part(2500, 2503).tolist() == [2500, 2501, 2502]
    assert recording.part(0, 100).size == 0, "gone"
    assert recording.arrivals[-1].at == 29.0 and recording.arrivals[-1].position_ms == 2900
    assert all(arrival.position_ms >= recording.dropped_ms for arrival in recording.arrivals)


def test_what_was_heard_can_be_saved(tmp_path: Path) -> None:
    recording = Recording(16_000, limit_s=1.0)
    recording.add(ramp(0, 320), 0.0)
    recording.save(tmp_path / "heard.wav")
    assert wav.read(tmp_path / "heard.wav", 16_000).tobytes() == recording.heard == ramp(0, 320)


def test_half_a_sample_waits_for_its_other_half() -> None:
    hearing = Hearing(16_000, ServerVad(), 1.0)
    whole = ramp(0, 320)
    hearing.push(whole[:333], 0.0)
    hearing.push(whole[333:], 0.0)
    assert hearing.recording.heard == whole


def test_padding_never_reaches_into_the_turn_before() -> None:
    hearing = Hearing(24_000, ServerVad(silence_ms=100, prefix_padding_ms=5000), 60.0)
    spoken = marker(400, 1, -6.0).tobytes()
    begun: list[float] = []
    for pcm in (spoken, bytes(9600), spoken, bytes(9600)):
        for edge in hearing.push(pcm, 0.0):
            if edge.speaking:
                begun.append(hearing.begin(edge.at_ms, 5000))
            else:
                ended = hearing.end(edge.at_ms, 100)
                assert len(ended) <= 24 * 600
    assert begun[0] == 0.0 and begun[1] >= 400


def test_new_settings_start_on_the_same_clock() -> None:
    hearing = Hearing(24_000, ServerVad(enabled=False), 60.0)
    assert hearing.push(marker(500, 1, -6.0).tobytes(), 0.0) == []
    hearing.configure(ServerVad())
    (edge,) = hearing.push(marker(500, 1, -6.0).tobytes(), 0.0)
    assert 500 <= edge.at_ms <= 510


def test_new_settings_in_mid_speech_do_not_lose_the_turn() -> None:
    hearing = Hearing(24_000, ServerVad(), 60.0)
    (started,) = hearing.push(marker(500, 1, -6.0).tobytes(), 0.0)
    hearing.begin(started.at_ms, 300)
    hearing.configure(ServerVad(silence_ms=200))
    assert hearing.push(marker(300, 2, -6.0).tobytes(), 0.0) == []
    (stopped,) = hearing.push(bytes(48 * 400), 0.0)
    assert not stopped.speaking and 790 <= stopped.at_ms <= 810
    assert len(hearing.end(stopped.at_ms)) == stopped.at_ms * 24


def test_a_turn_under_way_is_dropped_when_detection_is_turned_off() -> None:
    hearing = Hearing(24_000, ServerVad(), 60.0)
    (started,) = hearing.push(marker(500, 1, -6.0).tobytes(), 0.0)
    hearing.begin(started.at_ms)
    hearing.configure(ServerVad(enabled=False))
    assert hearing.turn_from_ms is None and hearing.push(bytes(48_000), 0.0) == []
