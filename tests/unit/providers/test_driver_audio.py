"""The driver over a link that carries audio beside its messages: both ways, the stall watch, and the end."""

from __future__ import annotations

import asyncio
import gc
import weakref

from providers.contract import Closed, ModelSession, OutboxStats, SessionEvent, SpeechChunk
from providers.driver import set_up
from providers.errors import ProviderUnavailable
from providers.link import LinkUser
from providers.settings import ConnectionSettings
from providers.signal.formats import PCM16_16K, AudioFormat
from tests.fakes.json_protocol import JsonCore
from tests.fakes.websocket_server import until

FRAME = b"\1\0" * 320
SILENCE = bytes(640)


class AudioLink:
    """Is ready when it is asked, and keeps what it is given."""

    def __init__(self) -> None:
        self.user: LinkUser | None = None
        self.writable = True
        self.stats = OutboxStats()
        self.audio: list[bytes] = []
        self.messages: list[bytes] = []
        self.drops = 0

    def attach(self, user: LinkUser) -> None:
        self.user = user
        asyncio.get_running_loop().call_soon(user.message_received, '{"ready":"s1"}')

    def send(self, message: bytes) -> None:
        self.messages.append(message)

    def carry_audio(self, stats: OutboxStats) -> bool:
        self.stats = stats
        return True

    def send_audio(self, audio: bytes) -> None:
        self.audio.append(audio)
        self.stats.sent_audio_ms += 20

    def drop_audio(self) -> None:
        self.drops += 1

    def finish(self, code: int = 1000, reason: str = "") -> None:
        self._end(code, reason)

    def abort(self, reason: str = "") -> None:
        self._end(1006, reason)

    async def wait_closed(self) -> None:
        assert self.user is None

    def _end(self, code: int, reason: str) -> None:
        user, self.user = self.user, None
        self.writable = False
        if user is not None:
            user.link_closed(code, reason)


class AudioJsonCore(JsonCore):
    """Every frame that is not silent is speech of one reply."""

    sounded_at = 0.0

    def encode_audio(self, audio: bytes, format: AudioFormat) -> bytes:
        return audio

    def receive_audio(self, pcm: bytes, now: float) -> list[SessionEvent]:
        if pcm == b"raise":
            raise ZeroDivisionError
        if not any(pcm):
            return []
        self.speaking = True
        self.sounded_at = now
        return [SpeechChunk(self.number, "r1", pcm)]


async def opened(settings: ConnectionSettings | None = None) -> tuple[ModelSession, AudioLink, list[SessionEvent]]:
    link = AudioLink()
    session = await set_up(AudioJsonCore(), link, 1, settings or ConnectionSettings())
    events: list[SessionEvent] = []
    session.listen(events.append)
    return session, link, events


async def test_audio_goes_both_ways_beside_the_messages() -> None:
    session, link, events = await opened()
    session.send_audio(FRAME, PCM16_16K)
    session.send_text("typed")
    assert link.user is not None
    link.user.audio_received(SILENCE, 1.0)
    link.user.audio_received(FRAME, 1.02)
    session.clear_input()
    assert (link.audio, link.drops) == ([FRAME], 1)
    assert [message.split(b'"')[1] for message in link.messages] == [b"setup", b"text", b"clear_input"]
    assert [event.audio for event in events if isinstance(event, SpeechChunk)] == [FRAME]
    assert session.outbox.sent_audio_ms == 20
    await session.close()
    session.send_audio(FRAME, PCM16_16K)
    assert session.outbox.dropped_after_end == 1


async def test_endless_silence_in_the_midst_of_a_reply_is_a_stall() -> None:
    session, link, events = await opened(ConnectionSettings(speech_stall_s=0.5))
    loop = asyncio.get_running_loop()
    spoken_at = loop.time()
    assert link.user is not None
    link.user.audio_received(FRAME, spoken_at)
    while link.user is not None and loop.time() < spoken_at + 3:
        link.user.audio_received(SILENCE, loop.time())
        await asyncio.sleep(0.01)
    (closed,) = [event for event in events if isinstance(event, Closed)]
    assert isinstance(closed.error, ProviderUnavailable) and "silent" in str(closed.error)
    assert 0.4 < loop.time() - spoken_at < 1.5
    await session.close()


async def test_speech_alone_is_a_sign_of_life() -> None:
    session, link, events = await opened(ConnectionSettings(speech_stall_s=0.5))
    loop = asyncio.get_running_loop()
    until_at = loop.time() + 0.9
    while loop.time() < until_at:
        assert link.user is not None
        link.user.audio_received(FRAME, loop.time())
        await asyncio.sleep(0.01)
    assert not any(isinstance(event, Closed) for event in events)
    await session.close()


async def test_a_core_that_cannot_take_a_frame_ends_the_session_once() -> None:
    session, link, events = await opened()
    assert link.user is not None
    link.user.audio_received(b"raise", 1.0)
    await until(lambda: any(isinstance(event, Closed) for event in events))
    (closed,) = [event for event in events if isinstance(event, Closed)]
    assert isinstance(closed.error, ProviderUnavailable)
    await session.close()


async def test_an_ended_session_leaves_no_cycle() -> None:
    session, _, events = await opened()
    await session.close()
    gone = weakref.ref(session)
    events.clear()
    gc.disable()
    try:
        del session, _
        assert gone() is None
    finally:
        gc.enable()
