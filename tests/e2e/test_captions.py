"""Transcripts, states and typed messages of a whole call, as a participant of the bare SDK sees them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from bridge.core.words import AgentState
from bridge.demo.person import Person
from bridge.demo.server import LocalServer
from providers.scripted.scenario import Marker, Pace, Scenario, Transcripts
from providers.scripted.voice import marker
from tests.e2e.audio import from_pcm, likeness, resampled, speechlike, write_wav
from tests.e2e.calls import emulated_call, until
from tests.e2e.conftest import PersonFactory
from tests.e2e.ears import heard_by, loud_span

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

PROVIDERS = pytest.mark.parametrize("provider", ["gemini", "openai"])
MIC_HZ = 48_000
ASKED = "What time is it?"
WORDS = [f"w{n:04}" for n in range(12)]
REPLY_S = 5.0
MARKER = Marker(duration_ms=int(REPLY_S * 1000), seed=40, transcript=" ".join(WORDS))
SCENARIO = Scenario(
    answer=MARKER,
    transcripts=Transcripts(input=ASKED),
    pace=Pace(speed=6.0, latency_ms=700),
)


def told(who: Person, event: str, identity: str) -> list[dict[str, Any]]:
    return [fact for fact in who.told if fact["event"] == event and fact["identity"] == identity]


def states(who: Person) -> list[tuple[float, str]]:
    """What the agent was said to be doing, and when."""
    found = [
        (fact["at"], fact["changed"]["lk.agent.state"])
        for fact in told(who, "attributes", "roombridge")
        if "lk.agent.state" in fact["changed"]
    ]
    return [one for before, one in zip([(0.0, ""), *found], found, strict=False) if before[1] != one[1]]


async def answered(provider: str, bridge_state: Any) -> None:
    await until(lambda: bridge_state() is AgentState.SPEAKING)
    await until(lambda: bridge_state() is not AgentState.SPEAKING, REPLY_S + 10)
    await asyncio.sleep(1.5)


@PROVIDERS
async def test_words_and_states_of_both_sides_keep_step_with_the_ear(
    provider: str, server: LocalServer, room_name: str, person: PersonFactory, tmp_path: Path
) -> None:
    async with emulated_call(server, room_name, provider, SCENARIO) as call, person("ann") as ann:
        agents_track = (await ann.wait("hears_agent"))["track"]
        anns_track = (await ann.wait("published"))["track"]
        question = write_wav(tmp_path / "question.wav", speechlike(1, MIC_HZ, 1.5), MIC_HZ)
        await ann.do("say", wav=str(question))
        said = (await ann.wait("said"))["at"]
        await answered(provider, lambda: call.bridge.state)
        ear = await heard_by(ann, tmp_path)
        ledger = [(line.speaker, line.text) for line in call.bridge.ledger.lines]
    began, ended = loud_span(ear, said, ear.times[-1])

    user = told(ann, "caption", "ann")
    assert {fact["attributes"]["lk.transcribed_track_id"] for fact in user} == {anns_track}
    assert len({fact["attributes"]["lk.segment_id"] for fact in user}) == 1
    assert [fact["attributes"]["lk.transcription_final"] for fact in user[-1:]] == ["true"]
    assert user[-1]["text"] == ASKED

    (agent,) = told(ann, "caption", "roombridge")
    assert agent["text"] == " ".join(WORDS)
    assert agent["attributes"]["lk.transcribed_track_id"] == agents_track
    assert agent["attributes"]["lk.transcription_final"] == "true"
    assert agent["attributes"]["lk.segment_id"] != user[-1]["attributes"]["lk.segment_id"]
    assert ledger == [("ann", ASKED), (None, " ".join(WORDS))]

    # A piece is shown when its sound is: word n begins at n twelfths of the reply.
    shown = 0
    for piece in told(ann, "caption_piece", "roombridge"):
        words = piece["text"].split()
        if not words:
            continue
        shown += len(words)
        sounds_at = began + (shown - 1) * REPLY_S / len(WORDS)
        assert -1.0 <= piece["at"] - sounds_at <= 2.0
    assert shown == len(WORDS)

    seen = states(ann)
    names = [name for _, name in seen]
    assert names[-3:] == ["thinking", "speaking", "listening"]
    assert abs(seen[-2][0] - began) < 0.6
    # The ear hears the end some 100 ms later than it is told of it, and later still after a pause of the machine.
    assert -0.5 <= seen[-1][0] - ended < 1.0, "speaking until the ear has heard the end"


@PROVIDERS
async def test_a_typed_message_is_answered(
    provider: str, server: LocalServer, room_name: str, person: PersonFactory, tmp_path: Path
) -> None:
    async with emulated_call(server, room_name, provider, SCENARIO) as call, person("ann", publish=False) as ann:
        await ann.wait("hears_agent")
        await ann.do("chat", text="Good morning")
        await answered(provider, lambda: call.bridge.state)
        ear = await heard_by(ann, tmp_path)
        lines = call.emulator.connections[-1].brain.memory.lines
    reply = resampled(
        from_pcm(marker(REPLY_S * 1000, MARKER.seed + 1, MARKER.level_dbfs).tobytes()), 24_000, ear.rate_hz
    )
    assert likeness(reply, from_pcm(ear.samples.tobytes()), ear.rate_hz, slack_ms=400) >= 0.9, "heard to its end"
    assert [(line.role, line.text) for line in lines] == [("user", "Good morning"), ("assistant", " ".join(WORDS))]
    (agent,) = told(ann, "caption", "roombridge")
    assert agent["text"] == " ".join(WORDS)
