"""The link over a peer connection, with a peer of hand: what it hands on, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import numpy as np
import pytest

from providers.contract import OutboxStats
from providers.webrtc.link import PeerLink
from tests.fakes.leftovers import nothing_left

LOUD = np.full(480, 4000, dtype="<i2").tobytes()


class HandPeer:
    """Keeps what it is given, and sends nothing by itself."""

    def __init__(self) -> None:
        self.audio: list[bytes] = []
        self.messages: list[str] = []
        self.flushes = self.closes = 0
        self.queued = 0.0
        self.closing_takes_s = 0.0

    def send_audio(self, pcm: bytes) -> None:
        self.audio.append(pcm)
        self.queued += len(pcm) / 48

    def flush_audio(self) -> None:
        self.flushes += 1
        self.queued = 0.0

    def queued_ms(self, now: float) -> float:
        return self.queued

    def send_message(self, message: str) -> None:
        self.messages.append(message)

    async def close(self) -> None:
        self.closes += 1
        await asyncio.sleep(self.closing_takes_s)


class HandLink:
    """Another link, for messages."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.user: object = None
        self.finished = False
        self.writable = True

    def attach(self, user: object) -> None:
        self.user = user

    def send(self, message: bytes) -> None:
        self.sent.append(message)

    def carry_audio(self, stats: OutboxStats) -> bool:
        return False

    def send_audio(self, audio: bytes) -> None: ...
    def drop_audio(self) -> None: ...

    def finish(self, code: int = 1000, reason: str = "") -> None:
        self.finished = True

    def abort(self, reason: str = "") -> None: ...
    async def wait_closed(self) -> None: ...


class Inbox:
    def __init__(self) -> None:
        self.messages: list[str | bytes] = []
        self.frames = 0
        self.ends: list[tuple[int, str]] = []
        self.writable = 0

    def message_received(self, message: str | bytes) -> None:
        self.messages.append(message)

    def audio_received(self, audio: bytes, now: float) -> None:
        self.frames += 1

    def link_writable(self) -> None:
        self.writable += 1

    def link_closed(self, code: int, reason: str) -> None:
        self.ends.append((code, reason))


def joined(sideband: HandLink | None = None) -> tuple[PeerLink, HandPeer, Inbox]:
    link = PeerLink(name="call", outbox_ms=1000, kept_silence_ms=700, close_timeout_s=0.2)
    peer, inbox = HandPeer(), Inbox()
    link.bind(peer)
    link.opened(sideband)
    return link, peer, inbox


async def test_messages_that_came_early_are_handed_on_first() -> None:
    link, peer, inbox = joined()
    link.message_received("one")
    link.attach(inbox)
    link.message_received("two")
    link.send(b'{"type":"x"}')
    assert (inbox.messages, peer.messages) == (["one", "two"], ['{"type":"x"}'])
    link.abort()
    await link.wait_closed()


async def test_audio_is_handed_to_the_sender_little_by_little_and_the_rest_is_told() -> None:
    link, peer, _ = joined()
    stats = OutboxStats()
    assert link.carry_audio(stats)
    link.send_audio(LOUD * 30)
    assert sum(map(len, peer.audio)) == len(LOUD) * 10
    assert (stats.waiting_audio_ms, stats.sent_audio_ms) == (400, 200)
    peer.queued = 0.0
    await asyncio.sleep(0.05)
    assert stats.sent_audio_ms >= 400
    link.drop_audio()
    assert (stats.waiting_audio_ms, peer.flushes) == (0, 1)
    link.abort()
    await link.wait_closed()


async def test_the_bound_is_that_of_the_outbox_and_drops_are_counted() -> None:
    link, _, _ = joined()
    stats = OutboxStats()
    link.carry_audio(stats)
    link.send_audio(LOUD * 100)
    assert stats.waiting_audio_ms + stats.sent_audio_ms <= 1000
    assert stats.dropped_audio_ms >= 1000
    link.abort()
    await link.wait_closed()


@pytest.mark.parametrize("ended", ["lost", "closed"])
async def test_what_still_waits_at_the_end_is_counted_as_dropped(ended: str) -> None:
    link, _, inbox = joined()
    link.attach(inbox)
    stats = OutboxStats()
    link.carry_audio(stats)
    link.send_audio(LOUD * 30)
    assert stats.waiting_audio_ms == 400
    if ended == "lost":
        link.peer_closed("the network is gone")
    else:
        link.finish()
    assert (stats.waiting_audio_ms, stats.dropped_audio_ms) == (0, 400)
    await link.wait_closed()
    assert stats.sent_audio_ms + stats.dropped_audio_ms == 600


async def test_a_goodbye_is_said_once_and_told_as_it_was_asked_for() -> None:
    async with nothing_left():
        link, peer, inbox = joined()
        said = []

        async def goodbye() -> None:
            said.append("bye")

        link.goodbye = goodbye
        link.attach(inbox)
        link.finish(1000)
        assert not link.writable
        link.finish(1000)
        link.peer_closed("closed")  # what the peer says of our own close
        await link.wait_closed()
        assert (said, peer.closes, inbox.ends) == (["bye"], 1, [(1000, "")])


async def test_a_goodbye_that_nobody_answers_is_bounded() -> None:
    async with nothing_left():
        link, peer, inbox = joined()
        link.goodbye = lambda: asyncio.sleep(60)
        link.attach(inbox)
        began = asyncio.get_running_loop().time()
        link.finish()
        await link.wait_closed()
        assert asyncio.get_running_loop().time() - began < 1
        assert (peer.closes, inbox.ends) == (1, [(1000, "")])


async def test_a_goodbye_that_fails_keeps_nothing_open(caplog: pytest.LogCaptureFixture) -> None:
    async def broken() -> None:
        raise KeyError("a bug")

    async with nothing_left():
        link, peer, inbox = joined()
        link.goodbye = broken
        link.attach(inbox)
        link.finish()
        await asyncio.wait_for(link.wait_closed(), 1)
        assert (peer.closes, inbox.ends) == (1, [(1000, "")]) and "the goodbye failed" in caplog.text


@pytest.mark.parametrize(
    "lose", [lambda link: link.peer_closed("ice: nothing received"), lambda link: link.abort("ice: nothing received")]
)
async def test_a_loss_is_told_at_once_and_tidied_up_behind(lose: Callable[[PeerLink], None]) -> None:
    async with nothing_left():
        link, peer, inbox = joined()
        peer.closing_takes_s = 0.1
        link.attach(inbox)
        lose(link)
        assert inbox.ends == [(1006, "ice: nothing received")]
        link.message_received("late")
        link.audio_received(LOUD, 0.0)
        link.send(b"late")
        link.send_audio(LOUD)
        await link.wait_closed()
        assert (peer.closes, inbox.messages, inbox.frames, peer.messages) == (1, [], 0, [])


async def test_an_end_before_anybody_listened_is_told_to_who_comes() -> None:
    link, _, inbox = joined()
    link.peer_closed("gone")
    assert not link.writable
    link.attach(inbox)
    assert inbox.ends == [(1006, "gone")]
    await link.wait_closed()


async def test_with_a_sideband_messages_go_there_and_the_data_channel_is_not_heard() -> None:
    side = HandLink()
    link, peer, inbox = joined(side)
    link.attach(inbox)
    link.send(b"to the side")
    link.message_received("from the channel")
    assert (side.sent, peer.messages) == ([b"to the side"], [])
    side.user.message_received("from the side")  # type: ignore[attr-defined]
    assert inbox.messages == ["from the side"]
    side.user.link_closed(1001, "time is up")  # type: ignore[attr-defined]
    assert inbox.ends == [(1001, "time is up")]
    await link.wait_closed()
    assert side.finished and peer.closes == 1


async def test_early_messages_are_bounded() -> None:
    link, _, inbox = joined()
    for number in range(100):
        link.message_received(str(number))
    link.attach(inbox)
    assert inbox.messages[-1] == "99" and len(inbox.messages) == 64
    link.abort()
    await link.wait_closed()
