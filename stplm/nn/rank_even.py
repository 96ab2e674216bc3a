"""The gene-token encoder over tokens one after another, on a processor: no padding, no mask, weights cast once.

Only attention knows where a sentence ends: it is worked out for sentences of one length at a time. All else takes some
thousand tokens at once, whatever sentences they are of, since products of few tokens cost nearly as much.

Matrix products are in the precision asked for; sums, norms and what goes from layer to layer are in float32.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stplm.nn.ranking import Tokens

if TYPE_CHECKING:
    from stplm.nn.rank import RankStage

_TOKENS = 4096
"""At once: as many as stay in a processor's cache."""
_LONG = 256
"""From so many tokens on, a sentence's attention is not written out whole."""


class EvenPasses:
    """What ``encoder.encode_tokens`` gives, for an encoder that stays as it is. Only where :meth:`fits`.

    Parameters
    ----------
    dtype
        Of the matrix products: float32 or bfloat16.
    """

    def __init__(self, encoder: RankStage, dtype: torch.dtype) -> None:
        self._encoder, self._dtype = encoder, dtype
        self._heads, self._width = encoder.config.heads, encoder.config.hidden
        with torch.no_grad():
            self._layers = [self._packed(layer) for layer in encoder.body.encoder.layer]

    @staticmethod
    def fits(encoder: RankStage) -> bool:
        """Whether the encoder is on a processor, in evaluation, and made of plain linear layers."""
        if encoder.training or encoder.special_embedding.device.type != "cpu":
            return False
        return all(type(part) is nn.Linear for layer in encoder.body.encoder.layer for part in _linear(layer))

    def __call__(self, tokens: Tokens) -> Tensor:
        """Hidden states (n, L, hidden) of the last layer; at padding 0."""
        # An empty sentence attends to one token of padding.
        lengths = tokens.mask.sum(1).clamp(min=1)
        hidden = self._encoder.special_embedding.new_zeros((*tokens.ids.shape, self._width))
        if not hidden.shape[1]:
            return hidden
        order = torch.argsort(lengths, stable=True)
        for part in _chunks(lengths[order].tolist()):
            which = order[part]
            width = int(lengths[which[-1]])
            here = torch.arange(width) < lengths[which, None]
            states = hidden.new_zeros((*here.shape, self._width))
            states[here] = self._run(tokens.take(which, width), here)
            hidden[which, :width] = states
        return hidden

    def _packed(self, layer: Any) -> tuple[Any, ...]:
        query, key, value, out, up, down = _linear(layer)
        scale = 1 / math.sqrt(self._width // self._heads)
        weight = torch.cat([query.weight * scale, key.weight, value.weight])
        bias = torch.cat([query.bias * scale, key.bias, value.bias])
        pairs = [(weight, bias), *((part.weight, part.bias) for part in (out, up, down))]
        cast = [(w.detach().to(self._dtype).contiguous(), b.detach().to(self._dtype)) for w, b in pairs]
        return (
            *cast,
            layer.attention.output.LayerNorm,
            layer.intermediate.intermediate_act_fn,
            layer.output.LayerNorm,
        )

    def _run(self, tokens: Tokens, here: Tensor) -> Tensor:
        """States (T, hidden) of the tokens ``here`` bool (n, L), row by row; rows ascending in length."""
        heads, width = self._heads, self._width
        x: Tensor = self._encoder.body.embeddings(inputs_embeds=self._encoder.words(tokens))[here]
        lengths, sentences = torch.unique_consecutive(here.sum(1), return_counts=True)
        alike = list(zip(sentences.tolist(), lengths.tolist(), strict=True))
        for mixed, out, up, down, first, activation, second in self._layers:
            parts = F.linear(x.to(self._dtype), *mixed)
            context, start = parts.new_empty((len(parts), width)), 0
            for n, length in alike:
                rows = slice(start, start := start + n * length)
                of_all = parts[rows].view(n, length, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
                found = _attention(*of_all.contiguous())
                context[rows].view(n, length, heads, width // heads).copy_(found.transpose(1, 2))
            x = first(x + F.linear(context, *out))
            x = second(x + F.linear(activation(F.linear(x.to(self._dtype), *up)), *down))
        return x


def _attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """All (n, heads, L, size), the query scaled."""
    n, heads, length, size = query.shape
    if length >= _LONG:
        return F.scaled_dot_product_attention(query, key, value, scale=1.0)
    rows = (n * heads, length, size)
    share = torch.softmax(torch.bmm(query.view(rows), key.view(rows).transpose(1, 2)), dim=-1)
    return torch.bmm(share, value.view(rows)).view(query.shape)


def _chunks(lengths: list[int]) -> Iterator[slice]:
    """Runs of sentences of about ``_TOKENS`` tokens."""
    start, tokens = 0, 0
    for at, length in enumerate(lengths):
        if tokens and tokens + length > _TOKENS:
            yield slice(start, at)
            start, tokens = at, 0
        tokens += length
    if lengths:
        yield slice(start, len(lengths))


def _linear(layer: Any) -> tuple[Any, ...]:
    own = layer.attention.self
    return own.query, own.key, own.value, layer.attention.output.dense, layer.intermediate.dense, layer.output.dense
