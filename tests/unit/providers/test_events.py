from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable

import pytest

from providers.contract import Closed, SessionEvent, TextChunk, WarningReported
from providers.events import EventFanout


def text(number: int) -> TextChunk:
    return TextChunk(1, "r", str(number))


END = Closed(1, 1000, "")


async def drain(reader: AsyncIterator[SessionEvent]) -> list[SessionEvent]:
    return [event async for event in reader]


def test_listeners_are_called_in_order_before_emit_returns() -> None:
    fanout = EventFanout()
    heard: list[tuple[str, SessionEvent]] = []
    fanout.listen(lambda event: heard.append(("first", event)))
    fanout.listen(lambda event: heard.append(("second", event)))
    fanout.emit(text(1))
    assert heard == [("first", text(1)), ("second", text(1))]


def test_first_listener_gets_what_happened_before_and_the_second_does_not() -> None:
    fanout = EventFanout()
    fanout.emit(text(1))
    first: list[SessionEvent] = []
    second: list[SessionEvent] = []
    fanout.listen(first.append)
    fanout.listen(second.append)
    fanout.emit(text(2))
    assert (first, second) == ([text(1), text(2)], [text(2)])


def test_backlog_is_bounded_and_counted() -> None:
    fanout = EventFanout(backlog=3)
    for number in range(5):
        fanout.emit(text(number))
    heard: list[SessionEvent] = []
    fanout.listen(heard.append)
    (warned, *rest) = heard
    assert isinstance(warned, WarningReported) and (warned.session, warned.code) == (1, "events_missed")
    assert warned.message.startswith("2 events") and rest == [text(2), text(3), text(4)]


async def test_reader_from_the_backlog_knows_what_it_missed() -> None:
    fanout = EventFanout(backlog=2)
    for number in range(3):
        fanout.emit(text(number))
    fanout.emit(END)
    reader = fanout.read(capacity=1)
    assert reader.missed == 3
    assert await drain(reader) == [END]


async def test_slow_reader_loses_the_oldest_and_counts_while_the_other_loses_nothing() -> None:
    fanout = EventFanout()
    slow, quick = fanout.read(capacity=2), fanout.read(capacity=10)
    for number in range(4):
        fanout.emit(text(number))
    fanout.emit(END)
    assert await drain(slow) == [text(3), END]
    assert await drain(quick) == [text(0), text(1), text(2), text(3), END]
    assert (slow.missed, quick.missed) == (3, 0)


async def test_waiting_reader_wakes_for_an_event_and_ends_after_closed() -> None:
    fanout = EventFanout()
    reader = fanout.read()
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(drain(reader), name="reading")
        await asyncio.sleep(0)
        fanout.emit(text(1))
        await asyncio.sleep(0)
        fanout.emit(END)
    assert reading.result() == [text(1), END]


async def test_reader_opened_after_the_end_ends_at_once() -> None:
    fanout = EventFanout()
    fanout.listen(lambda event: None)
    fanout.emit(END)
    assert await drain(fanout.read()) == []


async def test_closed_reader_ends_and_is_forgotten() -> None:
    fanout = EventFanout()
    reader = fanout.read()
    fanout.emit(text(1))
    reader.close()
    fanout.emit(text(2))
    assert await drain(reader) == []


async def test_cancelled_read_loses_nothing() -> None:
    fanout = EventFanout()
    reader = fanout.read()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await anext(reader)
    fanout.emit(text(1))
    assert await anext(reader) == text(1)


async def test_two_consumers_of_one_reader_are_refused() -> None:
    fanout = EventFanout()
    reader = fanout.read()
    async with asyncio.TaskGroup() as group:
        group.create_task(drain(reader), name="first")
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="already being read"):
            await anext(reader)
        fanout.emit(END)


def test_capacity_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="capacity = 0"):
        EventFanout().read(0)


def test_stopped_listener_is_not_called_again_even_by_the_event_that_stopped_it() -> None:
    fanout = EventFanout()
    heard: list[SessionEvent] = []
    stops: list[Callable[[], None]] = []
    fanout.listen(lambda event: stops[0]())
    stops.append(fanout.listen(heard.append))
    fanout.emit(text(1))
    fanout.emit(text(2))
    assert heard == []


def test_event_caused_by_a_listener_reaches_everybody_after_the_one_that_caused_it() -> None:
    fanout = EventFanout()
    heard: list[SessionEvent] = []

    def causes(event: SessionEvent) -> None:
        if event == text(1):
            fanout.emit(text(2))

    fanout.listen(causes)
    fanout.listen(heard.append)
    fanout.emit(text(1))
    assert heard == [text(1), text(2)]


def test_event_caused_while_the_backlog_is_given_comes_behind_it() -> None:
    fanout = EventFanout()
    fanout.emit(text(1))
    fanout.emit(text(2))
    heard: list[SessionEvent] = []

    def listener(event: SessionEvent) -> None:
        heard.append(event)
        if event == text(1):
            fanout.emit(text(3))

    fanout.listen(listener)
    assert heard == [text(1), text(2), text(3)]


def test_listener_that_raises_is_logged_and_keeps_nothing_from_the_others(caplog: pytest.LogCaptureFixture) -> None:
    fanout = EventFanout()
    heard: list[SessionEvent] = []

    def broken(event: SessionEvent) -> None:
        raise ZeroDivisionError

    fanout.listen(broken)
    fanout.listen(heard.append)
    with caplog.at_level(logging.ERROR):
        fanout.emit(text(1))
        fanout.emit(END)
    failed = WarningReported(1, "listener_failed", "a listener raised ZeroDivisionError on TextChunk")
    assert heard == [text(1), failed, END]
    assert "a listener raised on TextChunk" in caplog.text


def test_nothing_follows_closed() -> None:
    fanout = EventFanout()
    heard: list[SessionEvent] = []
    fanout.listen(heard.append)
    fanout.emit(END)
    fanout.emit(text(1))
    fanout.emit(END)
    assert heard == [END]
