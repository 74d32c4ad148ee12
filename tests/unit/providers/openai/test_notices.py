"""What a core says on its own: in order, once where once is enough, and never without bound."""

from __future__ import annotations

from providers.contract import WarningReported
from providers.openai.notices import Notices


def test_what_a_command_has_to_say_goes_out_once_and_in_order() -> None:
    notices = Notices(3)
    assert not notices.waiting and notices.take() == []
    notices.later("first", "one")
    notices.later("second", "two")
    assert notices.waiting
    assert notices.take() == [WarningReported(3, "first", "one"), WarningReported(3, "second", "two")]
    assert not notices.waiting and notices.take() == []


def test_of_warnings_that_wait_without_end_the_first_are_told_and_how_many_were_not() -> None:
    notices = Notices(3)
    for number in range(1000):
        notices.later("idle", str(number))
    assert len(notices.waiting) == 64
    *first, last = notices.take()
    assert first == [WarningReported(3, "idle", str(number)) for number in range(64)]
    assert last == WarningReported(3, "warnings_dropped", "936 more warnings were waiting")
    notices.later("idle", "again")
    assert notices.take() == [WarningReported(3, "idle", "again")]


def test_an_oddity_is_told_once_and_its_code_is_what_all_of_its_kind_share() -> None:
    notices = Notices(3)
    assert notices.once("unknown_event:a", "an a") == [WarningReported(3, "unknown_event", "an a")]
    assert notices.once("unknown_event:a", "an a") == []
    assert notices.once("unknown_event:b", "a b") == [WarningReported(3, "unknown_event", "a b")]


def test_a_server_that_is_odd_in_ever_new_ways_is_not_remembered_without_end() -> None:
    notices = Notices(3)
    told = [notices.once(f"unknown_event:{number}", "odd") for number in range(1000)]
    assert sum(map(len, told)) == 64
    assert notices.now("malformed_message", "not JSON") == WarningReported(3, "malformed_message", "not JSON")
