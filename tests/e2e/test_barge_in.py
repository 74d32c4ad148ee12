"""Whoever speaks up is heard at once: silence at the ear, nothing of the dead reply later, and the model knows."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from statistics import median

import pytest

from bench.barge_in import ended_at_ms, loudest_dbfs, silence_after
from bench.markers import LEVEL_DBFS, sound
from bridge.conversation.barge_in import BargeInPolicy, BargeInSettings
from bridge.conversation.settings import ConversationSettings
from bridge.core.words import AgentState
from bridge.demo.person import Person
from bridge.demo.server import LocalServer
from bridge.facade import CallConfig
from providers.emulators.server import Message
from providers.scripted.scenario import Marker, Pace, Scenario
from providers.settings import SpeechSettings, TurnDetectionSettings
from tests.e2e.audio import from_pcm, likeness, speechlike, write_wav
from tests.e2e.calls import EmulatedCall, emulated_call, until
from tests.e2e.conftest import PersonFactory
from tests.e2e.ears import heard_by

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

PROVIDERS = pytest.mark.parametrize("provider", ["gemini", "openai"])
STOPS = {"interrupted", "input_audio_buffer.speech_started"}
MIC_HZ = 48_000
SEED = 500
TALK_S = 2.6
"""Longer than the silence that is judged: nothing is answered meanwhile."""
SILENT_WITHIN_MS = 400.0
"""At the median. Where the machine is busy two jitter buffers have grown (three of five took 305 to 330 at a load of
eight). The benchmark holds the figure, beside a floor of its own run."""
POSITION_MS = 40.0
WORDS = 20
TURNS = TurnDetectionSettings(silence_ms=200)


def answers(duration_ms: int, speed: float = 4.0) -> Scenario:
    """Replies of noise, each unlike the others, with one word for each twentieth of it."""
    words = " ".join(f"w{n:04}" for n in range(WORDS))
    marker = Marker(duration_ms=duration_ms, seed=SEED, level_dbfs=LEVEL_DBFS, transcript=words)
    return Scenario(answer=marker, pace=Pace(latency_ms=0, speed=speed))


def policy(**of: object) -> CallConfig:
    barge_in = BargeInSettings(policy=BargeInPolicy(**of))  # type: ignore[arg-type]
    return CallConfig(conversation=ConversationSettings(barge_in=barge_in))


class _Interrupter:
    """Somebody who lets the model begin and then speaks over it."""

    def __init__(self, call: EmulatedCall, ann: Person, folder: Path) -> None:
        self.call = call
        self.asked: list[float] = []
        self._stops: list[float] = []
        self._ann = ann
        self._folder = folder
        self._talk = str(write_wav(folder / "talk.wav", speechlike(2, MIC_HZ, TALK_S), MIC_HZ))
        call.emulator.on_write = self._on_write

    def _on_write(self, message: Message) -> None:
        if message.label in STOPS:
            self._stops.append(message.at)

    async def open(self) -> None:
        """Say what the first reply answers."""
        await self._ann.wait("hears_agent")
        opening = write_wav(self._folder / "opening.wav", speechlike(1, MIC_HZ, 1.0), MIC_HZ)
        await self._ann.do("say", wav=str(opening))

    async def interrupt(self, after_s: float) -> None:
        """Speak for a while, so long after the reply has begun to sound."""
        await until(lambda: self.call.bridge.state is AgentState.SPEAKING)
        await asyncio.sleep(after_s)
        self.asked.append(time.monotonic())
        await self._ann.do("say", wav=self._talk)

    def stop(self, number: int) -> float:
        """When the emulator noticed the n-th interruption, from 0."""
        return next(at for at in self._stops if at > self.asked[number])


@PROVIDERS
async def test_an_interruption_is_silence_at_the_ear_and_the_model_is_told_where(
    provider: str, server: LocalServer, room_name: str, person: PersonFactory, tmp_path: Path
) -> None:
    length_ms, count = 8000, 5
    speech = SpeechSettings(turn_detection=TURNS)
    async with (
        emulated_call(server, room_name, provider, answers(length_ms), speech=speech) as call,
        person("ann") as ann,
    ):
        interrupter = _Interrupter(call, ann, tmp_path)
        await interrupter.open()
        for number in range(count):
            await interrupter.interrupt(0.9 + 0.13 * number)
        ear = await heard_by(ann, tmp_path)
        told = {line.number: line.heard_ms for line in call.emulator.connections[-1].brain.memory.lines}
        captions = [fact for fact in ann.told if fact["event"] == "caption" and fact["identity"] == "roombridge"]
        pieces = [fact for fact in ann.told if fact["event"] == "caption_piece" and fact["identity"] == "roombridge"]

    silent_ms, position_errors_ms = [], []
    for number in range(count):
        reply, at = number + 1, interrupter.stop(number)
        silence = silence_after(ear, at)
        assert silence is not None
        silent_ms.append((ear.moment(silence) - at) * 1000)
        assert loudest_dbfs(ear, silence, ear.sample_at(at + 2.0)) < -50
        ended_ms = ended_at_ms(ear, silence, sound(SEED + reply, ear.rate_hz, length_ms))
        assert ended_ms is not None, "what was cut is that reply"
        if provider == "openai":
            heard_ms = told[reply]
            assert heard_ms is not None
            position_errors_ms.append(abs(heard_ms - ended_ms))
        # The caption ends with what was heard, and the segment is closed.
        caption = captions[number]
        assert caption["attributes"]["lk.transcription_final"] == "true"
        words = caption["text"].split()
        assert words == [f"w{n:04}" for n in range(len(words))]
        word_ms = length_ms / WORDS
        assert ended_ms - 2.5 * word_ms <= len(words) * word_ms <= ended_ms + word_ms
        assert caption["at"] - at < 1.0
        assert all(piece["at"] <= caption["at"] for piece in pieces if piece["stream"] == caption["stream"])
    assert median(silent_ms) < SILENT_WITHIN_MS, silent_ms
    # A machine that stands still in just that moment may spoil one: the native queue then plays behind its own clock.
    assert sum(error > POSITION_MS for error in position_errors_ms) <= 1, position_errors_ms


async def test_without_interrupt_response_the_reply_is_heard_to_its_end(
    server: LocalServer, room_name: str, person: PersonFactory, tmp_path: Path
) -> None:
    speech = SpeechSettings(turn_detection=TurnDetectionSettings(silence_ms=200, interrupt_response=False))
    await _is_heard_whole("openai", server, room_name, person, tmp_path, speech, None)


@PROVIDERS
async def test_a_protected_reply_is_heard_to_its_end(
    provider: str, server: LocalServer, room_name: str, person: PersonFactory, tmp_path: Path
) -> None:
    speech = SpeechSettings(turn_detection=TURNS)
    await _is_heard_whole(provider, server, room_name, person, tmp_path, speech, policy(mode="never"))


async def _is_heard_whole(
    provider: str,
    server: LocalServer,
    room_name: str,
    person: PersonFactory,
    tmp_path: Path,
    speech: SpeechSettings,
    config: CallConfig | None,
) -> None:
    length_ms = 4000
    scenario = answers(length_ms, speed=50.0)
    async with (
        emulated_call(server, room_name, provider, scenario, speech=speech, config=config) as call,
        person("ann") as ann,
    ):
        interrupter = _Interrupter(call, ann, tmp_path)
        await interrupter.open()
        await interrupter.interrupt(0.9)
        await asyncio.sleep(1.2)
        ear = await heard_by(ann, tmp_path)
        told = [line.heard_ms for line in call.emulator.connections[-1].brain.memory.lines if line.number == 1]
        counters = call.counters()
    assert interrupter.stop(0) < ear.times[-1]
    wanted = from_pcm(sound(SEED + 1, ear.rate_hz, length_ms).tobytes())[ear.rate_hz :]
    heard = from_pcm(ear.samples.tobytes())
    assert likeness(wanted, heard, ear.rate_hz, slack_ms=400) >= 0.9
    assert counters["playout.flushes"] == 0
    assert set(told) == {None}, "nothing was truncated"


@PROVIDERS
async def test_a_reply_may_be_cut_once_enough_of_it_was_heard(
    provider: str, server: LocalServer, room_name: str, person: PersonFactory, tmp_path: Path
) -> None:
    length_ms, protected_ms, count, after_s = 6000, 2000, 3, 0.7
    scenario = answers(length_ms, speed=50.0)
    config = policy(mode="after", after_ms=protected_ms)
    speech = SpeechSettings(turn_detection=TURNS)
    async with (
        emulated_call(server, room_name, provider, scenario, speech=speech, config=config) as call,
        person("ann") as ann,
    ):
        interrupter = _Interrupter(call, ann, tmp_path)
        await interrupter.open()
        for _ in range(count):
            await interrupter.interrupt(after_s)
        ear = await heard_by(ann, tmp_path)
    ends_ms = []
    for number in range(count):
        # Shortly before the time: a hole that a busy machine makes earlier is no end.
        silence = silence_after(ear, interrupter.asked[number] - after_s + protected_ms / 1000 - 0.3)
        assert silence is not None
        ended_ms = ended_at_ms(ear, silence, sound(SEED + number + 1, ear.rate_hz, length_ms))
        assert ended_ms is not None
        ends_ms.append(ended_ms)
    assert min(ends_ms) >= protected_ms - 40, ends_ms
    assert median(ends_ms) <= protected_ms + 150, ends_ms
