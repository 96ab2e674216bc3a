"""Flow attention: the published equations, any order of tokens, linear growth."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from stplm.nn.attention import FlowAttention


def _tokens(n: int, dim: int, seed: int = 0) -> Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed))


def _attention(dim: int = 12, heads: int = 3, seed: int = 0) -> FlowAttention:
    torch.manual_seed(seed)
    return FlowAttention(dim, heads).eval()


def _by_the_paper(attention: FlowAttention, queries: Tensor, sources: Tensor) -> Tensor:
    """Flowformer's equations with the full flow matrix, token by token and head by head, in float64."""
    n, m, dim = len(queries), len(sources), queries.shape[1]
    width = dim // attention.heads
    q_all, k_all, v_all = (
        (x @ layer.weight.T + layer.bias).double()
        for x, layer in ((queries, attention.query), (sources, attention.key), (sources, attention.value))
    )
    result = torch.zeros(n, dim, dtype=torch.float64)
    for head in range(attention.heads):
        part = slice(head * width, (head + 1) * width)
        q, k, v = torch.sigmoid(q_all[:, part]), torch.sigmoid(k_all[:, part]), v_all[:, part]
        flow = [[float((q[i] * k[j]).sum()) for j in range(m)] for i in range(n)]
        incoming = [sum(flow[i]) for i in range(n)]
        outgoing = [sum(flow[i][j] for i in range(n)) for j in range(m)]
        conserved_in = [sum(flow[i][j] / outgoing[j] for j in range(m)) for i in range(n)]
        conserved_out = [sum(flow[i][j] / incoming[i] for i in range(n)) for j in range(m)]
        weights = [math.exp(min(max(o, -1.0), 1.0)) for o in conserved_out]
        competition = [m * w / sum(weights) for w in weights]
        for i in range(n):
            carried = sum(flow[i][j] * competition[j] * v[j] for j in range(m)) / incoming[i]
            result[i, part] = carried / (1 + math.exp(-conserved_in[i] * n / m))
    return (result @ attention.out.weight.double().T + attention.out.bias.double()).float()


@pytest.mark.parametrize(("n", "m"), [(7, 7), (5, 11), (1, 4), (3, 1)])
@torch.no_grad()
def test_it_follows_the_published_equations(n: int, m: int) -> None:
    attention, queries, sources = _attention(), _tokens(n, 12), _tokens(m, 12, seed=1)
    torch.testing.assert_close(
        attention(queries, sources), _by_the_paper(attention, queries, sources), atol=1e-4, rtol=1e-4
    )


@torch.no_grad()
def test_tokens_attend_to_themselves_by_default() -> None:
    attention, tokens = _attention(), _tokens(9, 12)
    torch.testing.assert_close(attention(tokens), attention(tokens, tokens))


@torch.no_grad()
def test_the_order_of_tokens_means_nothing() -> None:
    attention, tokens = _attention(), _tokens(50, 12)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(attention(tokens[order]), attention(tokens)[order], atol=1e-6, rtol=1e-5)


class _LargestTensor(TorchDispatchMode):
    """Notes the number of elements of the largest tensor that an operation gives."""

    largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.largest = max(self.largest, result.numel())
        return result


@torch.no_grad()
def test_memory_grows_linearly_with_tokens() -> None:
    attention = _attention()
    largest = []
    for n in (1000, 2000, 4000):
        with _LargestTensor() as watch:
            attention(_tokens(n, 12))
        largest.append(watch.largest / n)
    assert largest[0] == largest[1] == largest[2] <= 12


def test_width_must_suit_the_heads() -> None:
    with pytest.raises(ValueError, match="multiple of heads"):
        FlowAttention(10, 4)
