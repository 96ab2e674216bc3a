"""The gene-token encoder over sentences of one length, on a processor: no padding, no mask, weights cast once.

Matrix products are in the precision asked for; sums, norms and what goes from layer to layer are in float32.
"""

from __future__ import annotations

import math
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
        lengths = tokens.mask.sum(1)
        hidden = self._encoder.special_embedding.new_zeros((*tokens.ids.shape, self._width))
        for length in torch.unique(lengths).tolist():
            which = (lengths == length).nonzero().squeeze(1)
            # An empty sentence attends to one token of padding.
            width, most = max(length, 1), max(_TOKENS // max(length, 1), 1)
            for part in which.split(most):
                hidden[part, :width] = self._run(tokens.take(part, width))
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

    def _run(self, tokens: Tokens) -> Tensor:
        n, length = tokens.ids.shape
        heads, width = self._heads, self._width
        x = self._encoder.body.embeddings(inputs_embeds=self._encoder.words(tokens)).reshape(n * length, width)
        for mixed, out, up, down, first, activation, second in self._layers:
            parts = F.linear(x.to(self._dtype), *mixed).view(n, length, 3, heads, width // heads)
            query, key, value = parts.permute(2, 0, 3, 1, 4).contiguous()
            if length < _LONG:
                rows = (n * heads, length, width // heads)
                share = torch.softmax(torch.bmm(query.view(rows), key.view(rows).transpose(1, 2)), dim=-1)
                context = torch.bmm(share, value.view(rows)).view(query.shape)
            else:
                context = F.scaled_dot_product_attention(query, key, value, scale=1.0)
            x = first(x + F.linear(context.transpose(1, 2).reshape(n * length, width), *out))
            x = second(x + F.linear(activation(F.linear(x.to(self._dtype), *up)), *down))
        hidden: Tensor = x.view(n, length, width)
        return hidden


def _linear(layer: Any) -> tuple[Any, ...]:
    own = layer.attention.self
    return own.query, own.key, own.value, layer.attention.output.dense, layer.intermediate.dense, layer.output.dense
