"""Offers come no faster than they can be answered."""

from __future__ import annotations

import pytest

from bridge.http_api.limits import OfferGate
from bridge.http_api.refusal import Refused


def test_a_burst_is_taken_then_so_many_a_second() -> None:
    gate = OfferGate(per_s=4.0, in_flight=100)
    taken = 0
    for _ in range(20):
        try:
            gate.enter(0.0)
            taken += 1
        except Refused as refused:
            assert (refused.status, refused.code, refused.headers()["Retry-After"]) == (429, "too_many_offers", "1")
    assert (taken, gate.refused) == (8, 12)
    gate.enter(0.25)
    with pytest.raises(Refused):
        gate.enter(0.26)


def test_offers_in_flight_are_bounded_whatever_the_time() -> None:
    gate = OfferGate(per_s=100.0, in_flight=2)
    gate.enter(0.0)
    gate.enter(1.0)
    with pytest.raises(Refused):
        gate.enter(2.0)
    gate.leave()
    gate.enter(3.0)
