"""The talk of the WebRTC benchmark has its markers where they are looked for, and no holes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.babble import BABBLE_HZ
from bench.markers import Capture, find
from bench.webrtc import holes_ms, write_talk
from providers.signal import wav


def test_markers_are_where_they_are_looked_for_and_talk_has_no_holes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.webrtc.CACHE", tmp_path)
    talk = wav.read(str(write_talk(tmp_path / "talk.wav", 15.0)), BABBLE_HZ)
    positions = np.arange(0, len(talk), 480)
    ear = Capture(BABBLE_HZ, talk, positions, 50.0 + positions / BABBLE_HZ)
    for number, at_s in enumerate((2.0, 7.0, 12.0)):
        found = find(ear, 5000 + number, 50.0 + at_s - 0.3, 50.0 + at_s + 1.5)
        assert found is not None and ear.moment(found.sample) == pytest.approx(50.0 + at_s, abs=1e-3)
    assert holes_ms(talk, BABBLE_HZ) == []


def test_a_hole_is_found_with_its_length_and_a_pause_is_none() -> None:
    talk = np.full(48_000, 3000, dtype=np.int16)
    talk[20_000:44_000] = 0
    talk[4_800:5_760] = 0
    talk[9_600:9_960] = 0  # 15 ms are none
    talk[-1_200:] = 0  # its end, too, may be that of a pause
    assert holes_ms(talk, 24_000) == [40.0]
