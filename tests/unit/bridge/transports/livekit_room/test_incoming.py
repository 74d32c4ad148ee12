from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import numpy as np
import pytest

from bridge.core.words import EarlyAudio, InterruptRequested, ParticipantId, RoomEvent, TextReceived
from bridge.transports.livekit_room import incoming as incoming_module
from bridge.transports.livekit_room.held import HeldSpeech
from bridge.transports.livekit_room.incoming import CHAT_TOPIC, COMMANDS_TOPIC, PRE_CONNECT_TOPIC, Incoming
from bridge.transports.livekit_room.settings import LiveKitSettings


class Info:
    def __init__(self, attributes: dict[str, str], mime_type: str) -> None:
        self.attributes, self.mime_type = attributes, mime_type


class Reader:
    """One stream of the SDK: gives its pieces, then ends, breaks or hangs."""

    def __init__(self, *pieces: Any, attributes: dict[str, str] | None = None, mime_type: str = "", ends: str = "well"):
        self.pieces, self.ends, self.closed = pieces, ends, False
        self.info = Info(attributes or {}, mime_type)

    async def __aiter__(self) -> AsyncIterator[Any]:
        for piece in self.pieces:
            yield piece
        if self.ends == "broken":
            raise ConnectionError("Disconnected while receiving")
        if self.ends == "never":
            await asyncio.Event().wait()

    def close(self) -> None:
        self.closed = True


class Room:
    def __init__(self) -> None:
        self.handlers: dict[str, Any] = {}

    def register_text_stream_handler(self, topic: str, handler: Any) -> None:
        self.handlers[topic] = handler

    register_byte_stream_handler = register_text_stream_handler

    def unregister_text_stream_handler(self, topic: str) -> None:
        self.handlers.pop(topic, None)

    unregister_byte_stream_handler = unregister_text_stream_handler


class Bench:
    def __init__(self, **settings: Any) -> None:
        self.told: list[RoomEvent] = []
        self.unknown: set[str] = set()
        self.work: list[Coroutine[Any, Any, None]] = []
        self.live: list[bytes] = []
        chosen = LiveKitSettings(room="r", **settings)
        self.held = HeldSpeech(
            lambda _, pcm, now: self.live.append(pcm), self.told.append, rate_hz=chosen.input_rate_hz
        )
        self.incoming = Incoming(
            chosen,
            lambda who: None if who in self.unknown else who != "stranger",
            lambda work, _: self.work.append(work),
            self.told.append,
            self.held,
        )
        room: Any = Room()
        self.room = room
        self.incoming.register(room)

    async def receive(self, topic: str, reader: Reader, who: str = "ann") -> None:
        self.room.handlers[topic](reader, who)
        while self.work:
            await self.work.pop()


@pytest.mark.parametrize("topic", [CHAT_TOPIC, PRE_CONNECT_TOPIC])
async def test_what_overtakes_the_news_of_its_sender_is_kept(topic: str) -> None:
    bench = Bench()
    bench.unknown.add("ann")
    asyncio.get_running_loop().call_later(0.05, bench.unknown.clear)
    audio = {"sampleRate": "24000", "channels": "1"}
    await bench.receive(topic, Reader("Hello") if topic == CHAT_TOPIC else Reader(bytes(960), attributes=audio))
    assert len(bench.told) == 1
    assert bench.incoming.chat_refused == bench.incoming.early_refused == 0


async def test_a_sender_who_never_joins_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incoming_module, "_JOIN_GRACE_S", 0.05)
    bench = Bench()
    bench.unknown.add("ann")
    reader = Reader("Hello")
    await bench.receive(CHAT_TOPIC, reader)
    assert bench.told == [] and bench.incoming.chat_refused == 1 and reader.closed


async def test_a_message_in_pieces_is_one_text() -> None:
    bench = Bench()
    reader = Reader("Hel", "lo")
    await bench.receive(CHAT_TOPIC, reader)
    assert bench.told == [TextReceived(ParticipantId("ann"), "Hello")]
    assert reader.closed


@pytest.mark.parametrize("pieces", [(), ("  ",)])
async def test_an_empty_message_is_none(pieces: tuple[str, ...]) -> None:
    bench = Bench()
    await bench.receive(CHAT_TOPIC, Reader(*pieces))
    assert bench.told == []


async def test_a_long_message_is_cut_and_counted() -> None:
    bench = Bench(chat_limit=5)
    await bench.receive(CHAT_TOPIC, Reader("abc", "defg", "hij"))
    assert bench.told == [TextReceived(ParticipantId("ann"), "abcde")]
    assert bench.incoming.chat_cut == 1


@pytest.mark.parametrize("topic", [CHAT_TOPIC, PRE_CONNECT_TOPIC])
async def test_strangers_are_refused_and_their_streams_closed(topic: str) -> None:
    bench = Bench()
    reader = Reader("x")
    await bench.receive(topic, reader, who="stranger")
    assert (bench.told, reader.closed) == ([], True)
    assert bench.incoming.chat_refused + bench.incoming.early_refused == 1


@pytest.mark.parametrize("ends", ["broken", "never"])
async def test_a_message_that_breaks_off_or_hangs_is_counted(ends: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incoming_module, "_READ_TIMEOUT_S", 0.02)
    bench = Bench()
    reader = Reader("half", ends=ends)
    await bench.receive(CHAT_TOPIC, reader)
    assert (bench.told, bench.incoming.chat_refused, reader.closed) == ([], 1, True)


async def test_too_many_streams_at_once_are_refused() -> None:
    bench = Bench()
    for _ in range(17):
        bench.room.handlers[CHAT_TOPIC](Reader("x"), "ann")
    assert (len(bench.work), bench.incoming.chat_refused) == (16, 1)
    while bench.work:
        await bench.work.pop()
    await bench.receive(CHAT_TOPIC, Reader("again"))
    assert len(bench.told) == 17


async def test_a_button_silences_the_agent() -> None:
    bench = Bench()
    reader = Reader('{"type": "int', 'errupt"}')
    await bench.receive(COMMANDS_TOPIC, reader)
    assert bench.told == [InterruptRequested()]
    assert reader.closed


@pytest.mark.parametrize(
    "text", ["", "interrupt", "[]", '{"type": "explode"}', '{"type": "interrupt"' + " " * 300 + "}"]
)
async def test_what_is_no_command_is_refused_and_counted(text: str) -> None:
    bench = Bench()
    reader = Reader(text)
    await bench.receive(COMMANDS_TOPIC, reader)
    assert (bench.told, bench.incoming.commands_refused, reader.closed) == ([], 1, True)


async def test_strangers_command_nothing_and_a_setting_forbids_it_to_all() -> None:
    bench = Bench()
    await bench.receive(COMMANDS_TOPIC, Reader('{"type": "interrupt"}'), who="stranger")
    assert (bench.told, bench.incoming.commands_refused) == ([], 1)
    assert COMMANDS_TOPIC not in Bench(commands=False).room.handlers


async def test_early_speech_comes_at_our_rate_in_mono() -> None:
    bench = Bench(input_rate_hz=24_000)
    tone = (np.sin(np.arange(16_000) * 2 * np.pi * 440 / 16_000) * 8000).astype("<i2")
    raw = np.repeat(tone, 2).tobytes()
    attributes = {"sampleRate": "16000", "channels": "2"}
    await bench.receive(PRE_CONNECT_TOPIC, Reader(raw[:1001], raw[1001:], attributes=attributes))
    (early,) = bench.told
    assert isinstance(early, EarlyAudio)
    heard = np.frombuffer(early.pcm, dtype="<i2").astype(float)
    assert len(heard) == 24_000
    assert np.argmax(np.abs(np.fft.rfft(heard))) == 440
    assert abs(np.sqrt(np.mean(heard**2)) / (8000 / np.sqrt(2)) - 1) < 0.02


@pytest.mark.parametrize("ends", ["well", "broken"])
async def test_speech_while_a_recording_is_read_comes_behind_it(ends: str) -> None:
    bench, ann = Bench(input_rate_hz=8000), ParticipantId("ann")
    reader = Reader(b"\1\1" * 80, attributes={"sampleRate": "8000", "channels": "1"}, ends=ends)
    bench.room.handlers[PRE_CONNECT_TOPIC](reader, ann)
    bench.held.hear(ann, b"\2\2", 1.0)
    await bench.work.pop()
    bench.held.hear(ann, b"\3\3", 1.02)
    before = b"\1\1" * 80 if ends == "well" else b""
    assert (bench.told, bench.live) == ([EarlyAudio(ann, before + b"\2\2")], [b"\3\3"])


async def test_a_recording_that_is_refused_holds_nothing_up() -> None:
    bench, stranger = Bench(), ParticipantId("stranger")
    bench.room.handlers[PRE_CONNECT_TOPIC](Reader(b""), stranger)
    bench.held.hear(stranger, b"\2\2", 1.0)
    assert bench.live == [b"\2\2"]


async def test_of_too_long_a_recording_the_newest_is_kept() -> None:
    bench = Bench(input_rate_hz=8000, pre_connect_limit_s=0.5)
    raw = np.arange(8000, dtype="<i2").tobytes()
    await bench.receive(PRE_CONNECT_TOPIC, Reader(raw, attributes={"sampleRate": "8000", "channels": "1"}))
    assert bench.told == [EarlyAudio(ParticipantId("ann"), raw[-8000:])]
    assert bench.incoming.early_cut == 1


async def test_a_recording_that_cannot_be_read_is_counted() -> None:
    bench = Bench()
    good = {"sampleRate": "8000", "channels": "1"}
    for reader in (
        Reader(b"\0\0"),
        Reader(b"\0\0", attributes=good, mime_type="audio/webm"),
        Reader(b"\0\0", attributes=good, ends="broken"),
    ):
        await bench.receive(PRE_CONNECT_TOPIC, reader)
        assert reader.closed
    assert (bench.told, bench.incoming.early_refused) == ([], 3)


@pytest.mark.parametrize("topic", [CHAT_TOPIC, PRE_CONNECT_TOPIC])
async def test_a_phone_number_is_logged_for_debugging_only(topic: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    bench = Bench()
    await bench.receive(topic, Reader(ends="broken"), who="sip_+15550100")
    warned = [record.getMessage() for record in caplog.records if record.levelno > logging.DEBUG]
    assert len(warned) == 1 and "+1555" not in warned[0]
    assert "sip_+15550100" in caplog.text


async def test_an_empty_recording_is_no_event() -> None:
    bench = Bench()
    await bench.receive(PRE_CONNECT_TOPIC, Reader(attributes={"sampleRate": "8000", "channels": "1"}))
    assert bench.told == []


def test_what_is_off_is_not_registered() -> None:
    bench = Bench(chat=False, commands=False, pre_connect_audio=False)
    assert bench.room.handlers == {}
    bench.incoming.unregister(bench.room)


async def test_nothing_is_told_after_it_was_let_go() -> None:
    bench = Bench()
    bench.incoming.forget()
    await bench.receive(CHAT_TOPIC, Reader("late"))
    assert bench.told == []
    assert bench.incoming.chat_refused == 1
