"""Who of the room is heard, which of their tracks, and when the call is over. Decisions only: no I/O, no clock."""

from __future__ import annotations

import msgspec

from bridge.core.words import EndReason, Participant, ParticipantId
from bridge.transports.livekit_room.settings import LiveKitSettings

__all__ = ["CALL_STATUS", "HUNG_UP", "PUBLISH_ON_BEHALF", "Membership", "TrackOffer", "TrackWish", "end_reason"]

PUBLISH_ON_BEHALF = "lk.publish_on_behalf"
"""Attribute of an avatar worker: it speaks for an agent, so it is never heard as a user."""

CALL_STATUS = "sip.callStatus"
"""Attribute of a phone: dialing, ringing, automation, active, hangup. Before `active` nobody is on the line."""

HUNG_UP = frozenset(
    {"client_initiated", "room_deleted", "user_rejected", "user_unavailable", "sip_trunk_failure"},
)
"""Disconnect reasons of a participant who meant to go, or of a phone that nobody will answer. All others may be a
network that comes back."""

_FLAP_S = 2.0

_END_REASONS = {
    "client_initiated": EndReason.REQUESTED,
    "duplicate_identity": EndReason.REMOVED,
    "participant_removed": EndReason.REMOVED,
    "room_deleted": EndReason.ROOM_DELETED,
    "room_closed": EndReason.ROOM_DELETED,
}


def end_reason(disconnect_reason: str) -> EndReason:
    """Why our own connection ended, from LiveKit's name for it in lower case."""
    return _END_REASONS.get(disconnect_reason, EndReason.DISCONNECTED)


class TrackOffer(msgspec.Struct, frozen=True):
    """A track that somebody publishes."""

    sid: str
    is_audio: bool
    is_microphone: bool


class TrackWish(msgspec.Struct, frozen=True):
    """Subscribe to this track, or stop."""

    sid: str
    subscribe: bool


class _Member:
    __slots__ = ("admitted", "answered", "expected", "microphones", "participant", "wanted")

    def __init__(self, participant: Participant, expected: bool) -> None:
        self.participant = participant
        self.expected = expected
        """Of the audience, though the phone may still ring."""
        self.answered = _answered(participant)
        """For good: who hangs up is admitted until the room says that he left."""
        self.admitted = expected and self.answered
        self.microphones: list[str] = []
        """In the order of publication; the newest is wanted."""
        self.wanted: str | None = None


class Membership:
    """Admits participants and their newest microphone track; knows when nobody is left.

    Feed it what the room reports; it returns what to subscribe to. `deadline` says when to ask `expired`.
    """

    def __init__(self, settings: LiveKitSettings, now: float) -> None:
        self._audience = frozenset(settings.audience)
        self._identities = frozenset(settings.identities)
        self._close_on = settings.close_on
        self._empty_timeout_s = settings.empty_timeout_s
        self._members: dict[ParticipantId, _Member] = {}
        self._first: ParticipantId | None = None
        self._deadline: float | None = now + settings.join_timeout_s if settings.join_timeout_s > 0 else None
        self._deadline_detail = "nobody came"

    def expects(self, participant: Participant) -> bool:
        """True if the model may hear this participant, a phone once it is answered."""
        if participant.kind not in self._audience or participant.attributes.get(PUBLISH_ON_BEHALF):
            return False
        return not self._identities or participant.id in self._identities

    def joined(self, participant: Participant) -> bool:
        """A participant is there. True if admitted, and so worth an event. A phone that rings is waited for.

        Told twice of somebody who joins while we do, it keeps what he publishes.
        """
        before = self._members.get(participant.id)
        member = self._members[participant.id] = _Member(participant, self.expects(participant))
        if before is not None:
            member.microphones, member.wanted = before.microphones, before.wanted
        if member.expected:
            self._deadline = None
            if self._first is None:
                self._first = participant.id
        return member.admitted

    def disconnected(self) -> None:
        """Our own connection is over, and every track with it. Who is there is asked for his tracks in the next."""
        for member in self._members.values():
            member.microphones.clear()
            member.wanted = None

    def changed(self, participant: Participant, now: float) -> tuple[bool | None, list[TrackWish]]:
        """Attributes changed. Returns the new admission if that changed, else None; and what to subscribe to."""
        member = self._members.get(participant.id)
        if member is None:
            return None, []
        member.participant = participant
        member.answered = member.answered or _answered(participant)
        before, member.expected = member.expected, self.expects(participant)
        if member.expected:
            self._deadline = None
        elif before:
            self._maybe_empty(now)
        admitted = member.expected and member.answered
        if admitted == member.admitted:
            return None, []
        member.admitted = admitted
        return admitted, self._choose(member)

    @property
    def present(self) -> tuple[ParticipantId, ...]:
        """Everybody that is there, heard or not."""
        return tuple(self._members)

    def left(
        self, who: ParticipantId, reason: str, now: float, *, at_least_s: float = 0.0
    ) -> tuple[bool, EndReason | None]:
        """A participant is gone. Returns whether it was admitted, and the reason if that ends the call.

        Args: at_least_s is how long who did not hang up is waited for, s, where `empty_timeout_s` is shorter.
        """
        member = self._members.pop(who, None)
        if member is None or not member.expected:
            return False, None
        if self._close_on == "participant_left" and who == self._first and reason in HUNG_UP:
            return member.admitted, EndReason.PARTICIPANT_LEFT
        # When our own connection is renewed, everybody seems to leave without a reason and comes back at once.
        self._maybe_empty(now, at_least_s=0.0 if reason in HUNG_UP else max(at_least_s, _FLAP_S))
        return member.admitted, None

    def offered(self, who: ParticipantId, track: TrackOffer) -> list[TrackWish]:
        """A track was published. Returns what to subscribe to now: the newest microphone of an admitted one."""
        member = self._members.get(who)
        if member is None or not (track.is_audio and track.is_microphone) or track.sid in member.microphones:
            return []
        member.microphones.append(track.sid)
        return self._choose(member)

    def withdrawn(self, who: ParticipantId, sid: str) -> list[TrackWish]:
        """A track is no longer published. An older one that is still there takes its place."""
        member = self._members.get(who)
        if member is None or sid not in member.microphones:
            return []
        member.microphones.remove(sid)
        if member.wanted == sid:
            member.wanted = None  # it is gone by itself: nothing to unsubscribe
        return self._choose(member)

    def wants(self, who: ParticipantId, sid: str) -> bool:
        """True if frames of this track are to be heard."""
        member = self._members.get(who)
        return member is not None and member.admitted and member.wanted == sid

    def is_admitted(self, who: ParticipantId) -> bool | None:
        """None: nobody of this identity is there."""
        member = self._members.get(who)
        return None if member is None else member.admitted

    @property
    def deadline(self) -> float | None:
        """When to ask `expired`, loop time in s; None: not now."""
        return self._deadline

    def expired(self, now: float) -> str | None:
        """Why the call is over by time, if it is: the end reason is then ROOM_EMPTY."""
        return self._deadline_detail if self._deadline is not None and now >= self._deadline else None

    def _maybe_empty(self, now: float, at_least_s: float = 0.0) -> None:
        if self._close_on == "never" or any(member.expected for member in self._members.values()):
            return
        self._deadline = now + max(self._empty_timeout_s, at_least_s)
        self._deadline_detail = f"nobody of the audience for {self._empty_timeout_s:g} s"

    @staticmethod
    def _choose(member: _Member) -> list[TrackWish]:
        newest = member.microphones[-1] if member.admitted and member.microphones else None
        if newest == member.wanted:
            return []
        wishes = [TrackWish(newest, subscribe=True)] if newest is not None else []
        if member.wanted is not None:
            wishes.append(TrackWish(member.wanted, subscribe=False))
        member.wanted = newest
        return wishes


def _answered(participant: Participant) -> bool:
    """True for all but a phone that is still being called. A phone of which nothing is said is on the line."""
    return participant.kind != "sip" or participant.attributes.get(CALL_STATUS, "active") == "active"
