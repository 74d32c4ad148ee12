from __future__ import annotations

import msgspec
import pytest

from bridge.core.words import EndReason, Participant, ParticipantId
from bridge.transports.livekit_room.membership import (
    CALL_STATUS,
    PUBLISH_ON_BEHALF,
    Membership,
    TrackOffer,
    TrackWish,
    end_reason,
)
from bridge.transports.livekit_room.settings import LiveKitSettings

ANN, BOB = ParticipantId("ann"), ParticipantId("bob")


def members(**settings: object) -> Membership:
    return Membership(LiveKitSettings(room="r", **settings), now=0.0)  # type: ignore[arg-type]


def due(some: Membership) -> float | None:
    return some.deadline


def microphone(sid: str) -> TrackOffer:
    return TrackOffer(sid, is_audio=True, is_microphone=True)


@pytest.mark.parametrize(
    ("kind", "heard"),
    [("standard", True), ("sip", True), ("connector", True), ("agent", False), ("egress", False), ("bridge", False)],
)
def test_the_audience_is_chosen_by_kind(kind: str, heard: bool) -> None:
    assert members().joined(Participant(ANN, kind=kind)) is heard


def test_who_publishes_for_an_agent_is_never_heard() -> None:
    assert not members().joined(Participant(ANN, attributes={PUBLISH_ON_BEHALF: "agent-1"}))


@pytest.mark.parametrize("kind", ["agent", "egress"])
def test_no_setting_lets_agents_hear_each_other(kind: str) -> None:
    with pytest.raises(msgspec.ValidationError, match="audience"):
        msgspec.convert({"audience": [kind]}, LiveKitSettings)


def phone(status: str | None) -> Participant:
    return Participant(ANN, kind="sip", attributes={} if status is None else {CALL_STATUS: status})


@pytest.mark.parametrize("status", ["dialing", "ringing", "automation", "hangup", "something new"])
def test_a_phone_is_not_spoken_to_before_it_is_answered(status: str) -> None:
    some = members()
    assert not some.joined(phone(status))
    assert some.offered(ANN, microphone("m")) == []
    assert some.is_admitted(ANN) is False
    assert some.changed(phone("active"), 5.0) == (True, [TrackWish("m", subscribe=True)])


@pytest.mark.parametrize("status", ["active", None])
def test_a_phone_on_the_line_is_admitted_at_once(status: str | None) -> None:
    assert members().joined(phone(status))


def test_only_phones_ring() -> None:
    assert members().joined(Participant(ANN, attributes={CALL_STATUS: "ringing"}))


def test_a_ringing_phone_is_waited_for() -> None:
    some = members(join_timeout_s=10.0, empty_timeout_s=5.0)
    some.joined(phone("ringing"))
    assert due(some) is None
    some.joined(Participant(BOB))
    some.left(BOB, "client_initiated", 1.0)
    assert due(some) is None


def test_hanging_up_shows_first_as_a_status_and_still_ends_the_call() -> None:
    some = members(close_on="participant_left")
    some.joined(phone("active"))
    assert some.changed(phone("hangup"), 1.0) == (None, [])
    assert some.left(ANN, "client_initiated", 1.1) == (True, EndReason.PARTICIPANT_LEFT)


@pytest.mark.parametrize("reason", ["user_rejected", "user_unavailable", "sip_trunk_failure"])
def test_a_phone_that_nobody_answers_ends_the_call_without_having_joined_it(reason: str) -> None:
    some = members(close_on="participant_left")
    some.joined(phone("ringing"))
    assert some.left(ANN, reason, 1.0) == (False, EndReason.PARTICIPANT_LEFT)
    some = members(empty_timeout_s=5.0)
    some.joined(phone("ringing"))
    assert some.left(ANN, reason, 1.0) == (False, None)
    assert due(some) == 6.0


def test_an_allow_list_admits_only_its_identities() -> None:
    some = members(identities=("ann",))
    assert some.joined(Participant(ANN))
    assert not some.joined(Participant(BOB))
    assert some.offered(BOB, microphone("b")) == []


def test_only_microphone_audio_is_subscribed() -> None:
    some = members()
    some.joined(Participant(ANN))
    assert some.offered(ANN, TrackOffer("v", is_audio=False, is_microphone=False)) == []
    assert some.offered(ANN, TrackOffer("s", is_audio=True, is_microphone=False)) == []
    assert some.offered(ANN, microphone("m")) == [TrackWish("m", subscribe=True)]
    assert some.wants(ANN, "m")


def test_a_newer_track_replaces_and_the_older_comes_back() -> None:
    some = members()
    some.joined(Participant(ANN))
    some.offered(ANN, microphone("one"))
    assert some.offered(ANN, microphone("two")) == [TrackWish("two", subscribe=True), TrackWish("one", subscribe=False)]
    assert some.withdrawn(ANN, "two") == [TrackWish("one", subscribe=True)]
    assert some.withdrawn(ANN, "one") == []
    assert not some.wants(ANN, "one")


def test_a_track_told_twice_is_wished_once() -> None:
    some = members()
    some.joined(Participant(ANN))
    some.offered(ANN, microphone("m"))
    assert some.offered(ANN, microphone("m")) == []


def test_becoming_an_avatar_ends_being_heard_and_back() -> None:
    some = members()
    some.joined(Participant(ANN))
    some.offered(ANN, microphone("m"))
    avatar = Participant(ANN, attributes={PUBLISH_ON_BEHALF: "x"})
    assert some.changed(avatar, 1.0) == (False, [TrackWish("m", subscribe=False)])
    assert due(some) == 21.0
    assert some.changed(Participant(ANN), 2.0) == (True, [TrackWish("m", subscribe=True)])
    assert due(some) is None
    assert some.changed(Participant(ANN, attributes={"other": "x"}), 3.0) == (None, [])


def test_the_room_is_empty_some_time_after_the_last_one_left() -> None:
    some = members(empty_timeout_s=5.0)
    assert due(some) is None
    some.joined(Participant(ANN))
    some.joined(Participant(BOB))
    assert some.left(ANN, "client_initiated", 10.0) == (True, None)
    assert due(some) is None
    assert some.left(BOB, "client_initiated", 11.0) == (True, None)
    assert due(some) == 16.0
    assert some.expired(15.9) is None
    assert some.expired(16.0) is not None
    some.joined(Participant(BOB))
    assert due(some) is None


def test_a_flap_never_ends_a_call_at_once() -> None:
    some = members(empty_timeout_s=0.0)
    some.joined(Participant(ANN))
    some.left(ANN, "", 10.0)
    assert due(some) == 12.0


def test_nobody_ever_coming_ends_the_wait() -> None:
    assert members(join_timeout_s=30.0).deadline == 30.0
    assert members().deadline is None


def test_the_first_of_the_audience_hanging_up_ends_the_call() -> None:
    some = members(close_on="participant_left")
    some.joined(Participant(ANN))
    some.joined(Participant(BOB))
    assert some.left(BOB, "client_initiated", 1.0) == (True, None)
    assert some.left(ANN, "client_initiated", 2.0) == (True, EndReason.PARTICIPANT_LEFT)


def test_a_lost_connection_of_the_first_is_waited_for() -> None:
    some = members(close_on="participant_left")
    some.joined(Participant(ANN))
    assert some.left(ANN, "connection_timeout", 2.0) == (True, None)
    assert due(some) == 22.0


def test_never_means_never() -> None:
    some = members(close_on="never")
    some.joined(Participant(ANN))
    some.left(ANN, "client_initiated", 1.0)
    assert due(some) is None


def test_an_agent_leaving_is_no_event() -> None:
    some = members()
    some.joined(Participant(ANN, kind="agent"))
    assert some.left(ANN, "client_initiated", 1.0) == (False, None)
    assert due(some) is None


@pytest.mark.parametrize(
    ("reason", "end"),
    [
        ("room_deleted", EndReason.ROOM_DELETED),
        ("room_closed", EndReason.ROOM_DELETED),
        ("participant_removed", EndReason.REMOVED),
        ("duplicate_identity", EndReason.REMOVED),
        ("server_shutdown", EndReason.DISCONNECTED),
        ("something new", EndReason.DISCONNECTED),
    ],
)
def test_disconnect_reasons_become_end_reasons(reason: str, end: EndReason) -> None:
    assert end_reason(reason) is end
