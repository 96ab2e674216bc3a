"""Flow attention: attention in linear time, by conserving what flows in and out of every token.

Source: Wu et al., "Flowformer: Linearizing Transformers with Conservation Flows" (ICML 2022); CellPLM (Wen et al.,
2023) uses it between the cells of a tissue. Written from the paper's equations, for one sequence at a time: no
padding, so a result never depends on what shares a batch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

EPS = 1e-6


class FlowAttention(nn.Module):
    """Multi-head, bidirectional flow attention over ``(n_tokens, dim)``.

    Time and memory grow linearly with ``n_tokens``. ``dim`` must be a multiple of ``heads``.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"dim ({dim}) must be a multiple of heads ({heads})")
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(dim, dim) for _ in range(3))
        self.out = nn.Linear(dim, dim)

    def forward(self, queries: Tensor, sources: Tensor | None = None) -> Tensor:
        """Attend from ``queries`` (n, dim) to ``sources`` (m, dim; the queries themselves by default): (n, dim)."""
        sources = queries if sources is None else sources
        q = torch.sigmoid(self._split(self.query(queries)))
        k = torch.sigmoid(self._split(self.key(sources)))
        v = self._split(self.value(sources))
        n, m = q.shape[1], k.shape[1]
        # Each sink (query) takes in one unit, each source (key) gives out one unit.
        incoming = 1.0 / (torch.einsum("hnd,hd->hn", q + EPS, k.sum(1) + EPS))
        outgoing = 1.0 / (torch.einsum("hmd,hd->hm", k + EPS, q.sum(1) + EPS))
        # With the other side conserved, what remains is the competition of sources and the allocation to sinks.
        sink_flow = torch.einsum("hnd,hd->hn", q + EPS, (k * outgoing[..., None]).sum(1) + EPS)
        source_flow = torch.einsum("hmd,hd->hm", k + EPS, (q * incoming[..., None]).sum(1) + EPS)
        allocation = torch.sigmoid(sink_flow * (n / m))
        competition = torch.softmax(source_flow.clamp(-1.0, 1.0), dim=-1) * m
        carried = torch.einsum("hmd,hme->hde", k, v * competition[..., None])
        flow = torch.einsum("hnd,hde->hne", q * incoming[..., None], carried) * allocation[..., None]
        attended: Tensor = self.out(flow.transpose(0, 1).reshape(queries.shape[0], -1))
        return attended

    def _split(self, x: Tensor) -> Tensor:
        """(n, dim) -> (heads, n, dim / heads)."""
        return x.view(x.shape[0], self.heads, -1).transpose(0, 1)
