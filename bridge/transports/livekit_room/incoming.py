"""What people send to the agent beside their voice: typed messages, commands, and speech recorded before it came."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
from livekit import rtc

from bridge.core.words import InterruptRequested, ParticipantId, RoomEvent, TextReceived
from bridge.transports.livekit_room.early import EarlyAudioError, EarlyFormat, mono
from bridge.transports.livekit_room.held import HeldSpeech
from bridge.transports.livekit_room.settings import LiveKitSettings

__all__ = ["CHAT_TOPIC", "COMMANDS_TOPIC", "PRE_CONNECT_TOPIC", "Incoming"]

CHAT_TOPIC = "lk.chat"
COMMANDS_TOPIC = "roombridge.commands"
PRE_CONNECT_TOPIC = "lk.agent.pre-connect-audio-buffer"
_READERS = 16
"""Streams that may be read at once in one room. One more is refused and counted."""
_READ_TIMEOUT_S = 10.0
_COMMAND_LIMIT = 256
"""Longest command, characters."""

_log = logging.getLogger(__name__)

_JOIN_GRACE_S = 3.0


class _Interrupt(msgspec.Struct, frozen=True, tag_field="type", tag="interrupt"):
    """Silence, please: what a button says, where a voice would be a turn."""


_command = msgspec.json.Decoder(_Interrupt)


class Incoming:
    """Reads the streams of admitted participants, each whole, bounded in size and time."""

    def __init__(
        self,
        settings: LiveKitSettings,
        admits: Callable[[ParticipantId], bool | None],
        spawn: Callable[[Coroutine[Any, Any, None], str], None],
        tell: Callable[[RoomEvent], None],
        held: HeldSpeech,
    ) -> None:
        """Args: admits says whether somebody may be heard; None while nobody of this identity is known. held keeps
        the live speech of somebody behind his recording, and tells both."""
        self.chat_refused = 0
        self.chat_cut = 0
        self.commands_refused = 0
        self.early_refused = 0
        self.early_cut = 0
        self._settings = settings
        self._admits = admits
        self._spawn = spawn
        self._tell = tell
        self._held = held
        self._reading = 0

    def register(self, room: rtc.Room) -> None:
        """Before the room is joined, so that nothing sent at once is missed."""
        if self._settings.chat:
            room.register_text_stream_handler(CHAT_TOPIC, self._on_chat)
        if self._settings.commands:
            room.register_text_stream_handler(COMMANDS_TOPIC, self._on_command)
        if self._settings.pre_connect_audio:
            room.register_byte_stream_handler(PRE_CONNECT_TOPIC, self._on_early)

    def unregister(self, room: rtc.Room) -> None:
        room.unregister_text_stream_handler(CHAT_TOPIC)
        room.unregister_text_stream_handler(COMMANDS_TOPIC)
        room.unregister_byte_stream_handler(PRE_CONNECT_TOPIC)

    def forget(self) -> None:
        """Let go of the call that owns us, so that both can be freed without the collector."""
        self._admits = lambda _: False
        self._spawn = lambda work, _: work.close()
        self._tell = lambda _: None

    def _on_chat(self, reader: rtc.TextStreamReader, identity: str) -> None:
        who = ParticipantId(identity)
        if self._reading >= _READERS or self._admits(who) is False:
            self.chat_refused += 1
            reader.close()
        else:
            self._reading += 1
            self._spawn(self._read_chat(reader, who), "chat")

    def _on_command(self, reader: rtc.TextStreamReader, identity: str) -> None:
        who = ParticipantId(identity)
        if self._reading >= _READERS or self._admits(who) is False:
            self.commands_refused += 1
            reader.close()
        else:
            self._reading += 1
            self._spawn(self._read_command(reader, who), "command")

    def _on_early(self, reader: rtc.ByteStreamReader, identity: str) -> None:
        who = ParticipantId(identity)
        if self._reading >= _READERS or self._admits(who) is False:
            self.early_refused += 1
            reader.close()
        else:
            self._reading += 1
            self._held.begin(who)
            self._spawn(self._read_early(reader, who), "early")

    async def _admitted(self, who: ParticipantId) -> bool:
        """May this one be heard? What somebody sends at once may overtake the news that they have joined."""
        until = asyncio.get_running_loop().time() + _JOIN_GRACE_S
        while (admitted := self._admits(who)) is None and asyncio.get_running_loop().time() < until:  # noqa: ASYNC110 - of another object, seldom
            await asyncio.sleep(0.02)
        return bool(admitted)

    async def _read_chat(self, reader: rtc.TextStreamReader, who: ParticipantId) -> None:
        limit = self._settings.chat_limit
        text = ""
        try:
            if not await self._admitted(who):
                self.chat_refused += 1
                return
            async with asyncio.timeout(_READ_TIMEOUT_S):
                async for piece in reader:
                    text += piece
                    if len(text) > limit:
                        self.chat_cut += 1
                        text = text[:limit]
                        break
        except (TimeoutError, ConnectionError) as error:
            self.chat_refused += 1
            _log.warning("%s: a typed message broke off: %s", self._settings.room, error or "too slow")
            _log.debug("%s: the message was of %s", self._settings.room, who)
            return
        finally:
            self._reading -= 1
            reader.close()
        if text.strip():
            self._tell(TextReceived(who, text))

    async def _read_command(self, reader: rtc.TextStreamReader, who: ParticipantId) -> None:
        text = ""
        try:
            if not await self._admitted(who):
                self.commands_refused += 1
                return
            async with asyncio.timeout(_READ_TIMEOUT_S):
                async for piece in reader:
                    text += piece
                    if len(text) > _COMMAND_LIMIT:
                        break
            _command.decode(text[: _COMMAND_LIMIT + 1])
        except (TimeoutError, ConnectionError, ValueError):  # of msgspec, too: a ValueError
            self.commands_refused += 1
            return
        finally:
            self._reading -= 1
            reader.close()
        self._tell(InterruptRequested())

    async def _read_early(self, reader: rtc.ByteStreamReader, who: ParticipantId) -> None:
        recording = b""
        try:
            recording = await self._recording(reader, who)
        finally:
            self._held.end(who, recording)

    async def _recording(self, reader: rtc.ByteStreamReader, who: ParticipantId) -> bytes:
        """Int16 mono at the input rate; empty if refused."""
        raw = bytearray()
        try:
            if not await self._admitted(who):
                self.early_refused += 1
                return b""
            audio = EarlyFormat(reader.info.attributes or {}, reader.info.mime_type)
            limit = audio.limit_bytes(self._settings.pre_connect_limit_s)
            async with asyncio.timeout(_READ_TIMEOUT_S):
                async for piece in reader:
                    raw += piece
                    excess = len(raw) - limit
                    if excess > 0:
                        # The newest words matter most. Whole samples go, so that channels stay apart.
                        frame = audio.channels * 2
                        self.early_cut += 1
                        del raw[: -(-excess // frame) * frame]
        except (TimeoutError, ConnectionError, EarlyAudioError) as error:
            self.early_refused += 1
            _log.warning("%s: early speech is not used: %s", self._settings.room, error or "too slow")
            _log.debug("%s: the early speech was of %s", self._settings.room, who)
            return b""
        finally:
            self._reading -= 1
            reader.close()
        rate_hz = self._settings.input_rate_hz
        return await asyncio.to_thread(_convert, bytes(raw), audio.channels, audio.rate_hz, rate_hz)


def _convert(raw: bytes, channels: int, from_hz: int, to_hz: int) -> bytes:
    samples = mono(raw, channels)
    if from_hz != to_hz and samples.size:
        import soxr  # here the delay of its filter does not matter, its quality does

        samples = soxr.resample(samples, from_hz, to_hz, quality="HQ")
    return samples.tobytes()
