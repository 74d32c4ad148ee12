"""Which words the model owes to what its tools have returned."""

from __future__ import annotations

from bridge.conversation.tool_work import ToolWork


class Speech(dict[str, float]):
    """How much of each reply has come, ms."""

    def generated_ms(self, reply_id: str) -> float:
        return self.get(reply_id, 0.0)


def told(speech: Speech) -> ToolWork:
    """The model called in r1, and has been told the result."""
    work = ToolWork(speech.generated_ms, told_again_within_s=10.0)
    assert work.called(1, "c1", "weather", "r1")
    work.answered(1, "c1", "weather", told=True)
    return work


def owed(work: ToolWork) -> set[str]:
    """What the call still waits for."""
    waits = {"a tool": work.runs, "words": work.owes_words, "a reply": not work.settled, "telling": work.is_told_again}
    return {name for name, on in waits.items() if on}


def test_a_call_runs_until_it_is_answered_or_cancelled() -> None:
    work = ToolWork(Speech().generated_ms, told_again_within_s=10.0)
    work.called(1, "c1", "weather", None)
    work.called(1, "c2", "weather", None)
    work.answered(1, "c1", "weather", told=False)
    assert owed(work) == {"a tool"}
    work.cancelled(1, ["c2"])
    assert owed(work) == set()


def test_a_call_is_new_once_even_after_its_answer_unless_it_has_no_id() -> None:
    work = told(Speech())
    assert not work.called(1, "c1", "weather", "r1")
    assert work.called(2, "c1", "weather", "r2")
    assert work.called(1, "", "weather", None) and work.called(1, "", "weather", None)


def test_the_turn_that_called_settles_the_result_only_if_it_says_more() -> None:
    speech = Speech(r1=500.0)
    work = told(speech)
    work.turn_complete("r1")
    assert owed(work) == {"words", "a reply"}
    speech["r1"] = 600.0
    work.turn_complete("r1")
    assert owed(work) == set()


def test_a_new_reply_to_the_result_settles_it_when_all_of_it_is_here() -> None:
    work = told(Speech(r1=500.0))
    work.reply_generated()
    assert owed(work) == {"words", "a reply"}  # that was still the reply that called
    work.reply_started()
    assert owed(work) == {"a reply"}
    work.reply_generated()
    assert owed(work) == set()


def test_an_unsettled_result_is_told_again_after_the_end_of_its_session_but_not_awaited_for_ever() -> None:
    work = told(Speech())
    work.session_ended(5.0)
    assert owed(work) == {"telling", "words", "a reply"} and work.deadline() == 15.0
    work.due(14.9)
    assert "telling" in owed(work)
    work.due(15.0)
    assert "telling" not in owed(work) and work.deadline() is None


def test_a_settled_result_is_not_told_again() -> None:
    work = told(Speech())
    work.reply_started()
    work.reply_generated()
    work.session_ended(5.0)
    assert owed(work) == set()
