"""Cross-entropy of the output layer without ever holding all logits, and labels and masks where documents end.

In come last hidden states, the output layer's weight and labels; out come the summed loss, which has gradients, and the
loss of every token, which has none and is what losses per language and source are added up from. Does not know sources.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from marco_data.train.config import CHUNK_TOKENS
from marco_data.train.router import in_full_precision

IGNORED = -100


def cross_entropy(
    hidden: Tensor, weight: Tensor, labels: Tensor, *, chunk: int = CHUNK_TOKENS
) -> tuple[Tensor, Tensor]:
    """Summed loss and loss per token of `hidden` [tokens, width]; a label of -100 is no loss and no gradient."""
    needed = torch.is_grad_enabled() and (hidden.requires_grad or weight.requires_grad)
    summed, losses = _ChunkedCrossEntropy.apply(hidden, weight, labels, chunk, needed)
    return summed, losses


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Gradients are taken while a chunk's logits are there, so that they are computed once and never kept."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, labels: Tensor, chunk: int, needed: bool
    ) -> tuple[Tensor, Tensor]:
        of_hidden = torch.empty_like(hidden) if needed else None
        # Summed over chunks in fp32: bf16 would lose what late chunks add.
        of_weight = torch.zeros_like(weight, dtype=in_full_precision(weight[:0]).dtype) if needed else None
        losses = []
        for start in range(0, len(hidden), chunk):
            part, wanted = hidden[start : start + chunk], labels[start : start + chunk]
            logits = in_full_precision(F.linear(part, weight))
            counted = wanted != IGNORED
            target = wanted.clamp_min(0).unsqueeze(1)
            of_target = logits.gather(1, target)
            highest = logits.amax(1, keepdim=True)
            powers = logits.sub_(highest).exp_()  # in place and once: at 152,000 words this is what takes time here
            total = powers.sum(1, keepdim=True)
            losses.append((total.log() + highest - of_target).squeeze(1).masked_fill(~counted, 0))
            if of_hidden is None or of_weight is None:
                continue
            kept = counted.unsqueeze(1).to(powers.dtype)
            grad = powers.mul_(kept / total).scatter_add_(1, target, -kept).to(hidden.dtype)
            of_hidden[start : start + chunk] = grad @ weight
            of_weight += grad.T @ part
        per_token = torch.cat(losses)
        ctx.save_for_backward(of_hidden, of_weight)
        ctx.dtype = weight.dtype
        ctx.mark_non_differentiable(per_token)
        return per_token.sum(), per_token

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        of_hidden, of_weight = ctx.saved_tensors
        return of_hidden * grad.to(of_hidden.dtype), (of_weight * grad).to(ctx.dtype), None, None, None


def labels_of(tokens: Tensor, documents: Tensor | None = None) -> Tensor:
    """What each of `tokens` [batch, seq + 1] but the last is followed by: [batch, seq].

    With `documents`, the running number of every token's document, the first token of a document is nobody's label:
    with attention masked at the boundary, nothing that it could be told from is visible.
    """
    labels = tokens[:, 1:].long()
    if documents is None:
        return labels
    return labels.masked_fill(documents[:, 1:] != documents[:, :-1], IGNORED)


def positions_in_documents(documents: Tensor) -> Tensor:
    """Positions that start at 0 with every document of a row: [batch, seq]."""
    index = torch.arange(documents.shape[1], device=documents.device).expand_as(documents)
    begins = F.pad(documents[:, 1:] != documents[:, :-1], (1, 0), value=True)
    return index - index.masked_fill(~begins, 0).cummax(1).values


def document_mask(documents: Tensor) -> Tensor:
    """True where a token (row) may look at another (column): earlier or itself, same document: [batch, 1, seq, seq].

    Documents are runs of equal numbers, so a document that comes twice in a row of tokens is two.
    """
    begins = F.pad(documents[:, 1:] != documents[:, :-1], (1, 0), value=True).cumsum(1)
    same = begins.unsqueeze(2) == begins.unsqueeze(1)
    return same.tril().unsqueeze(1)
