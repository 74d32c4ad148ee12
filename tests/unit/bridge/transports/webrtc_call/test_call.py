"""A direct call: what the caller does is told in order and once, and what he is sent is bounded and exact."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import numpy as np
import pytest

from bridge.core.errors import ModelFailed, RoomError, RoomInUse
from bridge.core.words import (
    AgentState,
    AudioMuted,
    AudioStarted,
    AudioUnmuted,
    Caption,
    EarlyAudio,
    EndReason,
    InterruptRequested,
    Participant,
    ParticipantId,
    ParticipantJoined,
    ParticipantLeft,
    RoomEnded,
    RoomEvent,
    TextReceived,
    ToolActivity,
    ToolState,
    VoiceHeard,
)
from bridge.transports.webrtc_call import DirectCallSettings, WebRtcCall
from bridge.transports.webrtc_call.call import check_offer
from providers.webrtc.peer import Peer
from tests.fakes.leftovers import nothing_left
from tests.fakes.webrtc import LOOPBACK, Remembering, tone, until

ADA = ParticipantId("ada")
FRAME = bytes(960)
COME = [ParticipantJoined(Participant(ADA, "Ada")), AudioStarted(ADA, "direct"), VoiceHeard()]


class Listener:
    def __init__(self) -> None:
        self.events: list[RoomEvent] = []
        self.frames: list[bytes] = []

    def on_audio(self, participant: ParticipantId, pcm: bytes, now: float) -> None:
        self.frames.append(pcm)

    def on_event(self, event: RoomEvent) -> None:
        self.events.append(event)


class FakePeer:
    """In the place of the connection."""

    def __init__(self, user: WebRtcCall, settings: object, servers: object, *, name: str) -> None:
        from providers.webrtc.peer import PeerStats

        self.user, self.settings = user, settings
        self.sent: list[dict[str, Any]] = []
        self.stats = PeerStats(dropped_audio_ms=40)
        self.closes = 0

    async def answer(self, offer_sdp: str) -> str:
        return "v=0"

    def send_message(self, message: str) -> None:
        self.sent.append(json.loads(message))

    async def close(self) -> None:
        self.closes += 1
        self.user.peer_closed("closed")


@pytest.fixture(autouse=True)
def no_network(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "real" not in request.node.name:
        monkeypatch.setattr("providers.webrtc.peer.Peer", FakePeer)


async def called(**settings: Any) -> tuple[WebRtcCall, FakePeer, Listener]:
    """A call that stands."""
    call, listener = await answered(**settings), Listener()
    peer: Any = call._peer
    call.peer_connected()
    call.channel_open()
    await call.open(listener)
    return call, peer, listener


async def answered(**settings: Any) -> WebRtcCall:
    call = WebRtcCall(DirectCallSettings(**settings), identity="ada", name="Ada", call="c1", provider="p", model="m")
    assert await call.answer("v=0") == "v=0"
    return call


async def test_the_caller_comes_and_is_greeted_first_of_all() -> None:
    call, peer, listener = await called()
    assert listener.events == COME
    assert peer.sent == [
        {"type": "hello", "version": 1, "call": "c1", "provider": "p", "model": "m", "identity": "ada", "video": False}
    ]
    can = call.capabilities
    assert (can.paces_itself, can.can_flush, can.tells_hearers, can.captions, can.states) == (True,) * 5
    assert can.activities and can.tail_ms > 0


async def test_what_is_said_before_the_call_is_opened_is_not_lost() -> None:
    call, listener = await answered(), Listener()
    call.peer_connected()
    for number in range(3):
        call.audio_received(bytes([number]) * 960, 0.0)
    await call.open(listener)
    assert listener.events[:-1] == COME
    assert listener.events[-1] == EarlyAudio(ADA, bytes(960) + b"\1" * 960 + b"\2" * 960)
    for _ in range(2):
        call.audio_received(FRAME, 0.0)
    assert listener.frames == [FRAME] * 2


async def test_what_is_kept_before_it_is_opened_is_bounded() -> None:
    call, listener = await answered(), Listener()
    for number in range(300):
        call.audio_received(bytes([number % 256]) * 960, 0.0)
    call.peer_connected()
    await call.open(listener)
    (early,) = [event for event in listener.events if isinstance(event, EarlyAudio)]
    assert len(early.pcm) == 250 * 960 and early.pcm[-1] == 299 % 256
    assert call.counters()["early_audio_cut_ms"] == 1_000


async def test_what_is_told_before_it_is_opened_is_bounded() -> None:
    call, listener = await answered(), Listener()
    call.peer_connected()
    for number in range(64):
        call._tell(TextReceived(ADA, str(number)))
    await call.open(listener)
    assert [event.text for event in listener.events if isinstance(event, TextReceived)] == [str(n) for n in range(61)]
    assert call.counters()["early_events_refused"] == 3


async def test_who_is_muted_is_told_once_and_not_heard() -> None:
    call, _, listener = await called()
    for muted in (True, True, False, False):
        call.message_received(json.dumps({"type": "mute", "muted": muted}))
        call.audio_received(FRAME, 0.0)
    assert listener.events[3:] == [AudioMuted(ADA), AudioUnmuted(ADA)]
    assert len(listener.frames) == 2


async def test_typed_words_and_interruptions_arrive() -> None:
    call, _, listener = await called(chat_limit=5)
    for message in ({"type": "text", "text": "hello you"}, {"type": "text", "text": "  "}, {"type": "interrupt"}):
        call.message_received(json.dumps(message))
    assert listener.events[3:] == [TextReceived(ADA, "hello"), InterruptRequested()]
    assert call.counters()["chat_cut"] == 1


async def test_chat_may_be_off() -> None:
    call, _, listener = await called(chat=False)
    call.message_received('{"type":"text","text":"hello"}')
    assert listener.events == COME and call.counters()["chat_refused"] == 1


async def test_bad_messages_are_counted_and_complained_of_now_and_then() -> None:
    call, peer, listener = await called()
    for _ in range(10):
        call.message_received("nonsense")
        call.message_received(b"nonsense")
    assert [(message["type"], message["code"]) for message in peer.sent[1:]] == [("error", "invalid")]
    assert call.counters()["messages_bad"] == 20 and listener.events == COME


async def test_a_flood_of_messages_is_bounded() -> None:
    call, _, listener = await called(messages_per_s=5.0)
    for _ in range(1_000):
        call.message_received('{"type":"interrupt"}')
    assert len(listener.events) - len(COME) <= 11
    assert call.counters()["messages_refused"] >= 989


@pytest.mark.parametrize(
    ("reason", "ends"),
    [
        ("ice: nothing received for 5 s", EndReason.DISCONNECTED),
        ("channel: closed by the other side", EndReason.PARTICIPANT_LEFT),
        ("dtls: closed", EndReason.PARTICIPANT_LEFT),
    ],
)
async def test_a_caller_who_goes_is_told_of_once(reason: str, ends: EndReason) -> None:
    call, _, listener = await called()
    call.peer_closed(reason)
    call.hang_up()
    call.message_received('{"type":"hang_up"}')
    call.audio_received(FRAME, 0.0)
    assert listener.events[3:] == [ParticipantLeft(ADA, reason), RoomEnded(ends, reason)]
    assert listener.frames == []
    await call.close()


async def test_hanging_up_is_answered_with_a_goodbye_behind_the_last_words() -> None:
    call, peer, listener = await called()

    def last_words(event: RoomEvent) -> None:
        if isinstance(event, RoomEnded):
            call.show_caption(Caption("s", None, "bye", final=True))

    listener.on_event = last_words  # type: ignore[method-assign]
    call.message_received('{"type":"hang_up"}')
    assert [message["type"] for message in peer.sent[1:]] == ["caption", "ended"]
    assert peer.sent[-1]["reason"] == "participant_left"
    await call.close()
    assert [message["type"] for message in peer.sent].count("ended") == 1


async def test_the_end_by_us_says_why_and_releases_everything() -> None:
    call, peer, listener = await called()
    call.ends_because(EndReason.REQUESTED)
    await asyncio.gather(call.close(), call.close())
    await call.close()
    assert peer.sent[-1] == {"type": "ended", "reason": "requested"} and peer.closes == 1
    assert listener.events == COME, "our own end is not told to us"
    assert call.counters()["voice_dropped_ms"] == 40
    call.play(FRAME)
    call.flush()
    call.show_state(AgentState.IDLE)
    assert call.queued_ms(0.0) == 0.0


async def test_an_error_is_told_without_its_words() -> None:
    call, peer, _ = await called()
    call.ends_because(ModelFailed("wss://inner.example.com refuses key sk-123"))
    await call.close()
    assert [message.get("code") or message.get("reason") for message in peer.sent[1:]] == [
        "model_failed",
        "provider_failed",
    ]
    assert "example" not in str(peer.sent) and "sk-123" not in str(peer.sent)


async def test_captions_states_and_activities_are_sent_where_they_are_wanted() -> None:
    tool = ToolActivity("t1", "clock", ToolState.STARTED)
    for wanted, kinds in ((True, ["hello", "caption", "state", "tool"]), (False, ["hello"])):
        call, peer, _ = await called(captions=wanted, states=wanted, activities=wanted)
        call.show_caption(Caption("s", None, "hi", final=False))
        call.show_state(AgentState.SPEAKING)
        call.show_activity(tool)
        assert [message["type"] for message in peer.sent] == kinds


async def test_a_caller_who_does_not_come_is_an_error_with_a_mend() -> None:
    call = await answered(connect_timeout_s=1.0)
    with pytest.raises(RoomError, match=r"did not come within 1 s; .*TURN"):
        await call.open(Listener())
    await call.close()
    call = await answered()
    call.peer_closed("ice: no pair worked")
    with pytest.raises(RoomError, match="did not come: ice: no pair worked"):
        await call.open(Listener())


async def test_one_object_is_one_call() -> None:
    call, _, listener = await called()
    with pytest.raises(RoomInUse):
        await call.open(listener)
    with pytest.raises(RoomError, match="answer an offer first"):
        await WebRtcCall(DirectCallSettings(), identity="ada").open(listener)


def test_an_offer_is_looked_at_before_anything_is_done() -> None:
    for offer in ("", "hello", "v=0\r\n", "v=0\r\n" + "a=x\r\n" * 3_000):
        with pytest.raises(ValueError) as refused:
            check_offer(offer)
        assert len(str(refused.value)) < 200


async def test_real_speech_is_heard_and_a_flush_is_silence_from_the_next_packet() -> None:
    async with nothing_left(3.0):
        there, listener = Remembering(), Listener()
        caller = Peer(there, LOOPBACK, name="caller")
        call = WebRtcCall(DirectCallSettings(addresses=("127.0.0.1",)), identity="ada")
        await caller.accept(await call.answer(await caller.offer("roombridge")))
        await call.open(listener)
        await caller.connected()
        loop = asyncio.get_running_loop()
        call.play(tone(440, 1_000))
        assert 960 <= call.queued_ms(loop.time()) <= 1_000
        await until(lambda: np.abs(there.pcm).max(initial=0) > 4_000)
        call.flush()
        assert call.queued_ms(loop.time()) == 0.0
        heard = len(there.pcm)
        await until(lambda: len(there.pcm) > heard + 24_000 // 2)
        loud = np.flatnonzero(np.abs(there.pcm[heard:]) > 400)
        assert (loud[-1] if len(loud) else 0) < 24_000 * 0.12, "what was in the caller's jitter buffer, and no more"
        caller.send_audio(tone(330, 200))
        await until(lambda: any(np.abs(np.frombuffer(frame, np.int16)).max() > 4_000 for frame in listener.frames))
        assert {len(frame) for frame in listener.frames} == {960}
        await caller.close()
        await until(lambda: isinstance(listener.events[-1], RoomEnded))
        assert listener.events[-1].reason is EndReason.PARTICIPANT_LEFT  # type: ignore[union-attr]
        await call.close()
