"""What counts as a spike, what is skipped, and which documents are named."""

import math

import numpy as np
import pytest

from marco_data.errors import RecipeError
from marco_data.train.spikes import ENOUGH, FINE, NOT_FINITE, SKIP, SPIKE, SpikePolicy, Watch, suspects

EVEN = [2.0 + 0.02 * (k % 3) for k in range(40)]


def judged(watch: Watch, losses) -> list[str]:
    return [watch.judge(loss, 1.0) for loss in losses]


def test_a_jump_is_a_spike_and_what_follows_it_is_not():
    watch = Watch(SpikePolicy())
    assert judged(watch, [*EVEN, 5.0, 2.0]) == [FINE] * 40 + [SPIKE, FINE]


def test_the_fall_of_the_first_steps_and_noise_are_no_spikes():
    noisy = np.random.default_rng(0).normal(3, 0.1, 500)
    assert set(judged(Watch(SpikePolicy()), [11.0, 9.0, 7.0, 12.0, *noisy])) == {FINE}


def test_a_lasting_rise_is_told_until_it_is_the_usual_loss():
    verdicts = judged(Watch(SpikePolicy(window=ENOUGH)), [*EVEN, *[5.0] * 40])
    assert verdicts[40] == SPIKE
    assert verdicts[-1] == FINE


@pytest.mark.parametrize(("loss", "norm"), [(math.nan, 1.0), (math.inf, 1.0), (2.0, math.nan), (2.0, math.inf)])
def test_what_is_no_number_is_skipped_and_never_remembered(loss, norm):
    watch = Watch(SpikePolicy(), EVEN)
    assert watch.judge(loss, norm) == NOT_FINITE
    assert watch.skips(NOT_FINITE)
    assert watch.recent == EVEN


def test_a_spike_is_reported_or_its_step_skipped_as_the_policy_says():
    assert not Watch(SpikePolicy()).skips(SPIKE)
    assert Watch(SpikePolicy(action=SKIP)).skips(SPIKE)


def test_it_gives_up_after_so_many_skipped_steps_in_a_row_and_not_before():
    watch = Watch(SpikePolicy(most_skipped=3))
    given_up = []
    for verdict in (NOT_FINITE, NOT_FINITE, FINE, NOT_FINITE, NOT_FINITE, NOT_FINITE):
        watch.skips(verdict)
        given_up.append(watch.gives_up)
    assert given_up == [False] * 5 + [True]


def test_a_watch_with_another_s_memory_judges_as_that_one_would():
    losses = [*EVEN, *np.random.default_rng(1).normal(2.5, 0.4, 60)]
    whole = Watch(SpikePolicy(deviations=5))
    expected = judged(whole, losses)
    first = Watch(SpikePolicy(deviations=5))
    begun = judged(first, losses[:50])
    assert begun + judged(Watch(SpikePolicy(deviations=5), first.recent), losses[50:]) == expected
    assert {FINE, SPIKE} == set(expected)


def test_documents_are_named_by_their_mean_loss_over_tokens_that_count():
    losses = np.array([[1.0, 1.0, 9.0, 9.0, 0.0], [4.0, 4.0, 4.0, 100.0, math.nan]])
    documents = np.array([[0, 0, 1, 1, 2], [0, 0, 0, 1, 2]], np.int32)
    counted = np.array([[True] * 5, [True, True, True, False, True]])
    found = [(s.loss, s.sample, s.document, s.tokens) for s in suspects(losses, documents, counted, first=10, most=3)]
    assert found == [(math.inf, 11, 2, 1), (9.0, 10, 1, 2), (4.0, 11, 0, 3)]


@pytest.mark.parametrize("values", [{"deviations": 0}, {"window": 3}, {"action": "pray"}, {"most_skipped": 0}])
def test_a_policy_that_cannot_be_is_refused(values):
    with pytest.raises(RecipeError):
        SpikePolicy(**values)
