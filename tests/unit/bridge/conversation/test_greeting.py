"""The greeting is said once, and not before somebody can hear it."""

from __future__ import annotations

from bridge.conversation.greeting import Greeting


def ready(greeting: Greeting) -> Greeting:
    greeting.model_ready()
    greeting.somebody_came(now=10.0)
    return greeting


def test_it_waits_for_the_model_and_for_somebody() -> None:
    greeting = Greeting(wanted=True, awaits_hearer=False)
    assert not greeting.due(10.0)
    greeting.model_ready()
    assert not greeting.due(10.0)
    greeting.somebody_came(10.0)
    assert greeting.due(10.0)


def test_it_is_said_once() -> None:
    greeting = ready(Greeting(wanted=True, awaits_hearer=False))
    assert greeting.due(10.0)
    assert not greeting.due(11.0)
    assert greeting.deadline() is None


def test_it_waits_until_the_voice_arrives() -> None:
    greeting = ready(Greeting(wanted=True, awaits_hearer=True))
    assert not greeting.due(11.0)
    greeting.voice_arrives()
    assert greeting.due(11.0)


def test_a_client_that_tells_nothing_is_greeted_after_a_while() -> None:
    greeting = ready(Greeting(wanted=True, awaits_hearer=True))
    deadline = greeting.deadline()
    assert deadline is not None and 11.0 < deadline <= 14.0
    assert not greeting.due(deadline - 0.01)
    assert greeting.due(deadline)


def test_where_none_is_wanted_none_is_said() -> None:
    greeting = ready(Greeting(wanted=False, awaits_hearer=False))
    assert not greeting.due(99.0)
