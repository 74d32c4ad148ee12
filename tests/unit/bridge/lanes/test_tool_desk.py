"""Tool results across sessions: told once, to the session that can take them, and never run twice for one wish."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bridge.lanes.tool_desk import (
    DropResult,
    Order,
    Parcel,
    RunCall,
    StopCall,
    TellByCallId,
    TellByNote,
    ToolDesk,
    ToolOutcome,
)
from providers.contract import ToolCall


class Desk:
    """A desk whose time is `now`; each method does one thing and returns the orders."""

    def __init__(self, result_wait_s: float = 60.0) -> None:
        self.real = ToolDesk(result_wait_s=result_wait_s)
        self.now = 100.0
        self.free = True

    @property
    def stats(self) -> dict[str, int]:
        """Counters that are not zero."""
        stats = self.real.stats
        return {name: getattr(stats, name) for name in stats.__struct_fields__ if getattr(stats, name)}

    def leads(self, session: int) -> None:
        """A new session opens and takes the lead."""
        self.real.opened(session)
        self.real.leads(session, self.now)

    def call(self, call_id: str, name: str = "dig", session: int = 1, batch: str = "", **arguments: Any) -> list[Order]:
        return self.real.called(ToolCall(session, call_id, name, arguments, batch_id=batch), self.now)

    def runs(self, call_id: str, name: str = "dig", session: int = 1, batch: str = "", **arguments: Any) -> int:
        """A call that has to be run; its ticket."""
        (order,) = self.call(call_id, name, session, batch, **arguments)
        assert isinstance(order, RunCall)
        return order.ticket

    def returns(self, ticket: int, result: str = "gold") -> list[Order]:
        call = ToolCall(0, "", "any", {})
        return self.real.finished(ticket, ToolOutcome(call, result), self.now)

    def gone(self, session: int) -> list[Order]:
        return self.real.gone(session, self.now)

    def wait(self, seconds: float = 0.5) -> list[Order]:
        self.now += seconds
        return self.real.due(self.now, lambda: self.free)


def told(orders: list[Order]) -> list[tuple[str, int, list[str], str]]:
    """How, to which session, which calls were answered with what."""
    said: list[tuple[str, int, list[str], str]] = []
    for order in orders:
        match order:
            case TellByCallId(session, parcel):
                said.append(("id", session, [call.call_id for call in parcel.calls], str(parcel.outcome.result)))
            case TellByNote(session, parcels):
                said += [("note", session, [c.call_id for c in p.calls], str(p.outcome.result)) for p in parcels]
            case _:
                raise AssertionError(f"not told: {order}")
    return said


@pytest.fixture
def desk() -> Desk:
    desk = Desk()
    desk.leads(1)
    return desk


# --------------------------------------------------------------------------------------------------- the usual way


def test_a_result_goes_to_the_session_that_asked(desk: Desk) -> None:
    ticket = desk.runs("c1")
    assert told(desk.returns(ticket)) == [("id", 1, ["c1"], "gold")]
    assert desk.wait() == []
    assert desk.stats == {"delivered": 1}


def test_it_goes_there_even_if_another_one_leads_by_now(desk: Desk) -> None:
    ticket = desk.runs("c1")
    desk.leads(2)
    assert told(desk.returns(ticket)) == [("id", 1, ["c1"], "gold")]


def test_a_repeated_id_is_ignored_and_counted_even_after_the_answer(desk: Desk) -> None:
    ticket = desk.runs("c1")
    assert desk.call("c1") == []
    desk.returns(ticket)
    desk.real.settled(1)
    assert desk.call("c1") == []
    assert desk.stats["duplicates"] == 2


def test_equal_calls_of_one_session_run_each(desk: Desk) -> None:
    assert desk.runs("c1", depth=3) != desk.runs("c2", depth=3)


def test_calls_without_an_id_run_each(desk: Desk) -> None:
    assert desk.runs("") != desk.runs("")


# ------------------------------------------------------------------------------------------- the provider refuses


def test_a_result_that_the_provider_refuses_is_told_in_words_once(desk: Desk) -> None:
    ticket = desk.runs("c1")
    desk.returns(ticket)
    assert desk.real.refused(1, "c1", desk.now) == "dig"
    assert desk.real.open == 1
    assert told(desk.wait()) == [("note", 1, ["c1"], "gold")]
    assert desk.real.refused(1, "c1", desk.now) == "", "the note was refused too: nothing else is left to try"
    desk.real.settled(1)
    assert desk.wait(100) == [] and desk.real.open == 0
    assert desk.stats == {"delivered": 1, "refused": 1, "delivered_by_note": 1}


def test_a_refused_result_that_the_model_asks_for_once_more_is_told_to_that_call(desk: Desk) -> None:
    desk.returns(desk.runs("c1"))
    desk.real.refused(1, "c1", desk.now)
    assert told(desk.call("c2")) == [("id", 1, ["c1", "c2"], "gold")]
    assert desk.wait() == []


@pytest.mark.parametrize(("session", "call_id"), [(1, "c2"), (2, "c1"), (1, ""), (0, "")])
def test_the_refusal_of_what_is_not_known_changes_nothing(desk: Desk, session: int, call_id: str) -> None:
    desk.returns(desk.runs("c1"))
    assert desk.real.refused(session, call_id, desk.now) == "" and desk.wait() == []


def test_what_is_answered_or_still_runs_cannot_be_refused_any_more(desk: Desk) -> None:
    ticket = desk.runs("c1")
    assert desk.real.refused(1, "c1", desk.now) == ""
    desk.returns(ticket)
    desk.real.settled(1)
    assert desk.real.refused(1, "c1", desk.now) == "" and desk.wait() == []


# ------------------------------------------------------------------------------------------------- a session is lost


def test_a_result_waits_for_the_next_leader_and_is_told_as_a_note(desk: Desk) -> None:
    ticket = desk.runs("c1")
    assert desk.gone(1) == [], "nothing is stopped"
    assert desk.returns(ticket) == []
    assert desk.wait(20) == []
    desk.leads(2)
    assert told(desk.wait()) == [("note", 2, ["c1"], "gold")]
    assert desk.wait(100) == []
    assert desk.stats == {"delivered_by_note": 1}


def test_notes_come_in_the_order_of_the_results_and_in_one_turn(desk: Desk) -> None:
    tickets = [desk.runs(f"c{number}", depth=number) for number in range(3)]
    desk.gone(1)
    for ticket in reversed(tickets):
        desk.returns(ticket, f"result {ticket}")
    desk.leads(2)
    orders = desk.wait()
    assert len(orders) == 1
    assert [result for _, _, _, result in told(orders)] == [f"result {ticket}" for ticket in reversed(tickets)]


def test_a_note_leaves_the_first_word_to_a_session_that_hears_the_caller_again(desk: Desk) -> None:
    ticket = desk.runs("c1")
    desk.gone(1)
    desk.returns(ticket)
    desk.leads(2)
    assert desk.wait(0.1) == []
    assert desk.real.deadline(desk.now) == pytest.approx(desk.now + 0.2)


def test_a_note_cuts_nobody_short_but_does_not_wait_for_ever(desk: Desk) -> None:
    desk.free = False
    ticket = desk.runs("c1")
    desk.gone(1)
    desk.returns(ticket)
    desk.leads(2)
    assert desk.wait(4.9) == []
    assert told(desk.wait(0.2)) == [("note", 2, ["c1"], "gold")]


def test_a_batch_is_told_together(desk: Desk) -> None:
    one, two = desk.runs("c1", "dig", batch="b"), desk.runs("c2", "look", batch="b")
    desk.gone(1)
    desk.returns(one)
    desk.leads(2)
    assert desk.wait() == []
    desk.returns(two)
    assert [calls for _, _, calls, _ in told(desk.wait())] == [["c1"], ["c2"]]


def test_a_result_of_a_batch_does_not_wait_for_ever_for_the_others(desk: Desk) -> None:
    one, _ = desk.runs("c1", "dig", batch="b"), desk.runs("c2", "look", batch="b")
    desk.gone(1)
    desk.returns(one)
    desk.leads(2)
    assert told(desk.wait(5)) == [("note", 2, ["c1"], "gold")]


def test_a_result_whose_answer_is_complete_is_told_to_nobody_else(desk: Desk) -> None:
    desk.returns(desk.runs("c1"))
    desk.real.settled(1)
    desk.gone(1)
    desk.gone(1)
    desk.leads(2)
    assert desk.wait(10) == []


def test_what_was_sent_to_a_session_that_did_not_finish_its_answer_is_told_again(desk: Desk) -> None:
    desk.returns(desk.runs("c1"))
    desk.gone(1)
    desk.leads(2)
    assert told(desk.wait()) == [("note", 2, ["c1"], "gold")]
    desk.gone(2)
    desk.leads(3)
    assert told(desk.wait()) == [("note", 3, ["c1"], "gold")]
    desk.real.settled(3)
    desk.gone(3)
    desk.leads(4)
    assert desk.wait() == []
    assert desk.stats == {"delivered": 1, "delivered_by_note": 2, "redelivered": 2}


def test_an_order_that_could_not_be_carried_out_counts_as_nothing(desk: Desk) -> None:
    (order,) = desk.returns(desk.runs("c1"))
    assert isinstance(order, TellByCallId)
    desk.real.not_told(order, desk.now)
    desk.gone(1)
    desk.leads(2)
    assert told(desk.wait()) == [("note", 2, ["c1"], "gold")]
    assert desk.stats == {"delivered_by_note": 1}


# --------------------------------------------------------------------------------------------------- asked again


def test_a_running_errand_is_adopted_by_a_session_that_asks_again(desk: Desk) -> None:
    ticket = desk.runs("c1", depth=3)
    desk.gone(1)
    desk.leads(2)
    assert desk.call("c9", session=2, depth=3) == []
    assert told(desk.returns(ticket)) == [("id", 2, ["c1", "c9"], "gold")]
    assert desk.wait(10) == []
    assert desk.stats == {"adopted": 1, "delivered": 1}


def test_a_waiting_result_answers_a_session_that_asks_again_at_once(desk: Desk) -> None:
    ticket = desk.runs("c1", depth=3)
    desk.gone(1)
    desk.returns(ticket)
    desk.leads(2)
    assert told(desk.call("c9", session=2, depth=3)) == [("id", 2, ["c1", "c9"], "gold")]
    assert desk.wait(10) == []


def test_other_arguments_are_another_wish(desk: Desk) -> None:
    desk.runs("c1", depth=3)
    desk.gone(1)
    desk.leads(2)
    desk.runs("c9", session=2, depth=4)
    desk.runs("c10", "look", session=2, depth=3)


def test_two_equal_calls_of_a_lost_session_are_adopted_one_by_one(desk: Desk) -> None:
    one, two = desk.runs("c1"), desk.runs("c2")
    desk.gone(1)
    desk.leads(2)
    assert desk.call("c8", session=2) == desk.call("c9", session=2) == []
    assert told(desk.returns(one)) == [("id", 2, ["c1", "c8"], "gold")]
    assert told(desk.returns(two)) == [("id", 2, ["c2", "c9"], "gold")]
    desk.runs("c10", session=2)


def test_a_session_that_asks_for_what_a_note_has_just_told_is_told_again_and_nothing_runs(desk: Desk) -> None:
    ticket = desk.runs("c1")
    desk.gone(1)
    desk.returns(ticket)
    desk.leads(2)
    desk.wait()
    assert told(desk.call("c9", session=2)) == [("id", 2, ["c1", "c9"], "gold")]
    assert desk.stats["told_again"] == 1
    desk.runs("c10", session=2)


def test_a_wish_of_after_the_answer_runs_anew(desk: Desk) -> None:
    ticket = desk.runs("c1")
    desk.gone(1)
    desk.returns(ticket)
    desk.leads(2)
    desk.wait()
    desk.real.settled(2)
    desk.runs("c9", session=2)


def test_an_answer_that_broke_off_answers_a_session_that_hears_the_question_again(desk: Desk) -> None:
    desk.returns(desk.runs("c1"))
    desk.gone(1)
    desk.leads(2)
    assert told(desk.call("c9", session=2)) == [("id", 2, ["c1", "c9"], "gold")]
    assert desk.wait(10) == []
    assert desk.stats == {"adopted": 1, "delivered": 2, "redelivered": 1}


# ---------------------------------------------------------------------------------------------------- taken back


def test_a_cancelled_call_is_stopped_and_its_late_result_thrown_away(desk: Desk) -> None:
    ticket = desk.runs("c1")
    assert desk.real.cancelled(1, ["c1", "unknown"]) == [StopCall(ticket)]
    assert desk.returns(ticket) == []
    desk.gone(1)
    desk.leads(2)
    assert desk.wait(10) == []
    assert desk.stats == {"cancelled": 1, "discarded": 1}


def test_the_dead_session_cannot_take_back_what_its_successor_adopted(desk: Desk) -> None:
    ticket = desk.runs("c1")
    desk.gone(1)
    desk.leads(2)
    desk.call("c9", session=2)
    assert desk.real.cancelled(1, ["c1"]) == []
    assert desk.real.cancelled(2, ["c9"]) == [StopCall(ticket)]


def test_a_session_takes_back_its_own_calls_only_though_another_one_uses_the_same_ids(desk: Desk) -> None:
    ticket = desk.runs("c1")
    desk.leads(2)
    desk.call("c1", session=2)
    assert desk.real.cancelled(1, ["c1"]) == []
    assert desk.real.cancelled(2, ["c1"]) == [StopCall(ticket)]


def test_an_answer_cannot_be_taken_back(desk: Desk) -> None:
    desk.returns(desk.runs("c1"))
    assert desk.real.cancelled(1, ["c1"]) == []
    assert desk.stats == {"delivered": 1}


# --------------------------------------------------------------------------------------------------------- bounds


def test_a_result_that_no_session_takes_in_time_is_dropped_and_counted() -> None:
    desk = Desk(result_wait_s=30)
    desk.leads(1)
    ticket = desk.runs("c1")
    desk.gone(1)
    desk.wait(100)
    desk.returns(ticket)
    assert desk.real.deadline(desk.now) == desk.now + 30
    assert desk.wait(29.9) == []
    (dropped,) = desk.wait(0.2)
    assert isinstance(dropped, DropResult) and dropped.parcel.calls[0].call_id == "c1"
    assert desk.stats == {"expired": 1}
    assert desk.real.open == 0 and desk.real.deadline(desk.now) is None


def test_results_that_pile_up_push_out_the_oldest_and_count_it(desk: Desk) -> None:
    desk.leads(1)
    tickets = [desk.runs(f"c{number}") for number in range(300)]
    desk.gone(1)
    orders = [order for ticket in tickets for order in desk.returns(ticket)]
    dropped = [order.parcel.ticket for order in orders if isinstance(order, DropResult)]
    assert dropped == tickets[:44]
    assert desk.stats == {"expired": 44}


def test_at_the_end_of_the_call_what_runs_is_stopped_and_what_waits_is_counted(desk: Desk) -> None:
    waiting, running = desk.runs("c1"), desk.runs("c2", depth=2)
    desk.gone(1)
    desk.returns(waiting)
    stopped, dropped = desk.real.end()
    assert stopped == StopCall(running)
    assert isinstance(dropped, DropResult) and dropped.parcel.ticket == waiting
    assert desk.stats == {"expired": 1}
    assert desk.returns(running) == []


def test_a_long_call_leaves_nothing_behind(desk: Desk) -> None:
    for number in range(2000):
        desk.returns(desk.runs(f"c{number}"))
        desk.real.settled(1)
    assert desk.real.open == 0
    assert desk.real.deadline(desk.now) is None
    assert len(desk.real._keys) <= 1024


# ------------------------------------------------------------------------------------------------ any interleaving


class Interleavings(RuleBasedStateMachine):
    """Calls, losses, leads, results, repetitions and cancellations in any order, seen from the sessions' side."""

    def __init__(self) -> None:
        super().__init__()
        self.desk = ToolDesk(result_wait_s=1e6)
        self.now = 0.0
        self.sessions = 0
        self.known: set[int] = set()  # open as far as the desk knows
        self.alive: set[int] = set()
        self.leader: int | None = None
        self.calls = 0
        self.wishes: dict[int, tuple[str, int]] = {}
        self.owner: dict[int, int] = {}
        self.running: set[int] = set()
        self.finished: set[int] = set()
        self.cancelled: set[int] = set()
        self.deliveries: dict[int, list[int]] = {}
        self.may: dict[int, int] = {}
        """Deliveries that are allowed by now: one, and one more for each that may have been lost or was asked for."""
        self.unsure: dict[int, set[int]] = {}
        """By session, what it was told and has not answered."""
        self.unanswered: set[int] = set()
        """What a session was told that was lost before it answered, and no other one since."""
        self.ids: dict[int, tuple[int, str]] = {}

    @initialize()
    def a_call_begins(self) -> None:
        self.a_session_opens(lead=True)

    # what the lane does with orders

    def carry_out(self, orders: list[Order]) -> None:
        for order in orders:
            match order:
                case RunCall(ticket, call):
                    assert ticket not in self.wishes, "a ticket runs once"
                    self.wishes[ticket] = call.name, call.arguments["depth"]
                    self.owner[ticket] = call.session
                    self.running.add(ticket)
                    self.deliveries[ticket], self.may[ticket] = [], 1
                case StopCall(ticket):
                    assert ticket in self.running
                case TellByCallId(session, parcel):
                    self.tell(order, session, (parcel,))
                case TellByNote(session, parcels):
                    assert session == self.leader or session not in self.alive
                    self.tell(order, session, parcels)
                case DropResult():
                    raise AssertionError("nobody waited so long")

    def tell(self, order: TellByCallId | TellByNote, session: int, parcels: tuple[Parcel, ...]) -> None:
        assert session in self.known
        if session not in self.alive:
            self.desk.not_told(order, self.now)
            self.forget(session)
            return
        for parcel in parcels:
            assert parcel.ticket in self.finished - self.cancelled
            assert parcel.outcome.result == str(parcel.ticket), "its own result"
            self.deliveries[parcel.ticket].append(session)
            self.unanswered.discard(parcel.ticket)
            self.unsure.setdefault(session, set()).add(parcel.ticket)

    def forget(self, session: int) -> None:
        """The desk hears that a session is gone."""
        self.known.discard(session)
        if self.leader == session:
            self.leader = None
        for ticket in self.unsure.pop(session, set()):
            self.may[ticket] += 1
            self.unanswered.add(ticket)
        self.carry_out(self.desk.gone(session, self.now))

    # what happens

    @precondition(lambda self: len(self.alive) < 2)
    @rule(lead=st.booleans())
    def a_session_opens(self, lead: bool) -> None:
        self.sessions += 1
        self.known.add(self.sessions)
        self.alive.add(self.sessions)
        self.desk.opened(self.sessions)
        if lead:
            self.lead(self.sessions)

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def the_lead_changes(self, data: st.DataObject) -> None:
        self.lead(data.draw(st.sampled_from(sorted(self.alive))))

    def lead(self, session: int) -> None:
        self.leader = session
        self.desk.leads(session, self.now)

    @precondition(lambda self: self.alive)
    @rule(data=st.data(), noticed=st.booleans())
    def a_session_is_lost(self, data: st.DataObject, noticed: bool) -> None:
        session = data.draw(st.sampled_from(sorted(self.alive)))
        self.alive.discard(session)
        if noticed:
            self.forget(session)

    @precondition(lambda self: self.known - self.alive)
    @rule()
    def a_loss_is_noticed(self) -> None:
        self.forget(min(self.known - self.alive))

    @precondition(lambda self: self.leader in self.alive)
    @rule(names=st.lists(st.sampled_from(["dig", "look"]), min_size=1, max_size=3), with_id=st.booleans())
    def the_leader_calls(self, names: list[str], with_id: bool) -> None:
        for name in names:
            if self.leader in self.alive:
                self.call(name, 1, with_id)

    def call(self, name: str, depth: int, with_id: bool) -> None:
        assert self.leader is not None
        self.calls += 1
        call = ToolCall(self.leader, f"c{self.calls}" if with_id else "", name, {"depth": depth})
        open_of_others = {
            ticket
            for ticket, wish in self.wishes.items()
            if wish == (name, depth)
            and self.owner[ticket] != self.leader
            and ticket not in self.cancelled
            and not self.deliveries[ticket]
        }
        adopted, again = self.desk.stats.adopted, self.desk.stats.told_again
        orders = self.desk.called(call, self.now)
        ran = any(isinstance(order, RunCall) for order in orders)
        assert not (ran and open_of_others), "what a predecessor asked for is not run a second time"
        if not ran:
            assert self.desk.stats.adopted + self.desk.stats.told_again == adopted + again + 1
            (ticket,) = [errand.ticket for errand in self.desk._errands.values() if errand.calls[-1] is call]
            assert self.wishes[ticket] == (name, depth)
            self.owner[ticket] = self.leader
            if self.deliveries[ticket]:
                self.may[ticket] = len(self.deliveries[ticket]) + 1
                for unsure in self.unsure.values():
                    unsure.discard(ticket)
        self.carry_out(orders)
        if with_id:
            ticket = self.desk._keys[call.session, call.call_id] or 0
            self.ids[ticket] = call.session, call.call_id

    @precondition(lambda self: self.leader in self.alive and self.ids)
    @rule(data=st.data())
    def a_call_is_repeated(self, data: st.DataObject) -> None:
        ticket = data.draw(st.sampled_from(sorted(self.ids)))
        session, call_id = self.ids[ticket]
        if session not in self.alive or not ticket:
            return
        duplicates = self.desk.stats.duplicates
        name, depth = self.wishes[ticket]
        assert self.desk.called(ToolCall(session, call_id, name, {"depth": depth}), self.now) == []
        assert self.desk.stats.duplicates == duplicates + 1

    @precondition(lambda self: self.running - self.finished)
    @rule(data=st.data())
    def a_function_returns(self, data: st.DataObject) -> None:
        ticket = data.draw(st.sampled_from(sorted(self.running - self.finished)))
        self.finish(ticket)

    def finish(self, ticket: int) -> None:
        self.finished.add(ticket)
        name, depth = self.wishes[ticket]
        outcome = ToolOutcome(ToolCall(0, "", name, {"depth": depth}), str(ticket))
        self.carry_out(self.desk.finished(ticket, outcome, self.now))

    @precondition(lambda self: self.leader in self.alive and self.ids)
    @rule(data=st.data())
    def the_leader_takes_a_call_back(self, data: st.DataObject) -> None:
        ticket = data.draw(st.sampled_from(sorted(self.ids)))
        session, call_id = self.ids[ticket]
        before = self.desk.stats.cancelled
        orders = self.desk.cancelled(session, [call_id])
        if self.desk.stats.cancelled > before:
            assert session == self.owner[ticket]
            self.cancelled.add(ticket)
        self.carry_out(orders)

    @precondition(lambda self: self.ids)
    @rule(data=st.data())
    def the_provider_refuses_a_result(self, data: st.DataObject) -> None:
        ticket = data.draw(st.sampled_from(sorted(self.ids)))
        session, call_id = self.ids[ticket]
        if session in self.alive and self.desk.refused(session, call_id, self.now):
            assert self.deliveries[ticket][-1] == session
            self.may[ticket] += 1
            self.unanswered.add(ticket)
            self.unsure[session].discard(ticket)

    @precondition(lambda self: self.leader in self.alive)
    @rule()
    def the_leader_answers(self) -> None:
        assert self.leader is not None
        self.unsure.pop(self.leader, None)
        self.desk.settled(self.leader)

    @rule(seconds=st.floats(0, 10), free=st.booleans())
    def time_passes(self, seconds: float, free: bool) -> None:
        self.now += seconds
        self.carry_out(self.desk.due(self.now, lambda: free))

    @invariant()
    def no_result_is_told_more_often_than_it_may(self) -> None:
        for ticket, sessions in self.deliveries.items():
            assert len(sessions) <= self.may[ticket]

    def teardown(self) -> None:
        """A leader comes, and everything returns: all that was not taken back has been told."""
        for session in sorted(self.known - self.alive):
            self.forget(session)
        for ticket in sorted(self.running - self.finished):
            self.finish(ticket)
        self.a_session_opens(lead=True)
        for _ in range(3):
            self.time_passes(10, True)
        for ticket in self.running - self.cancelled:
            assert self.deliveries[ticket], f"errand {ticket} was never told"
            assert len(self.deliveries[ticket]) <= self.may[ticket]
        assert not self.unanswered - self.cancelled, "a caller was left without the answer"
        assert self.desk.open == 0
        assert not any(isinstance(order, StopCall | DropResult) for order in self.desk.end())


TestInterleavings = Interleavings.TestCase
TestInterleavings.settings = settings(max_examples=400, stateful_step_count=50, deadline=None)
