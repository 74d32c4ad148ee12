"""Direct calls with speech both ways: plain aiortc, real HTTP and UDP on loopback, the scripted model behind."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest

from bridge.core.words import EndReason
from tests.e2e.audio import Samples, find, from_pcm, read_wav, resampled, speechlike
from tests.fakes.caller import Caller, serving
from tests.fakes.leftovers import nothing_left
from tests.fakes.webrtc import until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

HZ = 48_000
ROOT = Path(__file__).parents[2]
SAID = resampled(*read_wav(ROOT / "tests" / "data" / "question.wav"), HZ)
"""Real speech: what only resembles it is what a speech codec spends its bits against."""
ATTACK_S = 6.0


def heard_by(caller: Caller) -> Samples:
    return from_pcm(caller.ear.capture().samples.tobytes())


def followed(said: Samples, heard: Samples) -> float:
    """How alike they are from the first word on, each 100 ms looked for within 80 ms of its place, weighted by energy.

    Jitter buffers find their delay in the first second, by steps of some ms: the beginning is what is held on to.
    """
    piece, slack = HZ // 10, HZ * 80 // 1000
    at = int(find(said[: HZ // 4], heard, HZ).at_s * HZ)
    total = weights = 0.0
    for start in range(0, len(said) - piece + 1, piece):
        part = said[start : start + piece]
        place = max(at + start - slack, 0)
        found = find(part, heard[place : at + start + piece + slack], HZ)
        weight = float((part**2).sum())
        total += weight * found.correlation
        weights += weight
    return total / weights


async def test_a_caller_is_heard_from_his_first_word_and_hears_the_answer() -> None:
    async with nothing_left(3.0), serving() as (here, process), Caller(here) as ada:
        ada.say(SAID)  # from the first packet on
        await ada.call()
        await until(lambda: ada.of_type("hello"))
        hello = ada.of_type("hello")[0]
        assert (hello["version"], hello["provider"]) == (1, "scripted") and hello["identity"].startswith("guest-")
        assert ada.messages[0] == hello, "the first of all"
        await until(lambda: {"type": "state", "state": "speaking"} in ada.messages, 15)
        await until(lambda: ada.messages[-1] == {"type": "state", "state": "listening"}, 15)
        (bridge,) = process.bridges.values()
        assert bridge.snapshot().counters["room.voice_dropped_ms"] == 0
        assert followed(SAID, heard_by(ada)) >= 0.9
        assert find(SAID[: HZ // 4], heard_by(ada), HZ).correlation >= 0.8, "its first quarter of a second too"
        (turn,) = ada.of_type("turn")
        assert turn["audible_ms"] > 0
        await ada.connection.close()
        await until(lambda: process.ended)
        assert process.ended[0].reason is EndReason.PARTICIPANT_LEFT


async def test_an_interruption_is_heard_at_once() -> None:
    async with serving() as (here, process), Caller(here) as ada:
        await ada.call()
        ada.say(speechlike(8, HZ, 4.0))
        await until(lambda: {"type": "state", "state": "speaking"} in ada.messages, 15)
        ada.send(type="interrupt")
        before = len(ada.messages)
        await until(lambda: {"type": "state", "state": "listening"} in ada.messages[before:], 1)
        (bridge,) = process.bridges.values()
        assert bridge.snapshot().counters["playout.flushes"] >= 1


async def test_two_callers_are_in_two_calls() -> None:
    threads = set(threading.enumerate())
    async with nothing_left(3.0), serving() as (here, process), Caller(here) as ada, Caller(here) as bob:
        await ada.call()
        await bob.call()
        await until(lambda: len(process.bridges) == 2)
        ada.say(SAID)
        await until(lambda: {"type": "state", "state": "speaking"} in ada.messages, 15)
        await until(lambda: ada.messages[-1] == {"type": "state", "state": "listening"}, 15)
        assert find(SAID, heard_by(bob), HZ).correlation < 0.3
        assert not [message for message in bob.messages if message.get("state") == "speaking"]
        ada.send(type="hang_up")
        await until(lambda: len(process.bridges) == 1)
        bob.send(type="text", text="still here")
        await until(lambda: "still here" in bob.captions("agent"), 15)
    left = [thread.name for thread in set(threading.enumerate()) - threads]
    assert [name for name in left if not name.startswith("asyncio_")] == [], "the loop's executor keeps its own"


async def test_a_stop_lets_what_is_being_said_be_heard_and_says_goodbye() -> None:
    async with serving() as (here, _), Caller(here) as ada:
        await ada.call()
        ada.say(SAID)
        await until(lambda: {"type": "state", "state": "speaking"} in ada.messages, 15)
        here.stop()
        await until(lambda: ada.of_type("ended"), 10)
        assert ada.of_type("ended") == [{"type": "ended", "reason": "requested"}]
        assert followed(SAID, heard_by(ada)) >= 0.9
        status, body = await ada.offer_call("v=0")
        assert status in (400, 401, 503), body


class Arrivals:
    """When each of our packets reaches the caller, before his own jitter buffer, and what this thread had worked and
    waited for a processor by then: with the attacker on the same machine it waits, which is nobody's fault here."""

    def __init__(self, caller: Caller) -> None:
        self._loop = asyncio.get_running_loop()
        self._times: list[tuple[float, float, float]] = []
        (receiver,) = caller.connection.getReceivers()[:1]
        self._handle = receiver._handle_rtp_packet
        receiver._handle_rtp_packet = self._note  # type: ignore[method-assign]

    def __len__(self) -> int:
        return len(self._times)

    async def _note(self, packet: Any, *more: Any, **others: Any) -> None:
        self._times.append((self._loop.time(), _waited_s(), time.thread_time()))
        await self._handle(packet, *more, **others)

    def worst_ms(self, since: int = 0) -> float:
        """The longest time between two, of which this thread could have used."""
        pairs = pairwise(self._times[since:])
        return max(later[0] - before[0] - (later[1] - before[1]) for before, later in pairs) * 1000

    def most_work_ms(self, since: int = 0) -> float:
        """The most that this thread had to do between two: a gap of that length is of our own making."""
        return max(later[2] - before[2] for before, later in pairwise(self._times[since:])) * 1000


def _waited_s() -> float:
    """Of this thread, ready to run and without a processor (Linux)."""
    try:
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0


async def attacked(caller: Caller, page_token: str) -> dict[str, Any]:
    command = ("nice", sys.executable, "-m", "tests.fakes.hostile", caller.address, page_token, str(ATTACK_S))
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    told, _ = await process.communicate()
    assert process.returncode == 0
    found: dict[str, Any] = json.loads(told)
    return found


async def test_a_running_call_does_not_notice_hostile_callers() -> None:
    async with nothing_left(6.0), serving() as (here, process), Caller(here) as ada:
        await ada.call()
        await until(lambda: process.bridges)
        arrivals = Arrivals(ada)
        await until(lambda: len(arrivals) > 100)
        memory = psutil.Process().memory_info().rss
        before = len(arrivals)
        page_token = here.address_with_token().partition("#token=")[2]
        async with asyncio.TaskGroup() as group:
            attack = group.create_task(attacked(ada, page_token), name="attack")
            await asyncio.sleep(1.0)
            ada.say(SAID)
            await until(lambda: {"type": "state", "state": "speaking"} in ada.messages, 20)
            await until(lambda: ada.messages[-1] == {"type": "state", "state": "listening"}, 20)
            heard = heard_by(ada)
        told = attack.result()
        grown_mb = (psutil.Process().memory_info().rss - memory) / 1e6
        assert arrivals.most_work_ms(before) <= 60.0
        assert arrivals.worst_ms(before) <= 60.0
        assert followed(SAID, heard) >= 0.9
        assert grown_mb < 60
        answers = {kind: {int(status) for status in counted} for kind, counted in told["answers"].items()}
        assert answers.pop("own call") == {201}
        assert answers.pop("token") == {200}
        assert answers.pop("offer") <= {201, 429, 503}
        expected = {
            "no token": 401, "forged": 401, "page token": 401, "call token": 401, "huge": 413, "malformed": 400,
            "many lines": 400, "no SDP": 400, "bad JSON": 400, "no such call": 404,
        }  # fmt: skip
        for kind, status in expected.items():
            assert (answers[kind] <= {status, 0} and status in answers[kind]) or kind == "huge", (kind, answers[kind])
        assert told["longest"] < 500
        counters = here.server.counters()
        assert counters["http.errors"] == 0 and counters["serve.load_now"] <= 10
        ada.send(type="text", text="are you still there")
        await until(lambda: "are you still there" in ada.captions("agent"), 15)
