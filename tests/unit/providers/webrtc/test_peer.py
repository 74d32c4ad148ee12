"""A connection with one of our own, and with plain aiortc, over real sockets on loopback."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from providers.signal.resample import Int16Array
from providers.webrtc.peer import Peer
from tests.fakes.webrtc import LOOPBACK, PlainClient, Remembering, on_loopback, tone, two_peers, until


def pitch(pcm: Int16Array, rate_hz: int = 24_000) -> float:
    """The strongest frequency of the last half second."""
    piece = pcm[-rate_hz // 2 :].astype(np.float64)
    spectrum = np.abs(np.fft.rfft(piece * np.hanning(len(piece))))
    return float(np.argmax(spectrum) * rate_hz / len(piece))


def sockets() -> int:
    return sum(1 for one in Path("/proc/self/fd").iterdir() if one.is_symlink() and "socket" in str(one.readlink()))


@pytest.fixture(autouse=True)
def loopback() -> Iterator[None]:
    with on_loopback():
        yield


async def test_two_peers_talk_and_write_both_ways() -> None:
    a, here, b, there = await two_peers()
    a.send_audio(tone(440, 1200))
    b.send_audio(tone(600, 1200))
    a.send_message("from a")
    b.send_message("from b")
    await until(lambda: len(here.pcm) > 26_000 and len(there.pcm) > 26_000)
    assert abs(pitch(here.pcm) - 600) < 5 and abs(pitch(there.pcm) - 440) < 5
    assert here.messages == ["from b"] and there.messages == ["from a"]
    assert here.told == there.told == ["connected", "open"]
    await a.close()
    await b.close()
    assert here.reasons == ["closed"] and len(there.reasons) == 1


async def test_what_became_of_a_connection_is_told_in_one_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="providers.webrtc.peer")
    a, here, b, _ = await two_peers()
    await until(lambda: len(here.pcm) > 5_000)
    for peer in (a, b, a):
        await peer.close()
    told = [record.getMessage() for record in caplog.records]
    assert [line.partition(" sent=")[0] for line in told] == [f"webrtc connection over name={name}" for name in "ab"]
    assert f" received={a.stats.packets_received} " in told[0] and a.stats.packets_received > 5


async def test_an_answer_that_comes_after_its_senders_first_checks_still_connects() -> None:
    """Over HTTP an answer takes its time, and whoever gave it does not wait. The roles are not thrown over by it."""
    for _ in range(6):
        here, there = Remembering(), Remembering()
        a, b = Peer(here, LOOPBACK, name="a"), Peer(there, LOOPBACK, name="b")
        answer = await b.answer(await a.offer("words"))
        await asyncio.sleep(0.06)
        await a.accept(answer)
        async with asyncio.timeout(5):
            await asyncio.gather(a.connected(), b.connected())
        await a.close()
        await b.close()


async def test_an_offer_is_answered_by_plain_aiortc() -> None:
    user, client = Remembering(), PlainClient(hertz=500)
    peer = Peer(user, LOOPBACK, name="ours")
    await peer.accept(await client.answer(await peer.offer("oai-events")))
    await asyncio.wait_for(peer.connected(), 10)
    peer.send_audio(tone(440, 1500))
    peer.send_message("hello")
    await until(lambda: client.channel is not None and client.messages)
    client.channel.send("and back")
    await until(lambda: len(user.pcm) > 30_000 and len(client.heard) > 55 and user.messages)
    assert client.channel.label == "oai-events" and client.messages == ["hello"] and user.messages == ["and back"]
    assert abs(pitch(user.pcm) - 500) < 5
    assert abs(pitch(np.concatenate(client.heard), 48_000) - 440) < 5
    await peer.close()
    await client.close()


async def test_plain_aiortc_offers_and_we_answer() -> None:
    user, client = Remembering(), PlainClient(hertz=500)
    peer = Peer(user, LOOPBACK, name="ours")
    peer.send_message("before it opened")
    await client.accept(await peer.answer(await client.offer("roombridge")))
    await asyncio.wait_for(peer.connected(), 10)
    peer.send_audio(tone(440, 1500))
    client.channel.send("hello")
    await until(lambda: len(user.pcm) > 30_000 and len(client.heard) > 55 and user.messages and client.messages)
    assert client.messages == ["before it opened"] and user.messages == ["hello"]
    assert abs(pitch(user.pcm) - 500) < 5
    assert abs(pitch(np.concatenate(client.heard), 48_000) - 440) < 5
    await client.close()
    await until(lambda: user.reasons)
    await peer.close()
    assert len(user.reasons) == 1


async def test_a_closed_connection_leaves_no_task_no_thread_and_no_socket() -> None:
    tasks, threads, before = asyncio.all_tasks(), set(threading.enumerate()), sockets()
    a, here, b, _ = await two_peers()
    await until(lambda: len(here.pcm) > 2_000)
    assert set(threading.enumerate()) == threads, "no thread of its own"
    await a.close()
    await b.close()
    await a.close()
    assert asyncio.all_tasks() == tasks and set(threading.enumerate()) == threads and sockets() == before
    assert here.reasons == ["closed"]


async def test_offered_video_becomes_a_track_only_where_it_is_wanted() -> None:
    from aiortc import VideoStreamTrack

    for wanted in (True, False):
        user, client = Remembering(), PlainClient()
        client.connection.addTrack(VideoStreamTrack())
        peer = Peer(user, msgspec.structs.replace(LOOPBACK, video=wanted), name="ours")
        await client.accept(await peer.answer(await client.offer("words")))
        await asyncio.wait_for(peer.connected(), 10)
        if wanted:
            [track] = user.tracks
            frame = await asyncio.wait_for(track.recv(), 10)
            assert frame.width == 640 and frame.height == 480
        else:
            assert user.tracks == []
        await until(lambda user=user: len(user.pcm) > 5_000)
        await client.close()
        await peer.close()
        assert [one.name for one in threading.enumerate() if one.name.endswith("decoder")] == []


async def test_a_paused_stream_sends_nothing_and_keeps_what_is_queued() -> None:
    a, _, b, _ = await two_peers()
    await until(lambda: b.stats.packets_received > 5)
    a.pause_audio(True)
    a.send_audio(tone(440, 400))
    sent = a.stats.packets_sent
    await asyncio.sleep(0.2)
    assert a.stats.packets_sent == sent and a.queued_ms(0) == 400
    a.pause_audio(False)
    await until(lambda: a.queued_ms(0) == 0)
    await a.close()
    await b.close()


async def test_a_muted_side_is_taken_for_gone_and_its_goodbye_is_not_heard() -> None:
    quick = msgspec.structs.replace(LOOPBACK, disconnected_timeout_s=0.6)
    a, _, b, there = await two_peers(LOOPBACK, quick)
    a.mute(True)
    await a.close()
    assert there.reasons == []
    await until(lambda: there.reasons)
    assert there.reasons == ["ice: nothing received for 0.6 s"]
    await b.close()


async def test_reports_let_the_other_side_tell_loss_and_round_trip() -> None:
    user, client = Remembering(), PlainClient()
    peer = Peer(user, LOOPBACK, name="ours")
    await client.accept(await peer.answer(await client.offer("words")))
    await asyncio.wait_for(peer.connected(), 10)

    async def found(kind: str, ready: Callable[[Any], bool]) -> Any:
        async with asyncio.timeout(8):
            while True:
                for one in (await client.connection.getStats()).values():
                    if one.type == kind and ready(one):
                        return one
                await asyncio.sleep(0.05)

    sent = await found("remote-outbound-rtp", lambda one: one.packetsSent > 40)
    assert abs(sent.remoteTimestamp.timestamp() - datetime.now(UTC).timestamp()) < 2
    assert sent.bytesSent > 0 and abs(sent.packetsSent - peer.stats.packets_sent) < 100
    heard = await found("remote-inbound-rtp", lambda one: one.roundTripTime is not None)
    assert heard.packetsLost == 0 and heard.fractionLost == 0 and 0 <= heard.roundTripTime < 0.2
    inbound = await found("inbound-rtp", lambda one: True)
    assert inbound.packetsLost == 0 and inbound.ssrc == peer._speech.ssrc
    await peer.close()
    await client.close()


async def test_a_stall_of_the_loop_is_left_out_and_the_clocks_stay_together() -> None:
    a, _, b, there = await two_peers()
    await until(lambda: len(there.audio) > 5_000)
    time.sleep(0.5)  # noqa: ASYNC251  the stall itself
    await asyncio.sleep(0.5)
    sent = a.stats.packets_sent
    pacer = a._pacer
    # A busy machine may stall it more often than we do.
    assert pacer is not None and a.stats.schedule_restarts >= 1 and a.stats.skipped_packets >= 15
    drift_ms = ((pacer.timestamp_at(a._loop.time()) - pacer._origin) & 0xFFFFFFFF) / 48 - (sent + pacer.skipped) * 20
    assert abs(drift_ms) < 25
    assert b.stats.jitter.lost == 0 and b.stats.jitter.restarts == 0, "a gap in time alone is no loss"
    await a.close()
    await b.close()


async def test_what_does_not_fit_the_queues_goes_and_is_counted() -> None:
    user = Remembering()
    peer = Peer(user, msgspec.structs.replace(LOOPBACK, send_queue_ms=100), name="ours")
    for number in range(10):
        peer.send_audio(bytes([number, 0]) * 480)
    assert peer.queued_ms(0.0) == 100 and peer.stats.dropped_audio_ms == 100
    peer.flush_audio()
    assert peer.queued_ms(0.0) == 0
    for number in range(300):
        peer.send_message(str(number))
    assert peer.stats.dropped_messages == 300 - LOOPBACK.message_queue
    await peer.close()
    assert user.reasons == ["closed"] and peer.stats.dropped_messages == 300


async def test_silence_is_heard_as_silence_and_speech_after_it_as_speech() -> None:
    a, _, b, there = await two_peers()
    a.send_audio(tone(440, 400))
    await until(lambda: len(there.audio) > 480 * 2 * 60)
    assert not np.abs(there.pcm[-480 * 10 :]).max() > 3
    mark = len(there.audio)
    a.send_audio(tone(440, 400))
    await until(lambda: len(there.audio) > mark + 480 * 2 * 30)
    assert np.abs(there.pcm[mark // 2 :]).max() == pytest.approx(8_000, rel=0.2)
    await a.close()
    await b.close()


async def test_another_stream_of_the_other_side_is_taken_up_and_a_stray_packet_is_not() -> None:
    a, _, b, there = await two_peers()
    a.send_audio(tone(440, 3_000))
    await until(lambda: len(there.audio) > 20_000)
    speech = a._speech
    old = speech.ssrc
    speech.ssrc = 1
    speech.send_packet(a._pacer, a._encoder, a._wire)  # type: ignore[arg-type]
    speech.ssrc = old
    await until(lambda: len(there.audio) > 40_000)
    assert b.stats.stream_changes == 0 and b.stats.bad_packets == 1
    speech.ssrc = 2
    speech.sequence = (speech.sequence + 7_000) & 0xFFFF
    mark = len(there.audio)
    await until(lambda: len(there.audio) > mark + 40_000)
    assert b.stats.stream_changes == 1 and b.stats.jitter.restarts == 1 and b.stats.jitter.lost <= 1
    assert abs(pitch(there.pcm) - 440) < 5
    await a.close()
    await b.close()


async def test_a_packet_costs_no_reference_cycle() -> None:
    a, _, b, there = await two_peers()
    a.send_audio(tone(440, 2_000))
    await until(lambda: len(there.audio) > 20_000)
    gc.collect()
    gc.disable()
    try:
        await asyncio.sleep(0.5)
        assert gc.collect() <= 5, "nothing for each packet"
    finally:
        gc.enable()
    await a.close()
    await b.close()


async def test_a_fault_of_the_library_ends_the_connection_instead_of_letting_it_hang(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from providers.webrtc.seam import Wire

    async def broken(*_: Any, **__: Any) -> None:
        raise AssertionError("what the other side wrote")

    monkeypatch.setattr(Wire, "connect", broken)
    here, there = Remembering(), Remembering()
    a, b = Peer(here, LOOPBACK, name="a"), Peer(there, LOOPBACK, name="b")
    await a.accept(await b.answer(await a.offer("words")))
    with pytest.raises(ConnectionError, match="AssertionError"):
        await a.connected()
    assert here.reasons == ["webrtc: AssertionError"]
    await a.close()
    await b.close()
    assert "could not be made" in caplog.text


@pytest.mark.parametrize("told", ["peer_connected", "channel_open", "audio_received", "message_received"])
async def test_a_bug_of_the_user_ends_the_connection_with_a_reason_instead_of_a_call_that_is_silent_for_ever(
    told: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> None:
        raise KeyError("a bug")

    here, there = Remembering(), Remembering()
    monkeypatch.setattr(there, told, broken)
    a, b = Peer(here, LOOPBACK, name="a"), Peer(there, LOOPBACK, name="b")
    a.send_message("hello")
    await a.accept(await b.answer(await a.offer("words")))
    await until(lambda: there.reasons)
    [reason] = there.reasons
    assert reason.startswith("bug: KeyError in ")
    assert "a bug ends the connection" in caplog.text and "KeyError: 'a bug'" in caplog.text
    await b.close()
    await a.close()
    assert there.reasons == [reason]


async def test_a_user_that_cannot_be_told_of_the_end_does_not_keep_the_sockets_open(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    before = sockets()
    a, here, b, _ = await two_peers()

    def broken(reason: str) -> None:
        raise KeyError(reason)

    monkeypatch.setattr(here, "peer_closed", broken)
    await a.close()
    await b.close()
    assert sockets() == before and "the end could not be told" in caplog.text
