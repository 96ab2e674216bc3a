"""What dropping each token of a sentence does to functions of the cell vector, estimated from one pass and gradients.

Dropping a token does three things, and each is estimated apart:

- *It is attended to no more.* In a layer whose inputs stay, the outcome is known exactly: if a place gave the token a
  share w of its attention and got the context c, it now gets c + w / (1 - w) × (c - v), v being the token's value. The
  gradient at the context says what that comes to at the end.
- *It is left out of the mean over genes.* Exact too, up to the mean.
- *All that follow move up a place.* Learnt places are no smooth function of the place, so a gradient at the sentence
  as it stands says little of a whole step. All gradients are therefore taken half-way, where every token lies between
  its place and the one before (the midpoint rule): right to second order in the step.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable

    from stplm.nn.rank import RankStage
    from stplm.nn.ranking import Tokens

_LEAST = 1e-3
"""A place that gave a token all its attention has no other to go by: 1 - w is at least this."""


def fade(encoder: RankStage, tokens: Tokens, functions: Callable[[Tensor], list[Tensor]]) -> list[NDArray[np.float64]]:
    """Change of each function if the token at a place goes: (n, L) each, special tokens included (they mean nothing).

    ``functions`` gives functions (n,) of cell vectors (n, own_width), each row's of its own vector only.
    """
    words = encoder.words(tokens).detach().requires_grad_()
    places = encoder.body.embeddings.position_embeddings.weight[: words.shape[1]].detach()
    up = torch.nn.functional.pad(places[:-1] - places[1:], (0, 0, 1, 0))
    hidden = encoder.body.embeddings(inputs_embeds=words + 0.5 * up)
    bias = torch.where(tokens.mask, 0.0, -1e9)[:, None, None]
    heads = []
    for layer in encoder.body.encoder.layer:
        hidden, *kept = _layer(layer, hidden, bias, encoder.config.heads)
        heads.append(kept)
    genes = tokens.genes
    number = genes.sum(1, keepdim=True)
    if encoder.config.pool == "cls":
        pooled = hidden[:, 0]
    else:
        pooled = torch.einsum("nl,nld->nd", genes / number.clamp(min=1), hidden)
    contexts = [context for _, _, context in heads]
    shares = [_lost(attention.detach()) for attention, _, _ in heads]
    with_values = [value.detach().transpose(2, 3) for _, value, _ in heads]
    found = []
    values = functions(encoder.pool_norm(pooled))
    for i, value in enumerate(values):
        by_word, by_pooled, *by_context = torch.autograd.grad(
            value.sum(), [words, pooled, *contexts], retain_graph=i + 1 < len(values)
        )
        moves = (by_word * up).sum(2) * tokens.mask
        # Those that follow: all moves, less those up to and with this place.
        change = moves.sum(1, keepdim=True) - moves.cumsum(1)
        if encoder.config.pool != "cls":
            apart = (pooled * by_pooled).sum(1, keepdim=True) - torch.einsum("nld,nd->nl", hidden, by_pooled)
            change = change + apart / (number - 1).clamp(min=1)
        for gradient, context, share, value_of in zip(by_context, contexts, shares, with_values, strict=True):
            own = (gradient * context).sum(3, keepdim=True)
            change = change + (share * (own - gradient @ value_of)).sum((1, 2))
        found.append(change.detach().double().cpu().numpy())
    return found


def _layer(layer: Any, hidden: Tensor, bias: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A layer of BERT: what goes out, and of each head (n, heads, L, ·) its attention, values and contexts."""
    parts = layer.attention.self
    n, length, width = hidden.shape

    def split(part: Any) -> Tensor:
        by_head: Tensor = part(hidden).view(n, length, heads, width // heads).transpose(1, 2)
        return by_head

    query, key, value = split(parts.query), split(parts.key), split(parts.value)
    attention = torch.softmax(query @ key.transpose(2, 3) / math.sqrt(width // heads) + bias, dim=-1)
    context = attention @ value
    joined = layer.attention.output(context.transpose(1, 2).reshape(n, length, width), hidden)
    return layer.output(layer.intermediate(joined), joined), attention, value, context


def _lost(attention: Tensor) -> Tensor:
    """w / (1 - w) of attention (n, heads, L, L). What a token sees of itself goes with it."""
    share = attention / (1 - attention).clamp(min=_LEAST)
    return share.masked_fill_(torch.eye(share.shape[2], dtype=torch.bool, device=share.device), 0.0)
