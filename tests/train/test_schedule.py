"""The learning rate over a run."""

from itertools import pairwise

import pytest

from marco_data.errors import RecipeError
from marco_data.train.schedule import COSINE, LINEAR, Piece, Schedule

WSD = Schedule(3e-4, 100, (Piece(), Piece(LINEAR, 3e-5)), (1000, 500))


@pytest.mark.parametrize(
    ("seen", "rate"),
    [(0, 0.0), (50, 1.5e-4), (100, 3e-4), (999, 3e-4), (1000, 3e-4), (1250, 1.65e-4), (1500, 3e-5), (9999, 3e-5)],
)
def test_the_rate_warms_up_stays_and_decays_over_the_stage_that_decays(seen, rate):
    assert WSD.rate(seen) == pytest.approx(rate)


def test_a_cosine_is_half_way_in_the_middle_and_never_rises():
    schedule = Schedule(1.0, 0, (Piece(COSINE, 0.0),), (1000,))
    rates = [schedule.rate(seen) for seen in range(1001)]
    assert rates[0] == 1.0
    assert rates[500] == pytest.approx(0.5)
    assert rates[1000] == 0.0
    assert all(after <= before for before, after in pairwise(rates))


def test_a_piece_begins_where_the_one_before_ended():
    schedule = Schedule(1.0, 0, (Piece(LINEAR, 0.5), Piece(COSINE, 0.1), Piece()), (100, 100, 100))
    assert schedule.rate(100) == pytest.approx(0.5)
    assert schedule.rate(99) - schedule.rate(101) < 0.01
    assert schedule.rate(250) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        pytest.param(lambda: Schedule(0.0, 0, (Piece(),), (1,)), "peak", id="no rate"),
        pytest.param(lambda: Schedule(1.0, 5, (Piece(),), (4,)), "warm-up", id="a warm-up longer than the run"),
        pytest.param(lambda: Schedule(1.0, 0, (Piece(),), (1, 2)), "pieces", id="a stage without a piece"),
        pytest.param(lambda: Piece(LINEAR), "needs the rate", id="a decay to nowhere"),
        pytest.param(lambda: Piece("step", 1.0), "shape", id="an unknown shape"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused(make, told):
    with pytest.raises(RecipeError, match=told):
        make()
