"""Memory that nobody has written and that reads as NaN, so that a result which depends on it shows."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def poisoned_memory() -> Iterator[None]:
    """What nobody has written reads as NaN: new tensors are filled with it, and so are freed buffers of many sizes."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    filled = torch.utils.deterministic.fill_uninitialized_memory
    torch.utils.deterministic.fill_uninitialized_memory = True
    try:
        assert torch.empty(8).isnan().all()
        held = [torch.full((size,), float("nan")) for size in range(64, 100_000, 1024) for _ in range(4)]
        del held
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        torch.utils.deterministic.fill_uninitialized_memory = filled
