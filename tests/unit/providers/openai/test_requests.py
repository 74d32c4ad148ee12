from __future__ import annotations

from providers.openai.requests import ResponseRequests


def sent(requests: ResponseRequests, event_id: str = "e1", now: float = 0.0) -> str | None:
    assert requests.due(now, active=False)
    return requests.send(event_id, now)


def test_requests_go_one_at_a_time_in_order() -> None:
    requests = ResponseRequests()
    requests.ask("one")
    requests.ask("two")
    assert not requests.due(0.0, active=True)
    assert sent(requests) == "one"
    assert not requests.due(0.0, active=False)
    requests.created()
    requests.ended()
    assert sent(requests, "e2") == "two"


def test_going_on_twice_is_going_on_once() -> None:
    requests = ResponseRequests()
    requests.ask(None)
    requests.ask(None)
    sent(requests)
    requests.created()
    assert not requests.due(0.0, active=False)


def test_a_refused_request_goes_again_after_the_next_end() -> None:
    requests = ResponseRequests()
    requests.ask("one")
    sent(requests)
    requests.ask("two")
    assert requests.refused("e1", 0.0)
    assert not requests.due(0.0, active=False)
    requests.ended()
    assert sent(requests, "e2") == "one"


def test_a_refusal_that_names_no_event_means_the_one_in_flight() -> None:
    requests = ResponseRequests()
    requests.ask("one")
    sent(requests)
    assert requests.refused(None, 0.0)
    requests.ended()
    assert sent(requests, "e2") == "one"


def test_a_refused_request_of_somebody_else_is_not_repeated() -> None:
    requests = ResponseRequests()
    requests.sent_raw("raw", 0.0)
    assert not requests.refused("raw", 0.0)
    requests.ended()
    assert not requests.due(0.0, active=False)


def test_a_request_that_fails_otherwise_makes_room() -> None:
    requests = ResponseRequests()
    requests.ask("one")
    sent(requests)
    requests.ask("two")
    requests.failed("other")
    assert not requests.due(0.0, active=False)
    requests.failed("e1")
    assert sent(requests, "e2") == "two"


def test_what_is_taken_back_is_cancelled_once_it_begins_and_never_repeated() -> None:
    requests = ResponseRequests()
    requests.ask("one")
    sent(requests)
    requests.take_back()
    assert not requests.refused("e1", 0.0)
    requests.ended()
    assert not requests.due(0.0, active=False)
    requests.ask("two")
    sent(requests, "e2")
    requests.take_back()
    assert requests.created()
    assert not requests.created()


def test_a_swallowed_request_expires() -> None:
    requests = ResponseRequests()
    requests.ask("one")
    sent(requests, now=5.0)
    assert requests.deadline() == 15.0
    assert not requests.expire(14.9)
    assert requests.expire(15.0) == "request"
    assert requests.deadline() is None


def test_a_response_whose_end_is_never_told_blocks_for_a_while_only() -> None:
    requests = ResponseRequests()
    requests.ask("one")
    sent(requests)
    requests.refused("e1", 5.0)
    assert requests.deadline() == 25.0
    assert not requests.expire(24.9)
    assert not requests.due(24.9, active=False)
    assert requests.expire(25.0) == "response"
    assert sent(requests, "e2", 25.0) == "one"


# ----------------------------------------------------------------------------------------- results and the user's voice


def test_a_result_does_not_ask_for_words_while_the_user_speaks() -> None:
    requests = ResponseRequests()
    requests.user_started(0.0)
    requests.ask(None, "c1")
    assert not requests.due(1.0, active=False)
    requests.user_stopped(3.0, answered=False)
    assert requests.due(3.0, active=False)


def test_an_order_of_the_application_does_not_wait_for_the_user() -> None:
    requests = ResponseRequests()
    requests.user_started(0.0)
    requests.ask(None, "c1")
    requests.ask("say goodbye")
    assert sent(requests) == "say goodbye"
    assert not requests.due(1.0, active=False)
    requests.ask(None)
    requests.created()
    requests.ended()
    assert sent(requests, "e2") is None


def test_a_response_that_the_server_makes_of_its_own_answers_with_the_result() -> None:
    requests = ResponseRequests()
    requests.user_started(0.0)
    requests.ask(None, "c1")
    requests.result_known("c1")
    requests.user_stopped(3.0, answered=True)
    assert not requests.due(3.1, active=False), "the server is about to answer the user"
    requests.created()
    requests.ended()
    assert not requests.due(9.0, active=False)


def test_a_response_that_began_before_the_server_had_the_result_does_not_answer_with_it() -> None:
    requests = ResponseRequests()
    requests.user_started(0.0)
    requests.ask(None, "c1")
    requests.user_stopped(3.0, answered=True)
    requests.created()
    requests.result_known("c1")
    requests.ended()
    assert requests.due(9.0, active=False)


def test_a_response_that_was_cut_before_it_began_answers_with_nothing() -> None:
    requests = ResponseRequests()
    requests.user_started(0.0)
    requests.ask(None, "c1")
    requests.result_known("c1")
    requests.created(begun=False)
    requests.user_stopped(3.0, answered=False)
    assert requests.due(3.0, active=False)


def test_a_server_that_does_not_answer_the_user_is_asked_a_little_later() -> None:
    requests = ResponseRequests()
    requests.user_started(0.0)
    requests.ask(None, "c1")
    requests.user_stopped(3.0, answered=True)
    assert requests.deadline() == 4.5
    assert not requests.expire(4.5)
    assert requests.due(4.5, active=False)


def test_a_user_whose_end_is_never_told_holds_up_nobody_for_ever() -> None:
    requests = ResponseRequests()
    requests.user_started(0.0)
    requests.ask(None, "c1")
    assert requests.deadline() == 20.0
    assert not requests.expire(20.0)
    assert requests.due(20.0, active=False)
    assert requests.deadline() is None


def test_a_refused_request_for_a_result_still_waits_for_the_user() -> None:
    requests = ResponseRequests()
    requests.ask(None, "c1")
    sent(requests)
    requests.user_started(0.5)
    requests.refused("e1", 1.0)
    requests.ended()
    assert not requests.due(2.0, active=False)
    requests.user_stopped(3.0, answered=False)
    assert requests.due(3.0, active=False)


def test_too_many_requests_are_refused() -> None:
    requests = ResponseRequests()
    assert all(requests.ask(str(number)) for number in range(32))
    assert not requests.ask("one more")
