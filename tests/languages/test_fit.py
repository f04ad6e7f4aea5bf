"""The output matrix of a quantised model, fitted anew."""

import numpy as np

from marco_data.languages.fit import settled

PLAN = {"epochs": 4, "batch": 32, "rate": 0.1}


def clouds(per_label: int) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of three labels, about three points, far enough apart that some are nearer to another's."""
    chance = np.random.default_rng(1)
    truths = np.repeat(np.arange(3), per_label)
    chance.shuffle(truths)
    return (np.eye(3)[truths] + 0.5 * chance.standard_normal((len(truths), 3))).astype(np.float32), truths


def right(output: np.ndarray, vectors: np.ndarray, truths: np.ndarray) -> float:
    return float(((vectors @ output.T).argmax(axis=1) == truths).mean())


def test_an_output_that_suits_other_vectors_is_made_to_suit_these():
    vectors, truths = clouds(2000)
    other = np.roll(np.eye(3, dtype=np.float32), 1, axis=0)
    found = settled(other, vectors, truths, np.ones(3, np.float32), PLAN, seed=1)
    assert right(other, vectors, truths) < 0.2
    assert right(found, vectors, truths) > right(np.eye(3), vectors, truths) - 0.01 > 0.8
    assert found.dtype == np.float32


def test_the_same_seed_gives_the_same_bytes_and_another_gives_others():
    vectors, truths = clouds(200)
    start, weights = np.zeros((3, 3), np.float32), np.ones(3, np.float32)
    first, again, other = (settled(start, vectors, truths, weights, PLAN, seed) for seed in (1, 1, 2))
    assert first.tobytes() == again.tobytes() != other.tobytes()


def test_a_label_of_more_weight_loses_fewer_of_its_lines():
    vectors, truths = clouds(2000)
    start = np.eye(3, dtype=np.float32)
    alike = settled(start, vectors, truths, np.array([1, 1, 1], np.float32), PLAN, seed=1)
    favoured = settled(start, vectors, truths, np.array([1, 1, 8], np.float32), PLAN, seed=1)
    of_label = truths == 2
    assert right(favoured, vectors[of_label], truths[of_label]) > right(alike, vectors[of_label], truths[of_label])
