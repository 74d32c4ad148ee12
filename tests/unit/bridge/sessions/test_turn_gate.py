"""Turns marked by the bridge: pre-roll first, nothing outside speech."""

from __future__ import annotations

from bridge.sessions.feed import SessionFeed
from bridge.sessions.turn_gate import TurnGate
from providers.contract import SessionStart
from providers.signal.formats import PCM16_24K
from tests.fakes.hand_model import CAPABILITIES, HandSession


def a_gate() -> tuple[TurnGate, HandSession]:
    session = HandSession(SessionStart(), CAPABILITIES)
    return TurnGate(SessionFeed(session, bus=PCM16_24K, room=PCM16_24K), frame_ms=20, pre_roll_ms=40), session


def test_speech_starts_with_what_came_just_before_it() -> None:
    gate, session = a_gate()
    for value in (b"aa", b"bb", b"cc"):
        gate.hear(value)
    assert session.heard == b""
    gate.speech_started()
    gate.hear(b"dd")
    assert session.heard == b"bbccdd"
    assert session.commands == ["start_activity"]


def test_after_speech_nothing_is_sent() -> None:
    gate, session = a_gate()
    gate.speech_started()
    gate.speech_stopped()
    gate.speech_stopped()
    gate.hear(b"aa")
    assert session.heard == b""
    assert session.commands == ["start_activity", "end_activity"]
