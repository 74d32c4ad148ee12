"""Direct calls as a caller has them: plain aiortc, real HTTP and UDP on loopback. With speech: tests/e2e."""

from __future__ import annotations

import pytest

from bridge.core.words import EndReason
from tests.fakes.caller import Caller, serving
from tests.fakes.leftovers import nothing_left
from tests.fakes.webrtc import until

pytestmark = pytest.mark.timeout(60)


async def test_typed_words_are_answered_and_shown() -> None:
    async with serving() as (here, _), Caller(here) as ada:
        await ada.call()
        await until(lambda: ada.of_type("hello"))
        ada.send(type="text", text="how late is it")
        await until(lambda: "how late is it" in ada.captions("agent"), 15)
        await until(lambda: any(caption["final"] for caption in ada.of_type("caption")))


async def test_who_is_muted_is_not_heard() -> None:
    async with serving() as (here, process), Caller(here) as ada:
        await ada.call()
        await until(lambda: process.bridges)
        (bridge,) = process.bridges.values()
        await until(lambda: bridge.snapshot().counters["fast.frames_in"] > 5)
        ada.send(type="mute", muted=True)
        heard_s, frames = ada.ear.heard_s, bridge.snapshot().counters["fast.frames_in"]
        await until(lambda: ada.ear.heard_s > heard_s + 0.5)
        assert bridge.snapshot().counters["fast.frames_in"] - frames < 10
        ada.send(type="mute", muted=False)
        await until(lambda: bridge.snapshot().counters["fast.frames_in"] > frames + 20)


@pytest.mark.parametrize("way", ["message", "delete"])
async def test_hanging_up_ends_the_call_with_a_goodbye(way: str) -> None:
    async with nothing_left(3.0), serving() as (here, process), Caller(here) as ada:
        await ada.call()
        await until(lambda: ada.of_type("hello"))
        if way == "message":
            ada.send(type="hang_up")
        else:
            assert (await ada.ask("DELETE", ada.location, ada.token))[0] == 204
        await until(lambda: ada.of_type("ended"))
        assert ada.of_type("ended") == [{"type": "ended", "reason": "participant_left"}]
        await until(lambda: process.ended)
        assert (process.ended[0].reason, process.bridges) == (EndReason.PARTICIPANT_LEFT, {})


async def test_who_vanishes_is_missed_in_bounded_time() -> None:
    async with serving({"webrtc": {"disconnected_timeout_s": 1.0}}) as (here, process), Caller(here) as ada:
        await ada.call()
        await until(lambda: process.bridges)
        for transceiver in ada.connection.getTransceivers():  # his network is gone: no packet, no goodbye
            ice = transceiver.sender.transport.transport._connection
            for protocol in ice._protocols:
                protocol.transport.abort()
        await until(lambda: process.ended, 5)
        assert process.ended[0].reason is EndReason.DISCONNECTED


async def test_a_caller_who_does_not_come_is_not_waited_for() -> None:
    async with nothing_left(3.0), serving({"webrtc": {"connect_timeout_s": 1.0, "max_calls": 1}}) as (here, process):
        async with Caller(here) as ada, Caller(here) as bob:
            ada.token, bob.token = await ada.new_token(), await bob.new_token()
            status, _ = await ada.offer_call(await ada.offer(""))
            assert status == 201
            status, body = await bob.offer_call(await bob.offer(""))
            assert (status, body["error"]["code"]) == (503, "full")
            await until(lambda: process.ended, 5)
            assert "did not come" in str(process.ended[0].error)
            status, _ = await bob.offer_call(bob.connection.localDescription.sdp)
            assert status == 201, "his token was not used up, and there is room again"
