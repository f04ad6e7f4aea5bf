"""Chunked cross-entropy is the plain one, with every token's loss; labels and masks end where documents do."""

import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from torch import Tensor  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from marco_data.train.loss import (  # noqa: E402
    IGNORED,
    cross_entropy,
    document_mask,
    labels_of,
    positions_in_documents,
)

pytestmark = pytest.mark.slow
torch.set_num_threads(1)  # on a machine with other work, threads of these small products mostly wait for each other


def inputs(rows: int, dtype: torch.dtype, *, ignored: float = 0.3) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(rows)
    hidden = torch.randn(rows, 24, generator=generator, dtype=torch.float64)
    weight = torch.randn(101, 24, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 101, (rows,), generator=generator)
    labels[torch.rand(rows, generator=generator) < ignored] = IGNORED
    return hidden.to(dtype).requires_grad_(), weight.to(dtype).requires_grad_(), labels


def plain(hidden: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(F.linear(hidden, weight), labels, ignore_index=IGNORED, reduction="none")


@settings(deadline=None, max_examples=40)
@given(rows=st.integers(1, 70), chunk=st.integers(1, 80), ignored=st.sampled_from([0.0, 0.3, 1.0]))
def test_losses_and_gradients_are_the_plain_ones_for_any_chunk(rows, chunk, ignored):
    hidden, weight, labels = inputs(rows, torch.float64, ignored=ignored)
    summed, losses = cross_entropy(hidden, weight, labels, chunk=chunk)
    (summed * 0.37).backward()
    found = hidden.grad, weight.grad
    hidden.grad = weight.grad = None
    expected = plain(hidden, weight, labels)
    (expected.sum() * 0.37).backward()
    torch.testing.assert_close(losses, expected.detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(summed, expected.sum(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found, (hidden.grad, weight.grad), rtol=1e-12, atol=1e-12)


def test_losses_add_up_to_the_sum_and_to_those_of_any_sources():
    hidden, weight, labels = inputs(60, torch.float64)
    summed, losses = cross_entropy(hidden, weight, labels)
    sources = torch.arange(60) % 3
    per_source = torch.zeros(3, dtype=torch.float64).index_add(0, sources, losses)
    assert per_source.sum().item() == pytest.approx(summed.item(), rel=1e-12)
    for source in range(3):
        mine = sources == source
        alone, _ = cross_entropy(hidden[mine], weight, labels[mine])
        assert per_source[source].item() == pytest.approx(alone.item(), rel=1e-12)
    assert not losses.requires_grad
    assert not losses[labels == IGNORED].any()


def test_in_bf16_the_loss_is_summed_in_fp32_and_gradients_are_as_exact_as_the_plain_ones():
    hidden, weight, labels = inputs(64, torch.bfloat16)
    summed, losses = cross_entropy(hidden, weight, labels, chunk=8)
    assert (summed.dtype, losses.dtype) == (torch.float32, torch.float32)
    summed.backward()
    found = hidden.grad.double(), weight.grad.double()
    assert (hidden.grad.dtype, weight.grad.dtype) == (torch.bfloat16, torch.bfloat16)
    exact = [value.detach().double().requires_grad_() for value in (hidden, weight)]
    plain(*exact, labels).sum().backward()
    for gradient, wanted in zip(found, exact, strict=True):
        assert ((gradient - wanted.grad).norm() / wanted.grad.norm()).item() < 0.01


def test_without_gradients_none_are_computed_and_losses_are_the_same():
    hidden, weight, labels = inputs(30, torch.float32)
    summed, losses = cross_entropy(hidden, weight, labels)
    with torch.no_grad():
        again, alone = cross_entropy(hidden, weight, labels)
    assert torch.equal(losses, alone)
    assert torch.equal(summed.detach(), again)
    assert not again.requires_grad


def test_logits_far_from_zero_are_no_trouble():
    hidden = torch.tensor([[300.0], [-300.0]], requires_grad=True)
    weight, labels = torch.tensor([[1.0], [-1.0], [0.0]]), torch.tensor([0, 0])
    summed, losses = cross_entropy(hidden, weight, labels)
    summed.backward()
    assert losses.tolist() == [0, 600]
    assert hidden.grad.tolist() == [[0.0], [-2.0]]


def test_labels_are_the_next_tokens_and_none_across_a_document():
    tokens = torch.tensor([[5, 6, 7, 8, 9]], dtype=torch.int32)
    assert labels_of(tokens).tolist() == [[6, 7, 8, 9]]
    assert labels_of(tokens).dtype == torch.int64
    assert labels_of(tokens, torch.tensor([[0, 0, 1, 1, 2]])).tolist() == [[6, IGNORED, 8, IGNORED]]


@given(st.lists(st.lists(st.integers(0, 2), min_size=12, max_size=12), min_size=1, max_size=3))
@settings(deadline=None)
def test_a_token_sees_what_came_before_it_in_its_own_document(rows):
    documents = torch.tensor(rows)
    mask, positions = document_mask(documents), positions_in_documents(documents)
    for row, ids in enumerate(rows):
        for at in range(12):
            start = at
            while start and ids[start - 1] == ids[at]:
                start -= 1
            assert mask[row, 0, at].tolist() == [start <= other <= at for other in range(12)]
            assert int(positions[row, at]) == at - start
