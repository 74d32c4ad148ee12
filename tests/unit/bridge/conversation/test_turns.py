"""The floor's table, and ends that come by themselves."""

from __future__ import annotations

from itertools import product

import pytest

from bridge.conversation.turns import FLOOR, Floor, Move, Turns
from bridge.core.words import AgentState


def test_every_move_is_legal_on_every_floor() -> None:
    assert set(FLOOR) == set(product(Floor, Move))


@pytest.mark.parametrize(("floor", "move"), list(FLOOR))
def test_a_move_changes_only_its_own_side(floor: Floor, move: Move) -> None:
    user = {Floor.USER, Floor.BOTH}
    model = {Floor.MODEL, Floor.BOTH}
    after = FLOOR[floor, move]
    if move in (Move.USER_STARTS, Move.USER_STOPS):
        assert (after in user) is (move is Move.USER_STARTS)
        assert (after in model) is (floor in model)
    else:
        assert (after in model) is (move is Move.MODEL_STARTS)
        assert (after in user) is (floor in user)


def turns() -> Turns:
    made = Turns(thinking_limit_s=10, user_limit_s=30)
    made.ready = True
    return made


def test_before_the_first_session_the_agent_initializes() -> None:
    assert Turns(thinking_limit_s=10, user_limit_s=30).state is AgentState.INITIALIZING


def test_a_user_whose_end_nobody_tells_stops_by_himself() -> None:
    made = turns()
    made.user_starts(0.0)
    assert made.deadline() == 30.0
    made.due(30.0)
    assert made.floor is Floor.NOBODY
    assert made.deadline() is None


def test_an_inferred_turn_ends_when_the_model_answers() -> None:
    made = turns()
    made.user_starts(0.0, inferred=True)
    made.model_starts()
    assert made.floor is Floor.MODEL


def test_a_heard_turn_goes_on_under_the_models_voice() -> None:
    made = turns()
    made.user_starts(0.0)
    made.model_starts()
    assert made.floor is Floor.BOTH
    assert made.state is AgentState.SPEAKING


def test_thinking_is_shown_only_in_silence() -> None:
    made = turns()
    made.accompanied = True
    made.user_starts(0.0)
    states = [made.state]
    made.user_stops(1.0)
    states.append(made.state)
    made.user_starts(2.0)
    states.append(made.state)
    assert states == [AgentState.LISTENING, AgentState.THINKING, AgentState.LISTENING]
