"""Whole calls: people in a real room talk with an emulated provider; which one is configuration alone."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from bridge.conversation.conversation import ConversationSettings
from bridge.demo.person import Person
from bridge.demo.server import LocalServer
from bridge.facade import CallConfig
from providers.scripted.scenario import Pace, Scenario, Wav
from tests.e2e.audio import (
    Samples,
    find,
    gaps,
    level_dbfs,
    likeness,
    pitch_ratio,
    read_wav,
    resampled,
    speechlike,
    stretch_ms,
    write_wav,
)
from tests.e2e.calls import emulated_call, until
from tests.e2e.conftest import PersonFactory

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

PROVIDERS = pytest.mark.parametrize("provider", ["gemini", "openai"])
MIC_HZ = 48_000
WELCOME = Path(__file__).parents[1] / "data" / "answer.wav"
SETTLE_S = 1.5
"""Speech before the speech that is judged: by then each receiver's jitter buffer has found its delay."""


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


@PROVIDERS
async def test_two_people_speak_in_turn_and_hear_the_answers(
    provider: str, server: LocalServer, room_name: str, person: PersonFactory, tmp_path: Path
) -> None:
    async with (
        emulated_call(server, room_name, provider) as call,
        person("ann") as ann,
        person("bob") as bob,
    ):
        await ann.wait("hears_agent")
        await bob.wait("hears_agent")
        said = {}
        for seed, who in ((1, ann), (2, bob)):
            sound, wav = spoken(tmp_path, who, seed, 2.0)
            said[who] = sound
            await who.do("say", wav=wav)
            await until(lambda: call.bridge.state == "speaking")
            await until(lambda: call.bridge.state == "listening")
        await asyncio.sleep(0.5)
        heard, rate_hz = call.model_heard()
        answers, answer_hz = await saved(ann, tmp_path)
        counters = call.counters()
    for sound in said.values():
        wanted = judged(sound, rate_hz)
        assert likeness(wanted, heard, rate_hz) >= 0.9
        assert abs(pitch_ratio(heard, wanted, rate_hz) - 1) < 0.005
        assert abs(stretch_ms(heard, wanted, rate_hz)) <= 40
        at = int(find(wanted, heard, rate_hz).at_s * rate_hz)
        assert gaps(heard[at : at + len(wanted)], rate_hz, source=wanted) == []
        answer = judged(sound, answer_hz)
        assert likeness(answer, answers, answer_hz) >= 0.9
        assert abs(pitch_ratio(answers, answer, answer_hz) - 1) < 0.005
        assert abs(stretch_ms(answers, answer, answer_hz)) <= 40
        at = int(find(answer, answers, answer_hz).at_s * answer_hz)
        assert gaps(answers[at : at + len(answer)], answer_hz, source=answer) == []
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
        first, second = spoken(tmp_path, ann, 3, 2.5), spoken(tmp_path, bob, 4, 2.5)
        started = [ann.start("say", wav=first[1]), bob.start("say", wav=second[1])]
        for who, number in zip((ann, bob), started, strict=True):
            await who.wait("done", id=number)
        await asyncio.sleep(0.5)
        heard, rate_hz = call.model_heard()
    places = []
    for sound, _ in (first, second):
        wanted = judged(sound, rate_hz)
        assert likeness(wanted, heard, rate_hz) >= 0.6
        places.append(int(find(wanted, heard, rate_hz).at_s * rate_hz))
    both = slice(max(places), min(places) + rate_hz * 2)
    alone = [
        judged(sound, rate_hz)[both.start - at : both.stop - at]
        for (sound, _), at in zip((first, second), places, strict=True)
    ]
    assert abs(level_dbfs(heard[both]) - level_dbfs(np.sum(alone, axis=0))) <= 1.0


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
        heard, rate_hz = await saved(ann, tmp_path)
    wanted = judged(sound, rate_hz)
    assert likeness(wanted, heard, rate_hz) >= 0.9
    at = int(find(wanted, heard, rate_hz).at_s * rate_hz)
    assert gaps(heard[at : at + len(wanted)], rate_hz, source=wanted) == []
    assert abs(pitch_ratio(heard, wanted, rate_hz) - 1) < 0.005
    assert abs(stretch_ms(heard, wanted, rate_hz)) <= 40


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
        heard, rate_hz = await saved(ann, tmp_path)
    said, said_hz = read_wav(WELCOME)
    wanted = resampled(said, said_hz, rate_hz)
    whole, first = find(wanted, heard, rate_hz), find(wanted[: rate_hz // 4], heard, rate_hz)
    assert first.correlation >= 0.6  # the jitter buffer is still finding its delay
    assert abs(first.at_s - whole.at_s) <= 0.1
    assert likeness(wanted, heard, rate_hz) >= 0.9
