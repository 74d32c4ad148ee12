"""What the room's events become, driven by hand: no server, no native room. Whole calls are in tests/e2e."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from livekit import rtc

from bridge.core.words import EndReason, ParticipantJoined, ParticipantLeft, RoomEvent
from bridge.transports.livekit_room.audience import Audience
from bridge.transports.livekit_room.settings import LiveKitSettings
from tests.fakes.fake_time import in_fake_time


class Remote:
    name, kind, disconnect_reason = "", rtc.ParticipantKind.PARTICIPANT_KIND_SIP, rtc.DisconnectReason.CLIENT_INITIATED

    def __init__(self, identity: str) -> None:
        self.identity, self.attributes = identity, {"sip.callStatus": "active"}
        self.track_publications: dict[str, Publication] = {}


class Bench:
    def __init__(self) -> None:
        self.handlers: dict[str, Callable[..., None]] = {}
        self.told: list[RoomEvent] = []
        self.ended: list[tuple[EndReason, str]] = []
        self.remote_participants: dict[str, Remote] = {}
        room: Any = self
        self.audience = Audience(
            LiveKitSettings(room="lobby", close_on="participant_left"),
            None,
            lambda *_: None,
            spawn=lambda work, _: work.close(),
            tell=self.told.append,
            end=lambda reason, detail: self.ended.append((reason, detail)),
        )
        self.audience.listen(room, None)  # type: ignore[arg-type]

    def on(self, event: str, handler: Callable[..., None]) -> None:
        self.handlers[event] = handler

    def off(self, event: str, handler: Callable[..., None]) -> None:
        del self.handlers[event]


async def test_a_phone_number_is_logged_for_debugging_only(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    bench, phone = Bench(), Remote("sip_+15550100")
    bench.handlers["participant_connected"](phone)
    bench.handlers["track_subscription_failed"](phone, "TR_1", "no such codec")
    bench.handlers["participant_disconnected"](phone)
    assert [type(event) for event in bench.told] == [ParticipantJoined, ParticipantLeft]
    assert bench.ended == [(EndReason.PARTICIPANT_LEFT, "the first of the audience left (client_initiated)")]
    warned = [record.getMessage() for record in caplog.records if record.levelno > logging.DEBUG]
    assert warned == ["lobby: track TR_1 cannot be heard: no such codec"]
    assert "sip_+15550100" in caplog.text
    bench.audience.forget()
    assert bench.handlers == {}


class Publication:
    kind, source, muted = rtc.TrackKind.KIND_AUDIO, rtc.TrackSource.SOURCE_MICROPHONE, False

    def __init__(self, sid: str) -> None:
        self.sid = sid
        self.asked: list[bool] = []

    def set_subscribed(self, subscribed: bool) -> None:
        self.asked.append(subscribed)


@in_fake_time
async def test_a_track_that_does_not_come_is_asked_for_again_until_it_is_withdrawn() -> None:
    bench, caller, track = Bench(), Remote("ann"), Publication("TR_1")
    caller.track_publications = {"TR_1": track}
    bench.handlers["participant_connected"](caller)
    bench.handlers["track_published"](track, caller)
    assert track.asked == [True]
    await asyncio.sleep(7)
    assert track.asked == [True, False, True, False, True]
    assert bench.audience.repeated_subscriptions == 2
    bench.handlers["track_unpublished"](track, caller)
    await asyncio.sleep(60)
    assert bench.audience.repeated_subscriptions == 2
    bench.audience.forget()


@in_fake_time
async def test_whoever_is_announced_twice_keeps_the_track_that_was_asked_for() -> None:
    bench, caller, track = Bench(), Remote("ann"), Publication("TR_1")
    caller.track_publications = {"TR_1": track}
    bench.handlers["participant_connected"](caller)
    bench.handlers["track_published"](track, caller)
    bench.handlers["participant_connected"](caller)
    await asyncio.sleep(3)
    assert track.asked == [True, False, True], "it is still wanted"
    bench.audience.forget()


@in_fake_time
async def test_whoever_is_still_there_after_our_own_loss_is_asked_for_the_same_track_in_the_new_room() -> None:
    bench, caller, track = Bench(), Remote("ann"), Publication("TR_1")
    caller.track_publications = {"TR_1": track}
    bench.handlers["participant_connected"](caller)
    bench.handlers["track_published"](track, caller)
    bench.audience.lose()
    again = Publication("TR_1")
    caller.track_publications = {"TR_1": again}
    room: Any = bench
    bench.remote_participants = {"ann": caller}
    bench.audience.listen(room, None)  # type: ignore[arg-type]
    bench.audience.greet()
    assert again.asked == [True]
    assert [type(event) for event in bench.told] == [ParticipantJoined]
    bench.audience.forget()
