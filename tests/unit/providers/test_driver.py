"""The driver over real sockets on loopback."""

from __future__ import annotations

import asyncio
import base64
import fcntl
import gc
import logging
import struct
import termios
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from providers.contract import (
    Closed,
    ModelSession,
    SessionEvent,
    SessionReady,
    SessionStart,
    SessionState,
    SpeechChunk,
    TextChunk,
    WarningReported,
)
from providers.driver import open_session
from providers.errors import (
    NeedsNewSession,
    ProviderRejected,
    ProviderUnavailable,
    SessionEnded,
    SetupTimeout,
)
from providers.link import Link, WebSocketLink
from providers.settings import ConnectionSettings
from providers.signal.formats import PCM16_16K
from tests.fakes.json_protocol import JsonCore
from tests.fakes.leftovers import nothing_left
from tests.fakes.websocket_server import Peer, reset, until, websocket_server

QUICK = ConnectionSettings(connect_timeout_s=2, setup_timeout_s=2, close_timeout_s=0.3)
FRAME = b"\0" * 640


async def open_to(
    url: str, settings: ConnectionSettings = QUICK, *, number: int = 1, core: JsonCore | None = None
) -> ModelSession:
    return await open_session(
        core or JsonCore(number),
        lambda: WebSocketLink.connect(url, {"X-Key": "secret-key-1"}, settings),
        SessionStart(number=number),
        settings,
    )


def recorded(session: ModelSession) -> list[SessionEvent]:
    events: list[SessionEvent] = []
    session.listen(events.append)
    return events


async def greeting(peer: Peer) -> None:
    """Accept the setup and take whatever comes."""
    await peer.greet()
    await peer.take_all()


@asynccontextmanager
async def served(
    script: Callable[[Peer], Awaitable[None]] = greeting,
    *,
    settings: ConnectionSettings = QUICK,
    core: JsonCore | None = None,
) -> AsyncIterator[tuple[ModelSession, list[SessionEvent], Peer]]:
    """A session to a server that follows `script`, its events, and the server's end."""
    peers: list[Peer] = []

    async def remembered(peer: Peer) -> None:
        peers.append(peer)
        await script(peer)

    async with websocket_server(remembered) as url:
        session = await open_to(url, settings, core=core)
        try:
            yield session, recorded(session), peers[0]
        finally:
            await session.close()


def bytes_waiting(descriptor: int) -> int:
    """Received by the kernel and not yet read."""
    return int(struct.unpack("i", fcntl.ioctl(descriptor, termios.FIONREAD, b"\0" * 4))[0])


def closed(events: list[SessionEvent]) -> Closed:
    (event,) = [event for event in events if isinstance(event, Closed)]
    assert events[-1] is event, "nothing follows Closed"
    return event


# ------------------------------------------------------------------------------------------------------- a good call


async def test_session_is_ready_and_carries_audio_text_and_commands_in_order() -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.say(audio=base64.b64encode(b"speech").decode(), text="hello")
        await peer.take_all()

    async with served(script) as (session, events, peer):
        assert (session.state, session.id, session.number) == (SessionState.READY, "s1", 1)
        session.send_audio(FRAME, PCM16_16K)
        session.send_text("typed")
        session.send_audio(FRAME, PCM16_16K)
        await until(lambda: len(events) == 3 and len(peer.got) == 4)
        await session.close()
    assert events == [
        SessionReady(1, "s1"),
        SpeechChunk(1, "r1", b"speech"),
        TextChunk(1, "r1", "hello"),
        Closed(1, 1000, ""),
    ]
    assert [next(iter(message)) for message in peer.got] == ["setup", "audio", "text", "audio"]
    assert all(isinstance(message, str) for message in peer.raw), "JSON goes out as text frames"
    assert (session.outbox.sent_audio_ms, session.outbox.sent_messages) == (40, 4)


async def test_every_command_reaches_the_wire() -> None:
    async with served() as (session, _, peer):
        session.end_input()
        session.commit_input()
        session.clear_input()
        session.start_activity()
        session.end_activity()
        session.send_image(b"jpeg", "image/jpeg")
        session.send_text("hi", respond=False)
        session.respond("greet")
        session.interrupt()
        session.truncate("r1", 120)
        session.send_tool_result("c1", "clock", {"t": 1}, error=True, respond=False)
        session.update(instructions="be brief")
        session.send_raw({"own": "words"})
        await until(lambda: len(peer.got) == 14)
    assert peer.got[1:] == [
        {"end_input": True},
        {"commit_input": True},
        {"clear_input": True},
        {"start_activity": True},
        {"end_activity": True},
        {"image": 4, "mime_type": "image/jpeg"},
        {"text": "hi", "respond": False},
        {"respond": "greet"},
        {"interrupt": True},
        {"truncate": "r1", "heard_ms": 120},
        {"tool": "c1", "name": "clock", "result": {"t": 1}, "error": True, "respond": False},
        {"instructions": "be brief"},
        {"own": "words"},
    ]


async def test_refused_update_raises_and_leaves_the_session_as_it_was() -> None:
    async with served() as (session, _, peer):
        with pytest.raises(NeedsNewSession, match="voice"):
            session.update(voice="other")
        session.send_text("still here")
        await until(lambda: len(peer.got) == 2)


async def test_text_binary_and_fragmented_messages_are_read_alike() -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.say(text="one")
        await peer.say(text="two", binary=True)
        await peer.connection.send(['{"text":', "", '"three"}'])
        await peer.connection.send([b'{"text":"fo', b'ur"}'])
        await peer.take_all()

    async with served(script) as (_, events, _):
        await until(lambda: len(events) == 5)
        assert [event.delta for event in events if isinstance(event, TextChunk)] == ["one", "two", "three", "four"]


async def test_huge_message_arrives_whole() -> None:
    speech = bytes(range(256)) * 40_000  # 10 MB, 13.7 MB on the wire

    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.say(audio=base64.b64encode(speech).decode())
        await peer.take_all()

    async with served(script) as (_, events, _):
        await until(lambda: len(events) == 2)
        assert events[1] == SpeechChunk(1, "r1", speech)


async def test_two_sessions_side_by_side_keep_apart() -> None:
    async def echo(peer: Peer) -> None:
        await peer.greet()
        while True:
            said = await peer.take()
            await peer.say(text=said["text"])

    async with websocket_server(echo) as url:
        sessions = await asyncio.gather(open_to(url, number=1), open_to(url, number=2))
        events = [recorded(session) for session in sessions]
        for turn in range(20):
            sessions[0].send_text(f"a{turn}")
            sessions[1].send_text(f"b{turn}")
        await until(lambda: all(len(one) == 21 for one in events))
        await sessions[0].close()
        sessions[1].send_text("alone")
        await until(lambda: len(events[1]) == 22)
        await sessions[1].close()
    for number, letter, one in ((1, "a", events[0]), (2, "b", events[1])):
        assert {event.session for event in one} == {number}
        assert all(event.delta[0] == letter for event in one[1:21] if isinstance(event, TextChunk))


async def test_events_before_the_first_listener_are_kept_and_readers_count_what_they_miss() -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        for number in range(5):
            await peer.say(text=str(number))
        await peer.take_all()

    async with websocket_server(script) as url:
        session = await open_to(url)
        await asyncio.sleep(0.05)
        events = recorded(session)
        assert [type(event) for event in events] == [SessionReady] + [TextChunk] * 5
        reader = session.read(capacity=1)
        await session.close()
        assert [type(event) async for event in reader] == [Closed]


async def test_audio_of_a_healthy_call_is_on_the_wire_before_send_audio_returns() -> None:
    async with served() as (session, _, peer):
        await until(lambda: len(peer.got) == 1)
        sock = peer.connection.transport.get_extra_info("socket")
        waiting = bytes_waiting(sock.fileno())
        session.send_audio(FRAME, PCM16_16K)
        assert bytes_waiting(sock.fileno()) - waiting > len(FRAME)


# --------------------------------------------------------------------------------------------------------- deadlines


async def test_deadline_of_the_protocol_is_kept_and_its_answer_sent() -> None:
    core = JsonCore()

    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.connection.send('{"in": 0.05}')
        await peer.take_all()

    async with served(script, core=core) as (_, events, peer):
        began = asyncio.get_running_loop().time()
        await until(lambda: {"timeout": True} in peer.got)
        assert TextChunk(1, "r1", "timeout") in events
        assert len(core.timeouts) == 1
        assert core.timeouts[0] - began < 0.3


async def test_deadline_may_move_either_way() -> None:
    core = JsonCore()

    async def script(peer: Peer) -> None:
        await peer.greet()
        for seconds in (5.0, 0.2, 0.4):
            await peer.connection.send(f'{{"in": {seconds}}}')
        await peer.take_all()

    async with served(script, core=core):
        began = asyncio.get_running_loop().time()
        await until(lambda: core.timeouts)
        assert 0.3 < core.timeouts[0] - began < 1.0


# ------------------------------------------------------------------------------------------------- trouble in a call


async def test_unreadable_messages_are_reported_and_survived(caplog: pytest.LogCaptureFixture) -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.connection.send("{not json")
        await peer.connection.send(b"\xff\xfe", text=True)
        await peer.connection.send("")
        await peer.connection.send('"raise"')
        await peer.say(text="still here")
        await peer.take_all()

    with caplog.at_level(logging.CRITICAL):
        async with served(script) as (session, events, _):
            await until(lambda: TextChunk(1, "r1", "still here") in events)
            assert session.state is SessionState.READY
    assert events[1:5] == [
        WarningReported(1, "malformed", "9 str"),
        WarningReported(1, "malformed", "2 bytes"),
        WarningReported(1, "malformed", "0 str"),
        WarningReported(1, "unreadable_message", "a message could not be read: ZeroDivisionError"),
    ]


class FaultyCore(JsonCore):
    """Raises in `handle_timeout` and `outgoing` once it is told to."""

    def __init__(self, method: str) -> None:
        super().__init__()
        self.method = method
        self.armed = False
        self.raised = 0

    def _fail(self, method: str) -> None:
        if self.armed and method == self.method:
            self.raised += 1
            raise ZeroDivisionError("private words")

    def handle_timeout(self, now: float) -> list[SessionEvent]:
        self._fail("handle_timeout")
        return super().handle_timeout(now)

    def outgoing(self) -> list[bytes]:
        self._fail("outgoing")
        return super().outgoing()


@pytest.mark.parametrize("method", ["handle_timeout", "outgoing"])
async def test_protocol_that_fails_ends_the_session_instead_of_hanging_or_spinning(
    method: str, caplog: pytest.LogCaptureFixture
) -> None:
    core = FaultyCore(method)

    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.connection.send('{"in": 0.01}')
        await peer.take_all()

    with caplog.at_level(logging.CRITICAL):
        async with nothing_left(), served(script, core=core) as (session, events, _):
            core.armed = True
            if method == "outgoing":
                session.send_text("lost")
            await until(lambda: session.state is SessionState.CLOSED)
    error = closed(events).error
    assert isinstance(error, ProviderUnavailable), "a new session starts anew"
    assert "ZeroDivisionError" in str(error)
    assert "private words" not in str(error)
    assert core.raised <= 2


async def test_goodbye_of_the_provider_is_told_with_code_and_reason() -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.connection.close(1008, "key revoked")

    async with served(script) as (session, events, _):
        await until(lambda: session.state is SessionState.CLOSED)
    end = closed(events)
    assert (end.code, end.reason) == (1008, "key revoked")
    assert isinstance(end.error, ProviderRejected)


async def test_goodbye_of_a_provider_that_keeps_its_socket_open_ends_the_session_all_the_same() -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        peer.connection.protocol.send_close(1011, "overloaded")
        peer.connection.transport.write(b"".join(peer.connection.protocol.data_to_send()))
        await asyncio.sleep(1)

    async with served(script) as (session, events, _):
        await until(lambda: session.state is SessionState.CLOSED, 0.3)
    assert (closed(events).code, closed(events).reason) == (1011, "overloaded")


async def test_reset_in_the_middle_of_a_message_is_a_loss_worth_another_try() -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.say(text="before")
        peer.connection.transport.write(b"\x81\x7e\x10\x00" + b"x" * 100)  # 4096 announced, 100 sent
        await asyncio.sleep(0.02)
        reset(peer)

    async with served(script) as (session, events, _):
        await until(lambda: session.state is SessionState.CLOSED)
    assert TextChunk(1, "r1", "before") in events
    assert closed(events).code == 1006
    assert isinstance(closed(events).error, ProviderUnavailable)


async def test_refusal_on_an_open_socket_ends_the_session_with_the_protocols_own_words() -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.say(refused="billing", text="ignored")
        await peer.take_all()

    async with served(script) as (session, events, peer):
        await until(lambda: session.state is SessionState.CLOSED)
        await until(lambda: peer.connection.close_code is not None)
    assert events == [SessionReady(1, "s1"), closed(events)]
    assert isinstance(closed(events).error, ProviderRejected)


async def test_frame_beyond_the_limit_is_refused_by_name() -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.connection.send("x" * (17 * 1024 * 1024))

    async with served(script) as (session, events, _):
        await until(lambda: session.state is SessionState.CLOSED)
    assert closed(events).code == 1006, "1009 would say that ours was too big"
    assert "we refused what came: 1009" in closed(events).reason


async def test_pongs_are_life_enough_and_a_half_open_connection_is_noticed() -> None:
    settings = ConnectionSettings(ping_interval_s=0.05, stall_timeout_s=0.4, close_timeout_s=0.3)
    async with served(settings=settings) as (session, events, peer):
        await asyncio.sleep(0.8)
        assert session.state is SessionState.READY
        peer.connection.transport.pause_reading()  # as after a cable was pulled: no data, no pong, no FIN
        await until(lambda: session.state is SessionState.CLOSED, 1.0)
        peer.connection.transport.resume_reading()
    assert (closed(events).code, closed(events).reason) == (1006, "nothing received for 0.4 s")
    assert isinstance(closed(events).error, ProviderUnavailable)


async def test_silence_in_the_midst_of_a_reply_is_noticed_though_pongs_come() -> None:
    settings = ConnectionSettings(ping_interval_s=0.05, speech_stall_s=0.5, close_timeout_s=0.3)

    async def script(peer: Peer) -> None:
        await peer.greet()
        for _ in range(6):  # slow, but alive: 0.9 s in all
            await peer.say(audio=base64.b64encode(FRAME).decode())
            await asyncio.sleep(0.15)
        await peer.take_all()

    async with served(script, settings=settings) as (session, events, _):
        await until(lambda: session.state is SessionState.CLOSED, 3.0)
    assert len(events) == 1 + 6 + 1
    assert (closed(events).code, closed(events).reason) == (1006, "silent for 0.5 s in the midst of a reply")
    assert isinstance(closed(events).error, ProviderUnavailable)


async def test_silence_after_the_last_of_a_reply_is_nobodys_fault() -> None:
    settings = ConnectionSettings(speech_stall_s=0.5, close_timeout_s=0.3)

    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.say(audio=base64.b64encode(FRAME).decode())
        await peer.say(text="the end")
        await peer.take_all()

    async with served(script, settings=settings) as (session, _, _):
        await asyncio.sleep(0.8)
        assert session.state is SessionState.READY


async def test_slow_socket_costs_the_oldest_audio_and_never_a_message() -> None:
    settings = ConnectionSettings(outbox_ms=400, close_timeout_s=0.3)
    second = b"\0" * 32_000

    async with served(settings=settings) as (session, _, peer):
        peer.connection.transport.pause_reading()
        for number in range(400):
            session.send_audio(second[:3200], PCM16_16K)
            if number % 100 == 50:
                session.send_text(f"kept {number}")
            await asyncio.sleep(0)
        stats = session.outbox
        assert stats.dropped_audio_messages > 0
        assert stats.dropped_audio_ms == 100 * stats.dropped_audio_messages
        peer.connection.transport.resume_reading()
        arrived = 400 - stats.dropped_audio_messages
        await until(lambda: sum("audio" in message for message in peer.got) == arrived)
        kept = [message["text"] for message in peer.got if "text" in message]
        assert kept == ["kept 50", "kept 150", "kept 250", "kept 350"]
        assert session.outbox.sent_audio_ms == arrived * 100
        session.send_audio(FRAME, PCM16_16K)
        await until(lambda: len(peer.got) == 1 + arrived + 4 + 1)


async def test_messages_that_pile_up_behind_a_dead_socket_end_the_session() -> None:
    async with served() as (session, events, peer):
        peer.connection.transport.pause_reading()
        with pytest.raises(SessionEnded):
            for _ in range(3000):
                session.send_text("x" * 10_000)
                await asyncio.sleep(0)
        peer.connection.transport.resume_reading()
    end = closed(events)
    assert isinstance(end.error, ProviderUnavailable)
    assert "takes nothing any more" in str(end.error)
    assert session.outbox.unsent_messages == 1024


# --------------------------------------------------------------------------------------------------------------- end


async def test_close_is_idempotent_and_leaves_error_free() -> None:
    async with served() as (session, events, peer):
        await asyncio.gather(session.close(), session.close())
        await session.close()
        assert peer.connection.close_code == 1000
    assert closed(events) == Closed(1, 1000, "")


async def test_after_the_end_commands_say_so_and_audio_is_counted() -> None:
    async with served() as (session, _, _):
        await session.close()
        session.send_audio(FRAME, PCM16_16K)
        session.send_audio(FRAME, PCM16_16K)
        assert session.outbox.dropped_after_end == 2
        for command in (session.interrupt, session.end_input, session.respond, lambda: session.send_text("x")):
            with pytest.raises(SessionEnded, match=r"session 1 is closed \(1000\)"):
                command()


async def test_close_of_a_provider_that_never_answers_is_bounded() -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        peer.connection.transport.pause_reading()
        await asyncio.sleep(1)

    async with served(script) as (session, events, _):
        began = asyncio.get_running_loop().time()
        await session.close()
        assert 0.25 < asyncio.get_running_loop().time() - began < 0.6
    assert closed(events).error is None


async def test_cancelled_close_leaves_nothing_open() -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        peer.connection.transport.pause_reading()
        await asyncio.sleep(0.3)

    async with nothing_left(), served(script) as (session, events, _):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await session.close()
        await until(lambda: session.state is SessionState.CLOSED, 0.1)
        assert closed(events).error is None


async def test_what_was_said_before_close_still_arrives() -> None:
    async with served() as (session, _, peer):
        session.send_text("last words")
        await session.close()
        await until(lambda: peer.connection.close_code is not None)
        assert peer.got[-1] == {"text": "last words", "respond": True}


# ----------------------------------------------------------------------------------------------------------- opening


async def test_provider_that_never_gets_ready_times_out_with_its_last_complaint() -> None:
    settings = ConnectionSettings(setup_timeout_s=0.2, close_timeout_s=0.2)

    async def script(peer: Peer) -> None:
        await peer.take()
        await peer.say(error="no such voice")
        await peer.take_all()

    async with nothing_left(), websocket_server(script) as url:
        with pytest.raises(SetupTimeout, match=r"not ready within 0.2 s; it said: bad: no such voice"):
            await open_to(url, settings)


async def test_end_before_ready_raises_what_the_protocol_says_of_it() -> None:
    async def script(peer: Peer) -> None:
        await peer.take()
        await peer.connection.close(1008, "model not found")

    async with nothing_left(), websocket_server(script) as url:
        with pytest.raises(ProviderRejected, match="model not found"):
            await open_to(url)


async def test_end_before_the_first_message_is_told_too() -> None:
    async def script(peer: Peer) -> None:
        await peer.connection.close(1013, "try later")

    async with nothing_left(), websocket_server(script) as url:
        with pytest.raises(ProviderUnavailable, match="1013 try later"):
            await open_to(url)


async def test_refusal_during_setup_raises_at_once() -> None:
    async def script(peer: Peer) -> None:
        await peer.take()
        await peer.say(refused="voice unknown")
        await peer.take_all()

    async with nothing_left(), websocket_server(script) as url:
        with pytest.raises(ProviderRejected, match="voice unknown"):
            await open_to(url)


async def test_dial_is_bounded_as_a_whole() -> None:
    settings = ConnectionSettings(connect_timeout_s=0.1)

    async def slow_token() -> Link:
        await asyncio.sleep(10)
        raise AssertionError

    with pytest.raises(ProviderUnavailable, match=r"not connected within 0.1 s"):
        await open_session(JsonCore(), slow_token, SessionStart(), settings)


@pytest.mark.parametrize("after_s", [0.0, 0.001, 0.003, 0.006, 0.01, 0.02, 0.05, 0.1])
async def test_cancellation_at_any_moment_of_connect_leaves_nothing(after_s: float) -> None:
    async def script(peer: Peer) -> None:
        await asyncio.sleep(0.04)
        await peer.take_all()

    async with websocket_server(script) as url, nothing_left():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(after_s):
                await open_to(url)


async def test_one_round_trip_after_the_upgrade() -> None:
    delay_s = 0.1

    async def script(peer: Peer) -> None:
        setup = await peer.take()
        await asyncio.sleep(delay_s)
        await peer.say(ready=f"s{setup['setup']}")
        await peer.take_all()

    async with websocket_server(script) as url:
        await (await open_to(url)).close()  # warm
        began = asyncio.get_running_loop().time()
        session = await open_to(url)
        took_s = asyncio.get_running_loop().time() - began
        await session.close()
    assert took_s < 1.8 * delay_s


# ------------------------------------------------------------------------------------------------------ cost, memory


async def test_many_sessions_leave_nothing() -> None:
    async with websocket_server(greeting) as url, nothing_left():
        for _ in range(20):
            session = await open_to(url)
            session.send_audio(FRAME, PCM16_16K)
            await session.close()


async def test_session_needs_no_task_of_its_own() -> None:
    async with websocket_server(greeting) as url:
        await asyncio.sleep(0)
        before = {task.get_name() for task in asyncio.all_tasks()}
        session = await open_to(url)
        own = {task.get_name() for task in asyncio.all_tasks()} - before
        await session.close()
    # Two belong to the fake server: its connection handler, and nothing of ours.
    assert len(own) <= 1, own


async def test_messages_make_no_reference_cycles() -> None:
    speech = base64.b64encode(bytes(4800)).decode()

    async def script(peer: Peer) -> None:
        await peer.greet()
        while True:
            await peer.take()
            await peer.say(audio=speech)

    async with served(script) as (session, _, _):
        chunks = 0

        def listener(event: SessionEvent) -> None:
            nonlocal chunks
            chunks += 1
            session.send_audio(FRAME, PCM16_16K)

        session.listen(listener)
        session.send_audio(FRAME, PCM16_16K)
        await until(lambda: chunks > 50)
        gc.collect()
        gc.disable()
        try:
            await until(lambda: chunks >= 200)
            # The server's side runs in this process too; what grows with the messages would show as hundreds.
            assert gc.collect() < 50
        finally:
            gc.enable()


async def test_ended_session_is_freed_without_the_collector() -> None:
    async with websocket_server(greeting) as url:
        session = await open_to(url)
        await session.close()
        await asyncio.sleep(0.05)
        link = weakref.ref(session._link)  # type: ignore[attr-defined]
        gone = weakref.ref(session)
        gc.collect()
        gc.disable()
        try:
            del session
            assert gone() is None and link() is None
        finally:
            gc.enable()
