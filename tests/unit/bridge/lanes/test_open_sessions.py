"""Sessions are opened, found, forgotten and closed, each once; nothing opens in a call that ends."""

from __future__ import annotations

import asyncio
from typing import ClassVar

import pytest

from bridge.lanes.open_sessions import OpenSessions
from bridge.sessions.feed import SessionFeed
from providers.contract import GoAway, SessionStart
from providers.errors import ProviderError, SessionEnded
from providers.signal.formats import PCM16_24K
from tests.fakes.hand_model import HandModel, HandSession
from tests.fakes.kept_call import GONE
from tests.fakes.lanes import OrderedLane


class Call:
    def __init__(self) -> None:
        self.model = HandModel()
        self.lane = OrderedLane()
        self.opened: list[int] = []
        self.gone: list[int] = []
        self.sessions = OpenSessions(
            "test",
            make_feed=lambda session: SessionFeed(session, bus=PCM16_24K, room=PCM16_24K),
            opened=self.opened.append,
            gone=self.gone.append,
        )
        self.sessions.start(self.lane)

    async def open(self) -> HandSession:
        number = await self.sessions.open(self.model, SessionStart())
        session = self.sessions.must_get(number)
        assert isinstance(session, HandSession)
        return session


async def test_each_session_has_a_number_of_its_own_and_is_found_by_it() -> None:
    call = Call()
    first, second = await call.open(), await call.open()
    assert (first.number, second.number) == (1, 2) == tuple(call.opened)
    assert call.sessions.get(2) is second and call.sessions.known(2).model is call.model
    assert call.sessions.get(None) is None and call.sessions.get(3) is None
    assert set(call.lane.feeds) == {1, 2} and call.lane.leader is None
    with pytest.raises(ValueError, match=r"session 3 is not open \(open: \[1, 2\]\)"):
        call.sessions.must_get(3)


async def test_one_that_could_not_be_opened_leaves_no_place_behind() -> None:
    call = Call()
    call.model.refuse = [GONE]
    with pytest.raises(ProviderError):
        await call.open()
    assert call.sessions.board.open_numbers() == [] and call.opened == []
    assert (await call.open()).number == 2, "numbers are never used twice"


async def test_a_standby_is_used_where_there_is_one() -> None:
    call = Call()
    standby = await call.model.stand_by()
    await call.sessions.open(call.model, SessionStart(resume="h"), standby)
    assert standby.used and call.lane.feeds[1].resumed


async def test_who_leads_is_listened_to_once() -> None:
    call = Call()
    session = await call.open()

    class Hears:
        events: ClassVar[list[object]] = []

        def session_told(self, event: object) -> None:
            self.events.append(event)

    call.lane.control = Hears()  # type: ignore[assignment]
    call.sessions.lead(1)
    call.sessions.lead(1)
    call.sessions.listen(1)
    session.emit(GoAway(1, 5.0))
    assert call.lane.leader == 1 and Hears.events == [GoAway(1, 5.0)]


async def test_what_is_forgotten_is_forgotten_once_and_its_closing_is_the_callers() -> None:
    call = Call()
    session = await call.open()
    assert call.sessions.forget(1) is session and call.sessions.forget(1) is None
    assert call.gone == [1] and call.lane.feeds == {}
    assert session.state == "ready"


async def test_a_leader_is_not_closed_in_passing() -> None:
    call = Call()
    first, second = await call.open(), await call.open()
    call.sessions.lead(1)
    with pytest.raises(ValueError, match="session 1 leads"):
        await call.sessions.close(1)
    await call.sessions.close(2)
    await call.sessions.close(2)
    assert (first.state, second.state) == ("ready", "closed")


async def test_a_session_that_opens_into_the_end_of_a_call_is_closed_again() -> None:
    call = Call()
    born: list[HandSession] = []

    def ends(session: HandSession) -> None:
        born.append(session)
        call.sessions.closing = True

    call.model.opening = ends
    with pytest.raises(SessionEnded, match="the call ended"):
        await call.open()
    assert born[0].state == "closed" and call.opened == [] and call.sessions.board.open_numbers() == []


async def test_what_a_lost_session_has_dropped_is_still_told() -> None:
    call = Call()
    first = await call.open()
    call.sessions.lead(1)
    first.outbox.dropped_audio_ms = 400
    first.outbox.waiting_audio_ms = 100
    told = dict(call.sessions.counters())
    assert (told["outbox.dropped_audio_ms"], told["outbox.waiting_audio_ms_now"]) == (400, 100)
    call.sessions.forget(1)
    first.outbox.dropped_audio_ms = 500
    await first.close()
    second = await call.open()
    second.outbox.dropped_audio_ms = 20
    told = dict(call.sessions.counters())
    assert (told["outbox.dropped_audio_ms"], told["outbox.waiting_audio_ms_now"]) == (520, 0)
    await call.sessions.close_all()
    assert dict(call.sessions.counters())["outbox.dropped_audio_ms"] == 520


async def test_at_the_end_all_are_closed_even_if_one_of_them_fails(caplog: pytest.LogCaptureFixture) -> None:
    class Stubborn(HandSession):
        async def close(self) -> None:
            raise RuntimeError("no")

    call = Call()
    first, second = await call.open(), await call.open()
    first.__class__ = Stubborn
    await asyncio.wait_for(call.sessions.close_all(), 1)
    assert second.state == "closed" and call.sessions.get(1) is None
    assert [record.message for record in caplog.records] == ["session not closed call=test"]
