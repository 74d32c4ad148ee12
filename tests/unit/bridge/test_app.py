"""One process, many calls: they end together when asked, and alone when one fails."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from bridge.app import GrownCounters, Process, make_model, make_room, make_stand_ins, run
from bridge.config import Config, LogSettings, read
from bridge.core.errors import ConfigError, RoomError
from bridge.core.words import EndReason
from bridge.lanes.telemetry import Snapshot
from bridge.transports.contract import TransportListener
from bridge.transports.loopback import LoopbackRoom
from providers.contract import SessionStart, SpeechModel
from providers.errors import ProviderUnavailable
from providers.health import HealthSettings
from providers.signal.formats import PCM16_24K
from tests.fakes.hand_model import HandModel, HandSession


class LockedRoom(LoopbackRoom):
    async def open(self, listener: TransportListener) -> None:
        raise RoomError("the door is locked")


class SlowRoom(LoopbackRoom):
    async def open(self, listener: TransportListener) -> None:
        await asyncio.get_running_loop().create_future()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - a condition of the outside has no event to wait for
            await asyncio.sleep(0.005)


async def test_a_call_that_fails_leaves_the_others_alone() -> None:
    process, healthy = Process(), LoopbackRoom()
    calls = {
        "locked": (LockedRoom(), HandModel(), Config(), ()),
        "healthy": (healthy, HandModel(), Config(), ()),
    }
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(process.serve(calls), name="serving")
        await until(lambda: "healthy" in process.bridges and process.ended)
        assert not serving.done()
        healthy.end(EndReason.ROOM_DELETED)
        ended = await serving
    assert [(call.room, call.reason, str(call.error or "")) for call in ended] == [
        ("locked", None, "the door is locked"),
        ("healthy", EndReason.ROOM_DELETED, ""),
    ]


async def test_stop_ends_every_call_after_what_is_being_said() -> None:
    process, room, model = Process(), LoopbackRoom(), HandModel()
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(process.serve({"a": (room, model, Config(), ())}), name="serving")
        await until(lambda: process.bridges and process.bridges["a"].leader)
        model.session.says("r1", b"\1\0" * (PCM16_24K.size(300) // 2))
        process.stop()
        ended = await serving
    assert [call.reason for call in ended] == [EndReason.REQUESTED]
    assert len(room.heard()) == PCM16_24K.size(300)


async def test_stop_does_not_wait_for_a_room_that_is_still_being_joined() -> None:
    process = Process()
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(process.serve({"slow": (SlowRoom(), HandModel(), Config(), ())}), name="serving")
        await asyncio.sleep(0.02)
        process.stop()
        async with asyncio.timeout(5):
            ended = await serving
    assert [call.reason for call in ended] == [EndReason.REQUESTED]


async def test_the_collector_is_off_during_calls_and_back_afterwards() -> None:
    process, room = Process(), LoopbackRoom()
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(process.serve({"a": (room, HandModel(), Config(), ())}), name="serving")
        await until(lambda: process.bridges)
        assert not gc.isenabled()
        room.end()
        await serving
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


def test_the_first_signal_asks_and_the_second_ends() -> None:
    code = """
import asyncio, os, signal
from bridge.app import run
async def stubborn():
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.sleep(0.05)
    os.kill(os.getpid(), signal.SIGINT)
    await asyncio.sleep(60)
try:
    run(stubborn, lambda: print("asked"))
except KeyboardInterrupt:
    print("ended")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=15, check=True)
    assert done.stdout.split() == ["asked", "ended"]


@pytest.mark.parametrize(
    "deaf",
    [
        """
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass
""",
        "    await asyncio.to_thread(time.sleep, 60)",
    ],
    ids=["a task", "a thread"],
)
def test_nothing_survives_a_second_signal_for_long(deaf: str) -> None:
    code = f"""
import asyncio, os, signal, time
from bridge import app
app._AT_ONCE_S = 0.3
async def work():
    loop = asyncio.get_running_loop()
    for delay_s in (0.1, 0.2):
        loop.call_later(delay_s, os.kill, os.getpid(), signal.SIGTERM)
{deaf}
app.run(work, lambda: None)
"""
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, "without a goodbye" in done.stderr) == (130, True)
    assert time.monotonic() - began < 15


async def test_how_many_calls_are_drained_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    process, rooms = Process(), {name: LoopbackRoom() for name in "abc"}
    with caplog.at_level("INFO"):
        async with asyncio.TaskGroup() as group:
            calls = {name: (room, HandModel(), Config(), ()) for name, room in rooms.items()}
            serving = group.create_task(process.serve(calls), name="serving")
            await until(lambda: len(process.bridges) == 3)
            process.stop()
            process.stop()
            await serving
    told = [line for line in caplog.messages if line.startswith("stopping")]
    assert told == ["stopping: calls drained=3 within_s=10, calls joining=0 are given up"]


def test_work_that_heeds_the_first_signal_ends_with_its_result() -> None:
    stopped = asyncio.Event()

    async def work() -> str:
        os.kill(os.getpid(), signal.SIGTERM)
        await stopped.wait()
        return "done"

    assert run(work, stopped.set) == "done"


def test_a_missing_key_is_found_before_anything_is_opened() -> None:
    with pytest.raises(ConfigError, match="OPENAI_API_KEY"):
        make_model(read({"provider": "openai"}, {}), {})


def test_the_models_of_failover_stand_in_in_their_order() -> None:
    config = read({"failover": ["openai", "gemini"]}, {})
    keys = {"OPENAI_API_KEY": "sk-1", "GOOGLE_API_KEY": "AIza-1"}
    assert [model.name for model in make_stand_ins(config, keys)] == ["openai", "gemini"]
    with pytest.raises(ConfigError, match="GOOGLE_API_KEY"):
        make_stand_ins(config, {"OPENAI_API_KEY": "sk-1"})


def test_every_problem_of_the_model_is_reported_at_once() -> None:
    config = read({"provider": "openai", "speech": {"voice": "Puck"}}, {})
    with pytest.raises(ConfigError) as caught:
        make_model(config, {})
    fields = {caught.value.field, *(other.field for other in caught.value.others)}
    assert {"OPENAI_API_KEY", "speech.voice"} <= fields


def test_a_declared_tool_without_a_function_is_refused() -> None:
    config = read({"speech": {"tools": [{"name": "weather"}, {"name": "clock"}]}}, {})
    with pytest.raises(ConfigError, match=r"speech\.tools\.weather = 'weather': no function") as caught:
        make_model(config, {}, serves={"clock"})
    assert not caught.value.others
    assert make_model(config, {}, serves={"clock", "weather"}).name == "scripted"


def test_video_for_a_model_that_takes_no_images_is_refused() -> None:
    config = read({"video": {"sources": ["camera", "screen"]}, "failover": ["openai"]}, {})
    keys = {"OPENAI_API_KEY": "sk-1"}
    with pytest.raises(ConfigError, match=r"video\.sources = 'camera, screen': \S+ \(scripted\) takes no images"):
        make_model(config, keys)
    assert make_stand_ins(config, keys)
    config = read({"video": {"sources": ["camera"]}, "provider": "openai", "failover": ["scripted"]}, {})
    assert make_model(config, keys)
    with pytest.raises(ConfigError, match=r"video\.sources"):
        make_stand_ins(config, keys)


def test_stills_larger_than_the_model_takes_are_refused() -> None:
    keys = {"OPENAI_API_KEY": "sk-1"}

    def openai(max_bytes: int, **own: object) -> SpeechModel:
        video = {"sources": ["camera"], "max_bytes": max_bytes}
        return make_model(read({"provider": "openai", "video": video, "providers": {"openai": own}}, {}), keys)

    with pytest.raises(ConfigError, match=r"video\.max_bytes = 195859: \S+ \(openai\) takes images of 195858 bytes"):
        openai(195_859, transport="webrtc")
    for own in ({"transport": "webrtc", "sideband": True}, {}):
        assert openai(195_859, **own).capabilities.max_image_bytes is None
    assert openai(195_858, transport="webrtc").capabilities.max_image_bytes == 195_858


@pytest.mark.parametrize(
    ("key", "value"), [("ca_file", "/nowhere/ca.pem"), ("proxy", "nowhere:3128")], ids=["ca_file", "proxy"]
)
@pytest.mark.parametrize(("provider", "variable"), [("openai", "OPENAI_API_KEY"), ("gemini", "GOOGLE_API_KEY")])
def test_a_connection_that_cannot_be_dialled_is_a_wrong_setting(
    provider: str, variable: str, key: str, value: str
) -> None:
    config = read({"provider": provider, "connection": {key: value}}, {})
    with pytest.raises(ConfigError) as caught:
        make_model(config, {variable: "a-key-that-is-long"})
    assert caught.value.field == f"connection.{key}"


def test_a_room_without_credentials_names_the_variables() -> None:
    with pytest.raises(ConfigError, match="LIVEKIT_API_KEY, LIVEKIT_API_SECRET"):
        make_room(read({"livekit": {"room": "a"}}, {}), {})


async def test_a_bug_in_one_call_ends_that_call_alone() -> None:
    class BrokenModel(HandModel):
        async def connect(self, start: SessionStart | None = None) -> HandSession:
            raise ZeroDivisionError("a bug")

    process, healthy = Process(), LoopbackRoom()
    calls = {"broken": (LoopbackRoom(), BrokenModel(), Config(), ()), "healthy": (healthy, HandModel(), Config(), ())}
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(process.serve(calls), name="serving")
        await until(lambda: process.ended)
        assert not serving.done()
        healthy.end(EndReason.ROOM_DELETED)
        ended = await serving
    assert [(call.room, str(call.error or "")) for call in ended] == [
        ("broken", "internal error: ZeroDivisionError('a bug')"),
        ("healthy", ""),
    ]


def test_only_counters_that_grew_are_told(caplog: pytest.LogCaptureFixture) -> None:
    grown = GrownCounters("a")
    with caplog.at_level("INFO"):
        grown.tell(Snapshot("a", 1.0, 60.0, {"x.lost": 2, "x.late": 0, "tools_now": 3}))
        grown.tell(Snapshot("a", 2.0, 120.0, {"x.lost": 5, "x.late": 0, "tools_now": 1}))
        grown.tell(Snapshot("a", 3.0, 180.0, {"x.lost": 5, "x.late": 0, "tools_now": 1}))
    assert caplog.messages == [
        "call counters grown call=a age_s=60 x.lost=2(+2) tools_now=3(+3)",
        "call counters grown call=a age_s=120 x.lost=5(+3)",
    ]


@pytest.mark.parametrize(("every_s", "told"), [(1.0, True), (0.0, False)])
async def test_a_running_call_tells_its_counters(every_s: float, told: bool, caplog: pytest.LogCaptureFixture) -> None:
    process, room = Process(), LoopbackRoom()
    config = Config(log=LogSettings(counters_every_s=every_s))
    with caplog.at_level("INFO"):
        async with asyncio.TaskGroup() as group:
            serving = group.create_task(process.serve({"a": (room, HandModel(), config, ())}), name="serving")
            await until(lambda: process.bridges)
            process.bridges["a"].telemetry.beat(1.0)
            room.end()
            await serving
    assert any(line.startswith("call counters grown call=a ") for line in caplog.messages) is told


async def test_calls_share_what_is_configured_of_endpoints_and_what_became_of_them_is_told_at_the_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    process, room, model = Process(health=HealthSettings(failures_to_open=1, open_s=0.01)), LoopbackRoom(), HandModel()
    model.refuse = [ProviderUnavailable("away")]
    with caplog.at_level("INFO"):
        async with asyncio.TaskGroup() as group:
            serving = group.create_task(process.serve({"a": (room, model, Config(), ())}), name="serving")
            await until(lambda: model.sessions)
            room.end()
            await serving
    assert process.counters() == {
        "endpoints.attempts": 2, "endpoints.failures": 1, "endpoints.openings": 1, "endpoints.refused_retries": 0
    }  # fmt: skip
    told = [line for line in caplog.messages if line.startswith("endpoint ")]
    assert told == [
        "endpoint is left alone endpoint=hand hand-1 for_s=0: away",
        "endpoint is well again endpoint=hand hand-1",
        "endpoint counters endpoint=hand hand-1 "
        "endpoints.attempts=2 endpoints.failures=1 endpoints.openings=1 endpoints.refused_retries=0",
    ]
