"""A call goes from one provider to the other and back, and from sleep to speech, by their own protocols on sockets.

The services take 500 ms to accept a connection and 300 ms more for the setup, as real ones do.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import msgspec
import numpy as np
import pytest

from bridge.audio.mix import MixerSettings
from bridge.core.errors import ModelFailed
from bridge.facade import CallConfig, RoomBridge
from bridge.lanes.settings import CallSettings
from bridge.transports.loopback import LoopbackRoom
from providers.contract import SpeechModel
from providers.emulators.server import EmulatorServer
from providers.retry import RetryPolicy
from providers.scripted.scenario import Marker, Pace, Scenario, Session, TurnScript
from providers.settings import ConnectionSettings, SpeechSettings
from providers.signal.formats import PCM16_24K
from tests.conformance.longcall import provider_of

KEYS = {"GEMINI_API_KEY": "a-key", "OPENAI_API_KEY": "a-key"}
NAMES = ("gemini", "openai")
WEBRTC = "openai-webrtc"
BOTH_WAYS = pytest.mark.parametrize(("first", "second"), [NAMES, NAMES[::-1]])
EVERY_WAY = pytest.mark.parametrize(
    ("first", "second"), [NAMES, NAMES[::-1], ("gemini", WEBRTC), (WEBRTC, "gemini"), ("openai", WEBRTC)]
)
BOTH = pytest.mark.parametrize("provider", NAMES)
FRAME = PCM16_24K.size(20)
TIMES = Session(connect_delay_ms=500, setup_delay_ms=300)
IMPATIENT = RetryPolicy(base_s=0.05, longest_s=0.1, give_up_after_s=0.5)


def speaks_as(name: str) -> Scenario:
    """A service whose words tell who it is."""
    return Scenario(
        answer=Marker(duration_ms=300, seed=len(name), transcript=f"this is {name}"),
        prompted=Marker(duration_ms=300, seed=len(name), transcript=f"{name} was asked"),
        pace=Pace(speed=8, latency_ms=50),
        session=TIMES,
    )


def tells_a_story(name: str) -> Scenario:
    """The same, but its second answer is long."""
    story = Marker(duration_ms=4000, seed=3, transcript=f"{name} talks and talks on")
    return msgspec.structs.replace(speaks_as(name), turns=(TurnScript(turn=2, answer=story),))


class Call:
    """One call, and the services that it may be led by."""

    def __init__(self, room: LoopbackRoom, bridge: RoomBridge, services: dict[str, EmulatorServer]) -> None:
        self.room = room
        self.bridge = bridge
        self.services = services
        self.models: dict[str, SpeechModel] = {}

    async def hears(self, text: str) -> None:
        """The room has heard these words to their end."""
        await until(lambda: any(line.text.strip() == text for line in self.bridge.ledger.lines))

    def told(self, name: str) -> list[str]:
        """What the newest session of a service remembers, in its order."""
        return [line.text.strip() for line in self.services[name].connections[-1].brain.memory.lines]

    def counter(self, name: str) -> float:
        return self.bridge.snapshot().counters[name]


def likeness(pcm: bytes, service: EmulatorServer) -> float:
    """How like what was said at 24 kHz is to what the newest session heard, as a whole and at the best place."""
    recording = service.connections[-1].brain.hearing.recording
    heard, spoken = (np.frombuffer(sound, "<i2").astype(float) for sound in (recording.heard, pcm))
    if recording.rate_hz != 24_000:
        import soxr

        spoken = soxr.resample(spoken, 24_000, recording.rate_hz)
    size = 1 << (len(heard) + len(spoken)).bit_length()
    cross = np.fft.irfft(np.fft.rfft(heard, size) * np.conj(np.fft.rfft(spoken, size)), size)
    place = int(np.argmax(cross[: max(1, len(heard) - len(spoken) + 1)]))
    part = heard[place : place + len(spoken)]
    return float(np.corrcoef(part, spoken[: len(part)])[0, 1])


async def until(condition: Callable[[], object], within_s: float = 12) -> None:
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.01)


@asynccontextmanager
async def a_call(
    *names: str,
    settings: CallSettings,
    scenario: Callable[[str], Scenario] = speaks_as,
    mixer: MixerSettings = MixerSettings(),  # noqa: B008 - frozen
) -> AsyncIterator[Call]:
    """Led by the model of the first name; the others stand in."""
    async with AsyncExitStack() as stack:
        services: dict[str, EmulatorServer] = {}
        models: dict[str, SpeechModel] = {}
        for name in dict.fromkeys((*names, *NAMES, WEBRTC)):
            entry, way = provider_of(name)
            service = services[name] = EmulatorServer(entry.emulated(), scenario(name))
            await stack.enter_async_context(service)
            own = entry.settings_type()(base_url=service.base_url + ("/v1" if entry.name == "openai" else ""), **way)
            models[name] = entry.connector(SpeechSettings(), own, ConnectionSettings(), KEYS)
        room = LoopbackRoom()
        first, *stand_ins = (models[name] for name in names)
        bridge = RoomBridge(room, first, CallConfig(call=settings, mixer=mixer), stand_ins=stand_ins)
        async with bridge:
            call = Call(room, bridge, services)
            call.models = models
            await until(lambda: bridge.leader is not None)
            room.join("ada")
            yield call


@EVERY_WAY
async def test_the_other_provider_takes_over_and_knows_what_was_said(first: str, second: str) -> None:
    async with a_call(first, second, settings=CallSettings(retry=IMPATIENT)) as call:
        call.room.type("ada", "Good morning.")
        await call.hears(f"this is {first}")
        call.services[first].refuse(100)
        call.services[first].live[-1].kill()
        await until(lambda: call.services[second].connections and call.bridge.leader is not None)
        call.room.type("ada", "Who is there?")
        await call.hears(f"this is {second}")
        assert call.told(second) == ["Good morning.", f"this is {first}", "Who is there?", f"this is {second}"]
        assert call.counter("sessions.failovers") == 1
        assert call.bridge.leading is not None and call.bridge.leading.capabilities.provider == second.split("-")[0]


@pytest.mark.parametrize(("first", "second", "voice"), [(*NAMES, "Kore"), (*NAMES[::-1], "marin")])
async def test_a_voice_that_was_changed_keeps_no_other_provider_from_taking_over(
    first: str, second: str, voice: str
) -> None:
    async with a_call(first, second, settings=CallSettings(retry=IMPATIENT)) as call:
        call.room.type("ada", "Good morning.")
        await call.hears(f"this is {first}")
        await asyncio.wait_for(call.bridge.update(voice=voice), 10)
        assert len(call.services[first].connections) == 2, "neither provider changes it in place"
        call.services[first].refuse(100)
        call.services[first].live[-1].kill()
        await until(lambda: call.services[second].connections and call.bridge.leader is not None)
        call.room.type("ada", "Who is there?")
        await call.hears(f"this is {second}")
        assert call.counter("sessions.failovers") == 1


async def test_a_service_that_ends_each_session_as_it_begins_is_left_for_another() -> None:
    def storms(name: str) -> Scenario:
        short = msgspec.structs.replace(TIMES, go_away_s=0.0, time_left_s=0.3)
        return msgspec.structs.replace(speaks_as(name), session=short if name == "gemini" else TIMES)

    async with a_call("gemini", "openai", settings=CallSettings(retry=IMPATIENT), scenario=storms) as call:
        await until(lambda: call.bridge.leading and call.bridge.leading.capabilities.provider == "openai")
        call.room.type("ada", "Who is there?")
        await call.hears("this is openai")
        assert call.counter("sessions.failovers") == 1
        assert len(call.services["gemini"].connections) <= 6


@EVERY_WAY
async def test_a_swap_and_a_swap_back_carry_the_conversation_along(first: str, second: str) -> None:
    async with a_call(first, settings=CallSettings()) as call:
        call.room.type("ada", "Good morning.")
        await call.hears(f"this is {first}")
        await asyncio.wait_for(call.bridge.swap(call.models[second]), 10)
        call.room.type("ada", "And you?")
        await call.hears(f"this is {second}")
        await asyncio.wait_for(call.bridge.swap(call.models[first]), 10)
        assert call.told(first) == ["Good morning.", f"this is {first}", "And you?", f"this is {second}"]
        assert call.counter("sessions.sessions_lost") == call.counter("sessions.longest_leaderless_ms") == 0


@EVERY_WAY
async def test_the_new_model_is_told_nothing_that_was_not_heard(first: str, second: str) -> None:
    async with a_call(first, settings=CallSettings(), scenario=tells_a_story) as call:
        call.room.type("ada", "Good morning.")
        await call.hears(f"this is {first}")
        call.room.type("ada", "Tell me a story.")
        before = len(call.room.heard())
        await until(lambda: PCM16_24K.duration_ms(len(call.room.heard()) - before) > 1000)
        call.bridge.interrupt()
        await asyncio.wait_for(call.bridge.swap(call.models[second]), 10)
        (cut,) = [line.text.strip() for line in call.bridge.ledger.lines if line.interrupted]
        assert cut and f"{first} talks and talks on".startswith(cut) and not cut.endswith("on")
        assert call.told(second)[-1] == cut


@BOTH_WAYS
async def test_the_caller_keeps_talking_while_one_provider_gives_way_to_the_other(first: str, second: str) -> None:
    """He speaks through the change; the second service hears his whole turn, from its first sound, once."""
    # Frames of ours that a busy machine makes late are late, not silent.
    patient = MixerSettings(hold_ms=1000)
    async with a_call(first, second, settings=CallSettings(retry=IMPATIENT), mixer=patient) as call:
        clock = asyncio.get_running_loop()
        noise = np.random.default_rng(7).normal(0, 5000, 24_000 * 4).clip(-30_000, 30_000).astype("<i2").tobytes()
        service = call.services[first]
        began = clock.time()
        for number in range(150):  # three seconds
            if number == 25:
                service.refuse(100)
                service.live[-1].kill()
            call.room.speak("ada", noise[number * FRAME : (number + 1) * FRAME])
            await asyncio.sleep(max(0.0, began + (number + 1) * 0.02 - clock.time()))
        await until(lambda: call.services[second].connections and call.bridge.leader is not None)
        await call.hears(f"this is {second}")
        assert likeness(noise[: 150 * FRAME], call.services[second]) > 0.97, "one piece, whole, at one place"
        counters = call.bridge.snapshot().counters
        assert counters["first_words.first_words_dropped_frames"] == counters["outbox.dropped_audio_messages"] == 0


@BOTH
async def test_without_a_stand_in_the_call_ends_with_the_reason(provider: str) -> None:
    async with a_call(provider, settings=CallSettings(retry=IMPATIENT)) as call:
        call.services[provider].refuse(1000)
        call.services[provider].live[-1].kill()
        with pytest.raises(ModelFailed, match="503"):
            await asyncio.wait_for(call.bridge.run(), 10)


@BOTH
async def test_a_silent_call_costs_no_session_and_the_first_word_is_heard_from_its_beginning(provider: str) -> None:
    async with a_call(provider, settings=CallSettings(idle_close_s=1.0)) as call:
        service = call.services[provider]
        call.room.type("ada", "Good morning.")
        await call.hears(f"this is {provider}")
        await until(lambda: call.bridge.leader is None)
        await until(lambda: not service.live)
        await asyncio.sleep(0.5)
        assert len(service.connections) == 1, "and it stays closed"
        clock = asyncio.get_running_loop()
        began = clock.time()
        word = np.random.default_rng(8).normal(0, 5000, 24_000).clip(-30_000, 30_000).astype("<i2").tobytes()
        silence = bytes(FRAME)
        for number in range(40):
            frame = word[(number - 10) * FRAME : (number - 9) * FRAME] if 10 <= number < 35 else silence
            call.room.speak("ada", frame)
            await asyncio.sleep(max(0.0, began + (number + 1) * 0.02 - clock.time()))
        await until(lambda: call.bridge.leader is not None)
        await until(lambda: sum(line.text.strip() == f"this is {provider}" for line in call.bridge.ledger.lines) == 2)
        assert likeness(word[: 25 * FRAME], service) > 0.97
        assert call.counter("sessions.idle_closed") >= 1 and call.counter("sessions.idle_woken") >= 1


@BOTH
async def test_a_typed_word_wakes_a_silent_call(provider: str) -> None:
    async with a_call(provider, settings=CallSettings(idle_close_s=0.5)) as call:
        await until(lambda: call.bridge.leader is None)
        call.room.type("ada", "Are you there?")
        await call.hears(f"this is {provider}")
