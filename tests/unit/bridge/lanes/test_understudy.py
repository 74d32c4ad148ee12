"""One connection waits for its turn, and none is left over."""

from __future__ import annotations

import asyncio

from bridge.lanes.understudy import Understudy
from providers.contract import SpeechModel
from providers.errors import ProviderError, ProviderRejected
from providers.health import Circuit, HealthBook, HealthSettings
from tests.fakes.fake_time import in_fake_time
from tests.fakes.hand_model import HandModel, HandStandby
from tests.fakes.kept_call import GONE, until


class Slow(HandModel):
    """Dials until it is allowed to be there."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = asyncio.Event()

    async def stand_by(self) -> HandStandby:
        await self.reached.wait()
        return await super().stand_by()


def is_gone(understudy: Understudy) -> bool:
    """Asked anew, which a type checker would not expect of a property."""
    return understudy.is_gone


class Wings:
    def __init__(self) -> None:
        self.failed: list[tuple[SpeechModel, ProviderError]] = []
        self.health = HealthBook(HealthSettings(failures_to_open=2, open_s=5, retries_per_minute=1))
        self.understudy = Understudy(
            "test",
            lambda model: self.health.of(model.endpoint),
            lambda model, problem: self.failed.append((model, problem)),
        )


async def test_what_was_dialled_is_taken_once() -> None:
    wings, model = Wings(), HandModel()
    async with asyncio.TaskGroup() as group:
        assert is_gone(wings.understudy)
        wings.understudy.dial(model, group)
        assert not is_gone(wings.understudy)
        await until(lambda: model.standbys)
        wings.understudy.dial(model, group)  # it waits already
        assert await wings.understudy.take(model, 0) is model.standbys[0]
        assert await wings.understudy.take(model, 0) is None
    assert len(model.standbys) == 1 and is_gone(wings.understudy)


async def test_a_connection_that_is_still_being_dialled_is_waited_for_only_so_long() -> None:
    wings, model = Wings(), Slow()
    async with asyncio.TaskGroup() as group:
        wings.understudy.dial(model, group)
        assert await wings.understudy.take(model, 0.01) is None
        wings.understudy.dial(model, group)
        model.reached.set()
        assert await wings.understudy.take(model, 5) is model.standbys[0]
    assert wings.failed == []


async def test_a_model_that_cannot_be_dialled_is_told_and_another_may_be() -> None:
    wings, model = Wings(), HandModel()
    model.refuse = [GONE]
    async with asyncio.TaskGroup() as group:
        wings.understudy.dial(model, group)
        await until(lambda: wings.failed)
        assert wings.failed == [(model, GONE)] and is_gone(wings.understudy)
        wings.understudy.dial(model, group)
        assert await wings.understudy.take(model, 5) is model.standbys[0]


async def test_the_connection_of_another_model_is_let_go() -> None:
    wings, one, other = Wings(), HandModel(), HandModel()
    async with asyncio.TaskGroup() as group:
        wings.understudy.dial(one, group)
        await until(lambda: one.standbys)
        wings.understudy.dial(other, group)
        assert await wings.understudy.take(one, 5) is None
        await until(lambda: other.standbys)
        assert one.standbys[0].closed
        assert await wings.understudy.take(other, 5) is other.standbys[0]


async def test_at_the_end_of_a_call_nothing_waits_and_nothing_is_dialled() -> None:
    wings, model, slow = Wings(), HandModel(), Slow()
    async with asyncio.TaskGroup() as group:
        wings.understudy.dial(model, group)
        await until(lambda: model.standbys)
        await wings.understudy.close()
        assert model.standbys[0].closed
        wings.understudy.dial(slow, group)
        await wings.understudy.close()
    assert slow.standbys == [] and is_gone(wings.understudy)


# ------------------------------------------------------------------------------------------ what all calls have learned


@in_fake_time
async def test_nobody_dials_an_endpoint_that_is_left_alone() -> None:
    wings, model = Wings(), HandModel()
    clock = asyncio.get_running_loop().time
    model.refuse = [GONE] * 3
    async with asyncio.TaskGroup() as group:
        for _ in range(2):
            assert wings.understudy.dial(model, group) == 0
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        health = wings.health.of(model.endpoint)
        assert health.circuit(clock()) is Circuit.OPEN and len(wings.failed) == 2
        assert wings.understudy.dial(model, group) == 5
        assert is_gone(wings.understudy) and len(model.refuse) == 1


@in_fake_time
async def test_a_refused_key_is_told_to_all_calls() -> None:
    wings, model = Wings(), HandModel()
    model.refuse = [ProviderRejected("key", endpoint_wide=True)]
    async with asyncio.TaskGroup() as group:
        wings.understudy.dial(model, group)
    assert wings.health.of(model.endpoint).allows(asyncio.get_running_loop().time()) == 60


@in_fake_time
async def test_further_attempts_are_made_of_the_budget_that_all_calls_share() -> None:
    wings, model = Wings(), HandModel()
    async with asyncio.TaskGroup() as group:
        assert wings.understudy.dial(model, group, again=True) == 0
        assert await wings.understudy.take(model, 5) is model.standbys[0]
        assert wings.understudy.dial(model, group, again=True) > 0
        assert wings.understudy.dial(model, group) == 0, "a first one is always made"
        await wings.understudy.close()
    assert wings.health.of(model.endpoint).stats.attempts == 2


@in_fake_time
async def test_a_dial_of_before_leaves_the_attempt_of_another_call_alone_that_all_wait_for() -> None:
    wings, model = Wings(), Slow()
    health, clock = wings.health.of(model.endpoint), asyncio.get_running_loop().time
    async with asyncio.TaskGroup() as group:
        wings.understudy.dial(model, group)
        await asyncio.sleep(0.01)
        for _ in range(2):
            health.failed(GONE, clock())
        await asyncio.sleep(5)
        assert health.begin(clock()) == 0, "another call's"
        model.reached.set()
        await until(lambda: model.standbys)
        await asyncio.sleep(0.01)
        assert health.allows(clock()) > 0
        await wings.understudy.close()


@in_fake_time
async def test_a_connection_proves_nothing_and_blocks_nobody() -> None:
    wings, model = Wings(), HandModel()
    health, clock = wings.health.of(model.endpoint), asyncio.get_running_loop().time
    for _ in range(2):
        health.failed(GONE, clock())
    await asyncio.sleep(5)
    async with asyncio.TaskGroup() as group:
        assert wings.understudy.dial(model, group) == 0
        assert wings.understudy.dial(model, group) == 0, "it is on its way"
        assert health.allows(clock()) > 0, "one at a time"
        await until(lambda: model.standbys)
        await asyncio.sleep(0.01)
        assert (health.circuit(clock()), health.allows(clock())) == (Circuit.HALF_OPEN, 0)
        await wings.understudy.close()
        wings.understudy.dial(model, group)
        await wings.understudy.close()  # before it has begun
        await asyncio.sleep(0.01)
        assert health.allows(clock()) == 0
