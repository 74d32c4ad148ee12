from __future__ import annotations

from providers.openai.requests import ResponseRequests


def sent(requests: ResponseRequests, event_id: str = "e1", now: float = 0.0) -> str | None:
    assert requests.due(active=False)
    return requests.send(event_id, now)


def test_requests_go_one_at_a_time_in_order() -> None:
    requests = ResponseRequests()
    requests.ask("one")
    requests.ask("two")
    assert not requests.due(active=True)
    assert sent(requests) == "one"
    assert not requests.due(active=False)
    requests.created()
    requests.ended()
    assert sent(requests, "e2") == "two"


def test_going_on_twice_is_going_on_once() -> None:
    requests = ResponseRequests()
    requests.ask(None)
    requests.ask(None)
    sent(requests)
    requests.created()
    assert not requests.due(active=False)


def test_a_refused_request_goes_again_after_the_next_end() -> None:
    requests = ResponseRequests()
    requests.ask("one")
    sent(requests)
    requests.ask("two")
    assert requests.refused("e1")
    assert not requests.due(active=False)
    requests.ended()
    assert sent(requests, "e2") == "one"


def test_a_refusal_that_names_no_event_means_the_one_in_flight() -> None:
    requests = ResponseRequests()
    requests.ask("one")
    sent(requests)
    assert requests.refused(None)
    requests.ended()
    assert sent(requests, "e2") == "one"


def test_a_refused_request_of_somebody_else_is_not_repeated() -> None:
    requests = ResponseRequests()
    requests.sent_raw("raw", 0.0)
    assert not requests.refused("raw")
    requests.ended()
    assert not requests.due(active=False)


def test_a_request_that_fails_otherwise_makes_room() -> None:
    requests = ResponseRequests()
    requests.ask("one")
    sent(requests)
    requests.ask("two")
    requests.failed("other")
    assert not requests.due(active=False)
    requests.failed("e1")
    assert sent(requests, "e2") == "two"


def test_what_is_taken_back_is_cancelled_once_it_begins_and_never_repeated() -> None:
    requests = ResponseRequests()
    requests.ask("one")
    sent(requests)
    requests.take_back()
    assert not requests.refused("e1")
    requests.ended()
    assert not requests.due(active=False)
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
    assert requests.expire(15.0)
    assert requests.deadline() is None


def test_too_many_requests_are_refused_and_counted() -> None:
    requests = ResponseRequests()
    assert all(requests.ask(str(number)) for number in range(32))
    assert not requests.ask("one more")
    assert requests.dropped == 1
