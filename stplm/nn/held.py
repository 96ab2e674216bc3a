"""The tissue stage for one cell that changes while those around it stay as they are.

Flow attention reads the cells of a tile through a few sums over all of them. Held at what they are, they make a cell's
outcome a function of its own token alone, so that thousands of variants of a cell cost no more than as many cells. What
is left out is the changed cell's own part of the sums, and what its neighbours would make of its change and hand back:
one cell among the hundreds or thousands of a tile. With an unchanged token the outcome is exactly the cell's vector.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from stplm.nn.attention import EPS, FlowAttention
from stplm.nn.encoder import Surroundings
from stplm.nn.tissue import TissueStage


@dataclass(frozen=True)
class HeldTiles:
    """Of T tiles and B blocks: ``keys`` (T, B, heads, d) and ``given`` (T, B, heads, d), what a query is held against;
    ``carried`` (T, B, heads, d, d), what it brings home."""

    keys: Tensor
    given: Tensor
    carried: Tensor

    @classmethod
    def of(cls, tiles: list[HeldTiles]) -> HeldTiles:
        """Many in one."""
        return cls(*(torch.cat([getattr(tile, name) for tile in tiles]) for name in ("keys", "given", "carried")))


def hold(encoder: TissueStage, shared: Tensor, around: Surroundings) -> HeldTiles:
    """One tile's sums, of the cells of ``around`` (all of the tile, halo too)."""
    x = encoder.tissue_in(encoder.tokens(shared, around))
    sums = []
    for block in _blocks(encoder):
        sums.append(_sums(block.attention, block.norm(x)))
        x = block(x)
    return HeldTiles(*(torch.stack(parts)[None] for parts in zip(*sums, strict=True)))


def in_held_tissue(
    encoder: TissueStage, own: Tensor, mean: Tensor, place: Tensor, held: HeldTiles, tile: Tensor
) -> Tensor:
    """Cell vectors (v, dim) of cells with own vectors ``own`` (v, own_width).

    ``mean`` (v, own_width): the mean of their neighbours, as :meth:`Encoder.mean_of_neighbours` gives it of what
    neighbours see; ``place`` (v, 2) in µm from the centre of their tiles, whose rows in ``held`` are ``tile`` (v,).
    """
    x = encoder.tissue_in(encoder.joined(encoder.shared(own), mean, place))
    for i, block in enumerate(_blocks(encoder)):
        sums = (part[tile, i] for part in (held.keys, held.given, held.carried))
        x = block.mlp(x + _attend(block.attention, block.norm(x), *sums))
    return torch.cat([own, encoder.tissue_out(x)], dim=1)


def _blocks(encoder: TissueStage) -> list[Any]:
    return list(encoder.tissue_blocks)


def _sums(attention: FlowAttention, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Sums over tokens ``x`` (n, dim) that a query meets, as in :meth:`FlowAttention.forward`."""
    q, k, v = _parts(attention, x, attention.query, attention.key, attention.value)
    q, k = torch.sigmoid(q), torch.sigmoid(k)
    keys = k.sum(0) + EPS
    incoming = 1.0 / torch.einsum("nhd,hd->nh", q + EPS, keys)
    outgoing = 1.0 / torch.einsum("nhd,hd->nh", k + EPS, q.sum(0) + EPS)
    given = (k * outgoing[..., None]).sum(0) + EPS
    source_flow = torch.einsum("nhd,hd->nh", k + EPS, (q * incoming[..., None]).sum(0) + EPS)
    competition = torch.softmax(source_flow.clamp(-1.0, 1.0), dim=0) * len(x)
    return keys, given, torch.einsum("nhd,nhe->hde", k, v * competition[..., None])


def _attend(attention: FlowAttention, x: Tensor, keys: Tensor, given: Tensor, carried: Tensor) -> Tensor:
    """Tokens ``x`` (v, dim), each against sums of its own: (v, heads, d), (v, heads, d), (v, heads, d, d)."""
    (q,) = _parts(attention, x, attention.query)
    q = torch.sigmoid(q)
    incoming = 1.0 / ((q + EPS) * keys).sum(2)
    allocation = torch.sigmoid(((q + EPS) * given).sum(2))
    flow = torch.einsum("vhd,vhde->vhe", q * incoming[..., None], carried) * allocation[..., None]
    attended: Tensor = attention.out(flow.reshape(len(x), -1))
    return attended


def _parts(attention: FlowAttention, x: Tensor, *layers: nn.Module) -> Any:
    """(n, heads, d) of each layer."""
    return [layer(x).view(len(x), attention.heads, -1) for layer in layers]
