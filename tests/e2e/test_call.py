"""Whole calls: people in a real room talk with an emulated provider; which one is configuration alone."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from bridge.audio.mix import MixerSettings
from bridge.audio.playout import PlayoutSettings
from bridge.conversation.conversation import ConversationSettings
from bridge.demo.person import Person
from bridge.demo.server import LocalServer
from bridge.facade import CallConfig
from providers.scripted.scenario import Pace, Scenario, Wav
from tests.e2e.audio import Samples, find, from_pcm, level_dbfs, likeness, read_wav, resampled, speechlike, write_wav
from tests.e2e.calls import emulated_call, until
from tests.e2e.conftest import PersonFactory
from tests.e2e.floor import VOICE_HZ, Floor, bare_floor
from tests.e2e.judged import assert_as_good, figures

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

PROVIDERS = pytest.mark.parametrize("provider", ["gemini", "openai"])
MIC_HZ = 48_000
WELCOME = Path(__file__).parents[1] / "data" / "answer.wav"
SETTLE_S = 1.5
"""Speech before the speech that is judged: by then each receiver's jitter buffer has found its delay."""
HOLD_MS = MixerSettings().hold_ms
FADE_MS = PlayoutSettings().fade_ms
ONE_EAR = 0.5
"""A single jitter buffer may make a step of its own in mid-sound; then one alignment fits one part of it."""
FLOOR_SEED = 900
FLOOR_MS = (SETTLE_S + 2.0) * 1000


def spoken(folder: Path, who: Person, seed: int, seconds: float) -> tuple[Samples, str]:
    """A sound of this person's, and its file."""
    sound = speechlike(seed, MIC_HZ, SETTLE_S + seconds)
    return sound, str(write_wav(folder / f"{who.identity}-{seed}.wav", sound, MIC_HZ))


def judged(sound: Samples, rate_hz: int) -> Samples:
    """The part of a sound after the settling, at another rate."""
    return resampled(sound, MIC_HZ, rate_hz)[int(SETTLE_S * rate_hz) :]


async def saved(who: Person, folder: Path) -> tuple[Samples, int]:
    """What this person has heard of the agent."""
    path = folder / f"{who.identity}-heard.wav"
    await who.do("save", wav=str(path))
    return read_wav(path)


def speech_in(sound: Samples, heard: Samples, rate_hz: int) -> Samples:
    """All of this sound as it is in a recording, its beginning included."""
    at = find(judged(sound, rate_hz), heard, rate_hz).at_s - SETTLE_S
    return heard[int(max(at, 0.0) * rate_hz) : int((at + len(sound) / MIC_HZ) * rate_hz)]


def assert_untouched(
    speech: Samples, speech_hz: int, found: tuple[Samples, int], *, waited_ms: float = 0.0, echoes: int = 0
) -> None:
    """From one end of the bridge to the other all of the speech lies in one place.

    Two things are done to it on purpose. Where the SDK gave us nothing for longer than the mixer waits, the model gets
    silence. Where the model's speech would run dry, its last 10 ms are heard again: the playout counts those echoes.
    """
    through = figures(speech, speech_hz, *found)
    if waited_ms >= HOLD_MS:
        assert through.pieces >= 0.85, f"{through}, waited {waited_ms:.0f} ms"
    elif echoes:
        assert through.pieces >= 0.98, through
        assert abs(through.stretch_ms) <= echoes * FADE_MS + 1, f"{through}, {echoes} echoes"
    else:
        assert through.whole >= 0.98, through


@PROVIDERS
async def test_two_people_speak_in_turn_and_hear_the_answers(
    provider: str, server: LocalServer, room_name: str, person: PersonFactory, tmp_path: Path
) -> None:
    async with (
        emulated_call(server, room_name, provider, identities=("ann", "bob")) as call,
        person("ann") as ann,
        person("bob") as bob,
        bare_floor(server, room_name, tmp_path) as floor,
    ):
        await ann.wait("hears_agent")
        await bob.wait("hears_agent")
        said = {}
        for seed, who in ((1, ann), (2, bob)):
            sound, wav = spoken(tmp_path, who, seed, 2.0)
            said[who.identity] = sound
            await who.do("say", wav=wav)
            await until(lambda: call.bridge.state == "speaking")
            await floor.speak(FLOOR_SEED + seed, FLOOR_MS)
            await until(lambda: call.bridge.state == "listening")
        await asyncio.sleep(0.5)
        heard, rate_hz = call.model_heard()
        raw = {name: call.raw(name) for name in said}
        waited_ms = {name: call.longest_wait_ms(name) for name in said}
        played, played_hz = call.played()
        ears = [await saved(ann, tmp_path), await saved(bob, tmp_path)]
        ear, bare = await floor.heard()
        counters = call.counters()
    ears.append((from_pcm(ear.samples.tobytes()), ear.rate_hz))
    of_floor = from_pcm(bare.samples.tobytes())
    for seed, (name, sound) in enumerate(said.items(), start=1):
        # Up: we move nothing, and what the SDK has moved before is all that the provider hears moved.
        given, given_hz = raw[name]
        assert_untouched(speech_in(sound, given, given_hz), given_hz, (heard, rate_hz), waited_ms=waited_ms[name])
        if waited_ms[name] < HOLD_MS:
            wanted = judged(sound, MIC_HZ)
            assert_as_good(figures(wanted, MIC_HZ, heard, rate_hz), figures(wanted, MIC_HZ, given, given_hz))
        # Down: the answer is what the provider heard, and goes to the SDK as it is.
        echoes = int(counters["playout.fades"])  # of a machine that makes the emulator late; else none
        assert_untouched(speech_in(sound, heard, rate_hz), rate_hz, (played, played_hz), echoes=echoes)
        # Each ear has a jitter buffer of its own, and so has whoever hears the bare voice.
        answer = speech_in(sound, played, played_hz)[int(SETTLE_S * played_hz) :]
        bare_sound = Floor.sound(FLOOR_SEED + seed, FLOOR_MS)[int(SETTLE_S * VOICE_HZ) :]
        by_ear = sorted((figures(answer, played_hz, *one) for one in ears), key=lambda one: one.whole)
        assert_as_good(by_ear[-1], figures(bare_sound, VOICE_HZ, of_floor, bare.rate_hz))
        assert sorted(one.pieces for one in by_ear)[1] >= 0.9, by_ear
    assert counters["playout.underruns"] == counters["outbox.dropped_audio_messages"] == 0


@PROVIDERS
async def test_two_people_at_once_are_both_heard(
    provider: str, server: LocalServer, room_name: str, person: PersonFactory, tmp_path: Path
) -> None:
    async with (
        emulated_call(server, room_name, provider) as call,
        person("ann") as ann,
        person("bob") as bob,
    ):
        await until(lambda: len(call.bridge.participants) == 2)
        said = {"ann": spoken(tmp_path, ann, 3, 2.5), "bob": spoken(tmp_path, bob, 4, 2.5)}
        started = [(who, who.start("say", wav=said[who.identity][1])) for who in (ann, bob)]
        for who, number in started:
            await who.wait("done", id=number)
        await asyncio.sleep(0.5)
        # All at one fine rate: half a sample of a speech model's rate would cost 0.05 of the likeness.
        heard = resampled(*call.model_heard(), MIC_HZ)
        raw = {name: resampled(*call.raw(name), MIC_HZ) for name in said}
        waited_ms = max(call.longest_wait_ms(name) for name in said)
    wanted = {name: judged(sound, MIC_HZ) for name, (sound, _) in said.items()}
    places = {name: int(find(sound, heard, MIC_HZ).at_s * MIC_HZ) for name, sound in wanted.items()}
    both = slice(max(places.values()), min(places.values()) + MIC_HZ * 2)
    alone = {name: sound[both.start - places[name] : both.stop - places[name]] for name, sound in wanted.items()}
    assert abs(level_dbfs(heard[both]) - level_dbfs(np.sum(list(alone.values()), axis=0))) <= 1.0

    # The sum of what the SDK gave us of each is what the provider heard, and nothing else.
    given = []
    for name, sound in wanted.items():
        at = int(find(sound, raw[name], MIC_HZ).at_s * MIC_HZ) - places[name]
        given.append(raw[name][both.start + at : both.stop + at])
    total = np.sum(given, axis=0)
    assert_untouched(total, MIC_HZ, (heard, MIC_HZ), waited_ms=waited_ms)
    for name, sound in alone.items():
        edge = MIC_HZ // 100
        reference = find(sound[edge:-edge], total, MIC_HZ).correlation
        found = find(sound, heard, MIC_HZ).correlation
        assert found >= min(0.6, reference - 0.02), f"{name}: {found:.3f}; {reference:.3f} in the sum of what came"
        assert likeness(wanted[name], heard, MIC_HZ) >= 0.6


@PROVIDERS
@pytest.mark.parametrize(
    "pace",
    [Pace(speed=1.0, burst_s=2.0), Pace(speed=1.0, jitter_ms=120)],
    ids=["bursts of two seconds", "real time with jitter"],
)
async def test_uneven_model_speech_is_heard_without_gaps(
    provider: str, pace: Pace, server: LocalServer, room_name: str, person: PersonFactory, tmp_path: Path
) -> None:
    async with emulated_call(server, room_name, provider, Scenario(pace=pace)) as call, person("ann") as ann:
        await ann.wait("hears_agent")
        sound, wav = spoken(tmp_path, ann, 5, 3.0)
        await ann.do("say", wav=wav)
        await until(lambda: call.bridge.state == "speaking")
        await until(lambda: call.bridge.state == "listening", 15)
        await asyncio.sleep(0.5)
        heard, rate_hz = call.model_heard()
        played, played_hz = call.played()
        ear = await saved(ann, tmp_path)
        echoes = int(call.counters()["playout.fades"])
    assert_untouched(speech_in(sound, heard, rate_hz), rate_hz, (played, played_hz), echoes=echoes)
    answer = speech_in(sound, played, played_hz)[int(SETTLE_S * played_hz) :]
    assert_as_good(figures(answer, played_hz, *ear), whole=ONE_EAR)


@PROVIDERS
async def test_a_greeting_is_heard_from_its_first_sound(
    provider: str, server: LocalServer, room_name: str, person: PersonFactory, tmp_path: Path
) -> None:
    config = CallConfig(conversation=ConversationSettings(greeting="Greet the caller."))
    scenario = Scenario(prompted=Wav(file=str(WELCOME)))
    async with emulated_call(server, room_name, provider, scenario, config=config) as call, person("ann") as ann:
        await until(lambda: call.bridge.state == "speaking")
        await until(lambda: call.bridge.state == "listening")
        await asyncio.sleep(0.5)
        played, played_hz = call.played()
        heard, rate_hz = await saved(ann, tmp_path)
    said, said_hz = read_wav(WELCOME)
    assert_untouched(said, said_hz, (played, played_hz))
    first = find(resampled(said, said_hz, played_hz)[: played_hz // 4], played, played_hz)
    assert first.correlation >= 0.98 and first.at_s < 0.05, "its first sound is the first that we say"
    # The ear's jitter buffer is still finding its delay, in steps of 10 ms: each 50 ms for themselves.
    wanted = resampled(said, said_hz, rate_hz)
    whole, first = find(wanted, heard, rate_hz), find(wanted[: rate_hz // 4], heard, rate_hz)
    assert likeness(wanted[: rate_hz // 4], heard, rate_hz, piece_ms=50) >= 0.8
    assert abs(first.at_s - whole.at_s) <= 0.1
    assert likeness(wanted, heard, rate_hz) >= 0.9
