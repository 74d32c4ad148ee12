"""Who stands in for a model that was given up, and when that one is asked again."""

from __future__ import annotations

import random

import msgspec
import pytest

from bridge.lanes.settings import CallSettings
from bridge.lanes.succession import Succession
from providers.errors import ProviderRejected, ProviderUnavailable
from providers.health import HealthBook
from tests.fakes.hand_model import CAPABILITIES, HandModel

REFUSED = ProviderRejected("key")


def of(*names: str, cool_down_s: float) -> tuple[Succession, list[HandModel]]:
    models = [HandModel(msgspec.structs.replace(CAPABILITIES, model=name)) for name in names]
    return Succession(models, CallSettings(cool_down_s=cool_down_s), HealthBook(), random.Random(7)), models


def test_the_next_of_the_list_takes_the_place_of_the_one_given_up() -> None:
    succession, models = of("first", "second", "third", cool_down_s=60)
    assert succession.give_up(REFUSED, 0.0) is models[0]
    assert succession.model is models[1]


def test_nobody_is_asked_again_before_he_has_cooled_down() -> None:
    succession, models = of("first", "second", cool_down_s=5)
    succession.give_up(REFUSED, 0.0)
    assert succession.others(models[1], 4.9) == []
    assert succession.others(models[1], 5.0) == [models[0]]


def test_with_everybody_given_up_the_cause_is_raised() -> None:
    succession, _ = of("first", "second", cool_down_s=60)
    succession.give_up(REFUSED, 0.0)
    with pytest.raises(ProviderRejected) as caught:
        succession.give_up(REFUSED, 1.0)
    assert caught.value is REFUSED


def test_another_model_has_all_our_patience_and_the_same_one_what_is_left_of_it() -> None:
    succession, models = of("first", "second", cool_down_s=60)
    succession.backoff.delay_s(ProviderUnavailable("gone"), 0.0)
    succession.led_by(models[0])
    assert succession.backoff.failures == 1
    succession.led_by(models[1])
    assert succession.model is models[1] and succession.backoff.failures == 0
