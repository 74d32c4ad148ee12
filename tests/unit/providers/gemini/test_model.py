"""A Gemini model over a real socket, against the emulator."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from providers.contract import (
    Closed,
    GenerationComplete,
    GoAway,
    HistoryItem,
    InputTranscript,
    Interrupted,
    ModelSession,
    OutputTranscript,
    ResumptionUpdate,
    SessionEvent,
    SessionStart,
    SpeechChunk,
    ToolCall,
    ToolSpec,
    TurnComplete,
    Usage,
    WarningReported,
)
from providers.emulators.gemini import GeminiEmulator, GeminiVendor
from providers.errors import ProviderRejected, ProviderUnavailable, ResumeRefused, SettingRefused
from providers.gemini.model import GeminiModel
from providers.gemini.settings import ClonedVoiceSettings, GeminiSettings
from providers.scripted.scenario import Scenario, load_text
from providers.settings import ConnectionSettings, SpeechSettings, TurnDetectionSettings
from providers.signal.formats import PCM16_16K, PCM16_24K, AudioFormat

FAST = "[pace]\nspeed = 50.0\nlatency_ms = 20\n[vad]\nsilence_ms = 200\n"


def scenario(text: str = "") -> Scenario:
    return load_text(text + "\n" + FAST)


def model(emulator: GeminiEmulator, speech: SpeechSettings | None = None, **own: Any) -> GeminiModel:
    environ = {"GOOGLE_API_KEY": "key", "GOOGLE_GEMINI_BASE_URL": emulator.base_url}
    return GeminiModel.from_config(speech or SpeechSettings(), GeminiSettings(**own), ConnectionSettings(), environ)


def voice(seconds: float, rate_hz: int = 16_000, seed: int = 1) -> bytes:
    noise = np.random.default_rng(seed).normal(0, 4000, int(seconds * rate_hz))
    return np.asarray(noise.clip(-32000, 32000), dtype="<i2").tobytes()


def speak(session: ModelSession, seconds: float = 0.6, format: AudioFormat = PCM16_16K) -> None:
    """Speech and the silence that ends the turn."""
    silence = bytes(format.size(400))
    for audio in (voice(seconds, format.rate_hz), silence):
        step = format.size(20)
        for first in range(0, len(audio), step):
            session.send_audio(audio[first : first + step], format)


class Log:
    """A session's events, and a way to wait for one."""

    def __init__(self, session: ModelSession) -> None:
        self.events: list[SessionEvent] = []
        self._changed = asyncio.Event()
        session.listen(self._add)

    def _add(self, event: SessionEvent) -> None:
        self.events.append(event)
        self._changed.set()

    async def until(self, found: Callable[[SessionEvent], bool]) -> SessionEvent:
        seen = 0
        async with asyncio.timeout(5):
            while True:
                while seen < len(self.events):
                    if found(self.events[seen]):
                        return self.events[seen]
                    seen += 1
                self._changed.clear()
                await self._changed.wait()

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


def turn_of(reply: int) -> Callable[[SessionEvent], bool]:
    return lambda event: isinstance(event, TurnComplete) and event.reply_id == f"1.{reply}"


@pytest.mark.parametrize("format", [PCM16_16K, PCM16_24K])
async def test_a_spoken_turn_comes_back_as_it_was_said(format: AudioFormat) -> None:
    async with GeminiEmulator(scenario()) as emulator:
        session = await model(emulator).connect()
        log = Log(session)
        speak(session, format=format)
        await log.until(turn_of(1))
        await session.close()
    answer = np.frombuffer(b"".join(chunk.audio for chunk in log.of(SpeechChunk)), dtype="<i2").astype(float)
    asked = np.frombuffer(voice(0.6, format.rate_hz), dtype="<i2").astype(float)
    grid = np.arange(0, len(asked), format.rate_hz / 24_000)
    asked = np.interp(grid, np.arange(len(asked)), asked)
    smooth = np.ones(12) / 12  # both through the same low pass: resamplers differ near the band's edge
    asked, answer = np.convolve(asked, smooth, "same"), np.convolve(answer, smooth, "same")
    match = np.correlate(answer, asked, "valid").max() if len(answer) >= len(asked) else 0.0
    assert match / (np.linalg.norm(asked) * np.linalg.norm(answer)) > 0.9
    assert log.of(InputTranscript)[-1].final and log.of(InputTranscript)[-1].text.startswith("I heard")
    assert log.of(OutputTranscript)[-1].final
    assert log.of(GenerationComplete) and log.of(Usage)[0].output_audio_tokens > 0
    assert isinstance(log.events[-1], Closed) and log.events[-1].error is None
    assert emulator.sessions[0].heard


async def test_speech_of_the_user_interrupts_the_reply() -> None:
    spoken = 'late_chunks = 3\nanswer = { kind = "tone", duration_ms = 20000 }\n[pace]\nspeed = 2.0\nlatency_ms = 20'
    async with GeminiEmulator(load_text(spoken)) as emulator:
        session = await model(emulator).connect()
        log = Log(session)
        speak(session, 0.4)
        session.send_audio(bytes(32_000), PCM16_16K)
        await log.until(lambda event: isinstance(event, SpeechChunk))
        session.send_audio(voice(0.3), PCM16_16K)
        cut = await log.until(lambda event: isinstance(event, Interrupted))
        done = await log.until(turn_of(1))
        await session.close()
    assert cut == Interrupted(session=1, reply_id="1.1")
    assert done == TurnComplete(session=1, reply_id="1.1", reason="interrupted")
    late = log.events[log.events.index(cut) : log.events.index(done)]
    assert [event.reply_id for event in late if isinstance(event, SpeechChunk)] == ["1.1"] * 3


async def test_interrupt_and_respond_reach_the_service() -> None:
    text = 'prompted = { kind = "tone", duration_ms = 20000 }\n[pace]\nspeed = 2.0\nlatency_ms = 20'
    async with GeminiEmulator(load_text(text), vendor=GeminiVendor(nudge_needed=True)) as emulator:
        session = await model(emulator).connect()
        log = Log(session)
        session.respond("say hello")
        await log.until(lambda event: isinstance(event, SpeechChunk))
        session.interrupt()
        await log.until(turn_of(1))
        await asyncio.sleep(0.1)
        assert session.outbox.sent_messages == 4  # setup, question, nudge, cut
        await session.close()
    assert emulator.sessions[0].texts == ["say hello"]
    assert len(emulator.written("interrupted")) == 1


@pytest.mark.parametrize("nudge_needed", [True, False])
async def test_a_typed_turn_and_a_prompt_are_answered_once_each(nudge_needed: bool) -> None:
    async with GeminiEmulator(scenario(), vendor=GeminiVendor(nudge_needed=nudge_needed)) as emulator:
        session = await model(emulator).connect()
        log = Log(session)
        session.send_text("hello")
        await log.until(turn_of(1))
        session.respond()
        await log.until(turn_of(2))
        session.send_image(b"\xff\xd8", "image/jpeg")
        session.send_text("and this?")
        await log.until(turn_of(3))
        await asyncio.sleep(0.1)
        await session.close()
    assert len(log.of(TurnComplete)) == 3
    assert emulator.sessions[0].texts == ["hello", "and this?"] and emulator.sessions[0].images == [b"\xff\xd8"]


TOOL = """
answer = { kind = "tone", duration_ms = 200 }
[[turns]]
turn = 1
calls = [{ name = "weather", arguments = { city = "Oslo" } }, { name = "clock" }]
answer = { kind = "text", text = "It is {degrees} at {time}" }
"""


@pytest.mark.parametrize("call_ids", [True, False])
@pytest.mark.parametrize("backend", ["3.8", "2.5"])
async def test_parallel_tool_calls(call_ids: bool, backend: str) -> None:
    names = {"3.8": "gemini-3.8-live", "2.5": "gemini-2.5-flash-native-audio-latest"}
    tools = (ToolSpec(name="weather"), ToolSpec(name="clock"))
    vendor = GeminiVendor(call_ids=call_ids)
    async with GeminiEmulator(scenario(TOOL), vendor=vendor) as emulator:
        speech = SpeechSettings(tools=tools)
        if not call_ids:
            environ = {"GOOGLE_API_KEY": "k", "GOOGLE_GEMINI_BASE_URL": emulator.base_url}
            if backend == "2.5":
                names["2.5"] = "gemini-live-2.5-flash-native-audio"
            own = GeminiSettings(backend="vertex", model=names[backend])
            opened = GeminiModel.from_config(speech, own, ConnectionSettings(), environ)
        else:
            opened = model(emulator, speech, model=names[backend])
        session = await opened.connect()
        log = Log(session)
        session.send_text("how is it?")
        await log.until(lambda event: isinstance(event, ToolCall) and event.name == "clock")
        for call in log.of(ToolCall):
            session.send_tool_result(call.call_id, call.name, {"degrees": 7} if call.name == "weather" else {"time": 3})
        await log.until(
            lambda event: (
                isinstance(event, OutputTranscript)
                and "It is 7 at 3" in "".join(words.delta for words in log.of(OutputTranscript))
            )
        )
        await session.close()
    assert bool(log.of(ToolCall)[0].call_id) is call_ids
    assert log.of(ToolCall)[0].arguments == {"city": "Oslo"}
    assert len(emulator.sessions[0].tool_answers) == 2


async def test_manual_turns() -> None:
    speech = SpeechSettings(turn_detection=TurnDetectionSettings(mode="manual"))
    async with GeminiEmulator(scenario()) as emulator:
        session = await model(emulator, speech).connect()
        log = Log(session)
        session.send_audio(voice(0.2), PCM16_16K)  # outside of an activity: discarded
        session.start_activity()
        session.send_audio(voice(0.5), PCM16_16K)
        session.end_activity()
        await log.until(turn_of(1))
        await session.close()
    assert emulator.sessions[0].activities == ["start", "end"]
    assert len(emulator.sessions[0].heard) == len(voice(0.5))


async def handle_of(log: Log) -> str:
    event = await log.until(lambda event: isinstance(event, ResumptionUpdate) and event.resumable)
    assert isinstance(event, ResumptionUpdate)
    return event.handle


async def test_a_session_is_resumed_with_its_memory_once_the_old_socket_is_closed() -> None:
    async with GeminiEmulator(scenario()) as emulator:
        gemini = model(emulator)
        first = await gemini.connect()
        log = Log(first)
        await handle_of(log)
        first.send_text("remember me")
        await log.until(turn_of(1))
        handle = (
            await log.until(
                lambda event: (
                    isinstance(event, ResumptionUpdate)
                    and event.resumable
                    and bool(log.of(TurnComplete))
                    and log.events.index(event) > log.events.index(log.of(TurnComplete)[0])
                )
            )
        ).handle  # type: ignore[union-attr]
        with pytest.raises(ProviderUnavailable, match="1011"):
            await gemini.connect(SessionStart(number=2, resume=handle))
        await first.close()
        second = await gemini.connect(SessionStart(number=2, resume=handle))
        again = emulator.sessions[-1]
        assert again.resumed and "remember me" in [line.text for line in again.brain.memory.lines]  # type: ignore[union-attr]
        await second.close()


async def test_a_dead_handle_is_told_from_other_refusals() -> None:
    async with GeminiEmulator(scenario()) as emulator:
        with pytest.raises(ResumeRefused):
            await model(emulator).connect(SessionStart(resume="nonsense"))


async def test_a_fresh_session_is_seeded_without_speaking() -> None:
    history = (HistoryItem(role="user", text="I am Kim"), HistoryItem(role="assistant", text="Hello Kim"))
    async with GeminiEmulator(scenario()) as emulator:
        session = await model(emulator).connect(SessionStart(history=history))
        log = Log(session)
        session.send_text("who am I?")
        await log.until(turn_of(1))
        await session.close()
    assert [turn["role"] for turn in emulator.sessions[0].history] == ["user", "model"]
    assert len(log.of(TurnComplete)) == 1


async def test_go_away_is_announced_before_the_end() -> None:
    async with GeminiEmulator(scenario("[session]\ngo_away_s = 0.05\ntime_left_s = 0.2")) as emulator:
        session = await model(emulator).connect()
        log = Log(session)
        closed = await log.until(lambda event: isinstance(event, Closed))
        await session.close()
    assert log.of(GoAway) == [GoAway(session=1, time_left_s=0.2)]
    assert isinstance(closed, Closed) and isinstance(closed.error, ProviderUnavailable)


@pytest.mark.parametrize(
    ("own", "keys", "words"),
    [
        ({}, {"another"}, "API key not valid"),
        ({"model": "gemini-9-of-tomorrow"}, None, "is not found for API version v1beta"),
        ({"model": "gemini-9", "affective_dialog": True}, None, "is not found"),
    ],
)
async def test_a_refusal_carries_the_services_own_words(own: dict[str, Any], keys: Any, words: str) -> None:
    async with GeminiEmulator(scenario(), vendor=GeminiVendor(keys=keys)) as emulator:
        own = {**own, "api_version": "v1alpha"} if "affective_dialog" in own else own
        with pytest.raises(ProviderRejected, match=words) as refusal:
            await model(emulator, **own).connect()
    assert "key-" not in str(refusal.value)


def test_bad_settings_are_told_before_anything_opens_the_rest_as_notes() -> None:
    with pytest.raises(SettingRefused) as refusal:
        GeminiModel.from_config(
            SpeechSettings(voice="nobody"), GeminiSettings(), ConnectionSettings(), {"GOOGLE_GEMINI_BASE_URL": "x"}
        )
    assert refusal.value.field == "GOOGLE_API_KEY"
    assert [note.split(" ")[0] for note in refusal.value.__notes__] == ["GOOGLE_GEMINI_BASE_URL", "speech.voice"]


async def test_overrides_of_one_session_are_checked_too() -> None:
    gemini = GeminiModel.from_config(SpeechSettings(), GeminiSettings(), ConnectionSettings(), {"GOOGLE_API_KEY": "k"})
    with pytest.raises(SettingRefused, match="marin"):
        await gemini.connect(SessionStart(voice="marin"))


@pytest.mark.parametrize("frames", ["text", "binary"])
async def test_odd_frames_are_survived_and_reported(frames: str) -> None:
    faults = "".join(f'[[faults]]\nkind = "{kind}"\nreply = 1\n' for kind in ("malformed", "empty", "unknown"))
    async with GeminiEmulator(scenario(f'frames = "{frames}"\n{faults}')) as emulator:
        session = await model(emulator).connect()
        log = Log(session)
        session.send_text("hello")
        await log.until(turn_of(1))
        await session.close()
    assert [warning.code for warning in log.of(WarningReported)] == ["malformed_message", "unknown_message"]
    assert log.of(SpeechChunk)


@pytest.mark.parametrize(
    ("fault", "code"),
    [('kind = "close"\ncode = 1011\nreason = "Internal error encountered."', 1011), ('kind = "abort"', 1006)],
)
async def test_a_connection_that_ends_in_mid_word_can_be_tried_again(fault: str, code: int) -> None:
    async with GeminiEmulator(scenario(f"[[faults]]\n{fault}\nreply = 1\nspeech_ms = 200")) as emulator:
        session = await model(emulator).connect()
        log = Log(session)
        session.send_text("hello")
        closed = await log.until(lambda event: isinstance(event, Closed))
        await session.close()
    assert isinstance(closed, Closed) and closed.code == code
    assert type(closed.error) is ProviderUnavailable and closed.error.code == code
    assert log.of(SpeechChunk) and not log.of(TurnComplete)


async def test_a_cloned_voice_and_its_consent_go_out_from_their_files(tmp_path: Path) -> None:
    (tmp_path / "voice.wav").write_bytes(b"RIFFsample")
    (tmp_path / "consent.wav").write_bytes(b"RIFFconsent")
    cloned = ClonedVoiceSettings(
        sample_file=str(tmp_path / "voice.wav"), consent_file=str(tmp_path / "consent.wav"), consent_signature="s"
    )
    async with GeminiEmulator(scenario()) as emulator:
        session = await model(emulator, cloned_voice=cloned).connect()
        await session.close()
    assert emulator.sessions[0].setup["generationConfig"]["speechConfig"]["voiceConfig"] == {
        "replicatedVoiceConfig": {
            "mimeType": "audio/wav",
            "voiceSampleAudio": base64.b64encode(b"RIFFsample").decode(),
            "consentAudio": base64.b64encode(b"RIFFconsent").decode(),
            "voiceConsentSignature": {"signature": "s"},
        }
    }


async def test_tls_with_a_certificate_of_ones_own(tmp_path: Any) -> None:
    async with GeminiEmulator(scenario(), tls=True) as emulator:
        assert emulator.certificate is not None
        authority = emulator.certificate.save(tmp_path / "ca.pem")
        environ = {"GOOGLE_API_KEY": "key", "GOOGLE_GEMINI_BASE_URL": emulator.base_url}
        gemini = GeminiModel.from_config(
            SpeechSettings(), GeminiSettings(), ConnectionSettings(ca_file=str(authority)), environ
        )
        session = await gemini.connect()
        assert session.id == "" and json.loads(emulator.written("setup_complete")[0].data) == {"setupComplete": {}}
        await session.close()


async def test_a_file_that_hangs_costs_no_more_than_the_time_to_connect(tmp_path: Path) -> None:
    sample = tmp_path / "voice.wav"
    sample.write_bytes(b"RIFF")
    own = GeminiSettings(cloned_voice=ClonedVoiceSettings(sample_file=str(sample)))
    impatient = ConnectionSettings(connect_timeout_s=0.2)
    gemini = GeminiModel.from_config(SpeechSettings(), own, impatient, {"GOOGLE_API_KEY": "k"})
    sample.unlink()
    os.mkfifo(sample)  # as a file on a network drive whose server is gone
    try:
        with pytest.raises(ProviderUnavailable, match=r"not read within 0\.2 s"):
            await gemini.connect()
    finally:
        os.close(os.open(sample, os.O_RDWR | os.O_NONBLOCK))  # lets the thread that waits for it go
