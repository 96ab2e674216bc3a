"""What the neighbours make of it: all chosen cells are perturbed at once, and the tissue around them is read again.

Own vectors of the cells around stay as they are; their place among neighbours changes. Only tiles that hold a changed
cell, or a cell next to one, can differ; each is passed twice, before and after.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stplm.errors import SectionError
from stplm.spatial.tiles import Tile, iter_tiles
from stplm.tasks.perturb_measures import shift_of
from stplm.tasks.perturb_vectors import to_numpy

if TYPE_CHECKING:
    from torch import Tensor

    from stplm.nn.encoder import Encoder
    from stplm.tasks.cells import Cells

Floats = NDArray[np.float32]
Opinion = Callable[[Floats, NDArray[np.int64]], tuple[NDArray[Any], NDArray[Any]]]
"""From cell vectors (n, dim) and which cells they are: class probabilities (n, k) and tumour probabilities (n,)."""
_HEAD_CELLS = 5000
RINGS = (0.0, 10.0, 20.0, 30.0, 50.0, 75.0, 100.0, 150.0)
"""Edges in µm, from the nearest perturbed cell."""


@dataclass(frozen=True)
class Response:
    """How the cells around perturbed ones answered to one set.

    ``cells`` int64 (r,): cells of the tiles that could change, the perturbed left out; ``distance`` float32 (r,) in µm
    to the nearest perturbed cell; ``shift`` float32 (r,): one minus the cosine of the cell vector, tissue part and all;
    ``opinions`` float32 (r,) by name: how the probabilities of ``tumour`` and of the cell's ``own_class`` changed.
    """

    cells: NDArray[np.int64]
    distance: Floats
    shift: Floats
    opinions: dict[str, Floats]

    def rings(self, name: str) -> pd.DataFrame:
        """Means by distance: a row a ring, with the number of cells in it."""
        ring = np.digitize(self.distance, RINGS) - 1
        rows = []
        for i, low in enumerate(RINGS):
            inside = ring == i
            high = RINGS[i + 1] if i + 1 < len(RINGS) else np.inf
            means = {key: float(value[inside].mean()) for key, value in self.opinions.items() if inside.any()}
            if inside.any():
                shift = float(self.shift[inside].mean())
                rows.append(
                    {"genes": name, "from_um": low, "to_um": high, "cells": int(inside.sum()), "shift": shift, **means}
                )
        # With its columns also where every cell was perturbed, and none is left around.
        return pd.DataFrame(rows, columns=["genes", "from_um", "to_um", "cells", "shift", *self.opinions])


class Around:
    """Tiles around chosen cells, and the own vectors that they need.

    Parameters
    ----------
    own_of
        Own vectors (n, own_width) of cells, given their rows.

    Raises SectionError for a section without positions.
    """

    def __init__(
        self,
        encoder: Encoder,
        cells: Cells,
        chosen: NDArray[np.int64],
        own_of: Callable[[NDArray[np.int64]], Floats],
    ) -> None:
        if cells.xy is None or cells.neighbours is None or cells.weights is None:
            raise SectionError(
                "This section has no positions, so no cell has neighbours.",
                expected='obsm["spatial"], in µm',
                mend="Leave the neighbours out (spatial=False).",
            )
        self._encoder, self._cells, self._chosen, self._xy = encoder, cells, chosen, cells.xy
        touched = np.zeros(len(cells), dtype=bool)
        touched[chosen] = True
        touched |= (touched[cells.neighbours] & (cells.weights > 0)).any(1)
        config = encoder.config
        self.tiles: list[Tile] = [
            tile for tile in iter_tiles(cells.xy, config.tile_size, config.halo) if touched[tile.cells].any()
        ]
        inside = np.unique(np.concatenate([tile.cells for tile in self.tiles])) if self.tiles else chosen
        needed = np.union1d(inside, cells.neighbours[inside].ravel().astype(np.int64))
        self._row = np.full(len(cells), -1, dtype=np.int64)
        self._row[needed] = np.arange(len(needed))
        self._own = own_of(needed)
        self._before = self._pass(torch_table(encoder, self._own), lambda n: None)

    @property
    def n_cells(self) -> int:
        """Cells that one pass reads."""
        return sum(tile.n_own for tile in self.tiles)

    def before(self) -> tuple[NDArray[np.int64], Floats]:
        """The tiles' cells (r,) and their vectors (r, dim) as they are."""
        cells = [tile.cells[: tile.n_own] for tile in self.tiles]
        if not cells:
            return np.zeros(0, dtype=np.int64), np.zeros((0, self._encoder.config.dim), dtype=np.float32)
        return np.concatenate(cells), np.concatenate(self._before)

    def respond(
        self, changed: NDArray[np.int64], own: Floats, opinion: Opinion | None, step: Callable[[int], None]
    ) -> Response:
        """After the cells ``changed`` (p,) got the own vectors ``own`` (p, own_width)."""
        from scipy.spatial import cKDTree

        table = self._own.copy()
        table[self._row[changed]] = own
        after = self._pass(torch_table(self._encoder, table), step)
        cells, old = self.before()
        new = np.concatenate(after) if after else old
        is_changed = np.zeros(len(self._cells), dtype=bool)
        is_changed[changed] = True
        other = ~is_changed[cells]
        cells, old, new = cells[other], old[other], new[other]
        distance = np.zeros(len(cells), dtype=np.float32)
        if len(changed) and len(cells):
            distance = cKDTree(self._xy[changed]).query(self._xy[cells])[0].astype(np.float32)
        opinions = {}
        if opinion is not None and len(cells):
            (proba, tumour), (new_proba, new_tumour) = opinion(old, cells), opinion(new, cells)
            mine = np.arange(len(cells)), proba.argmax(1)
            opinions = {
                "tumour": (new_tumour - tumour).astype(np.float32),
                "own_class": (new_proba[mine] - proba[mine]).astype(np.float32),
            }
        return Response(cells, distance, shift_of(old, new), opinions)

    def _pass(self, own: Tensor, step: Callable[[int], None]) -> list[Floats]:
        """Cell vectors (n_own, dim) of each tile's own cells."""
        import torch

        from stplm.tasks.cells import surroundings

        rows, found = torch.as_tensor(self._row, device=own.device), []
        with torch.inference_mode():
            shared = self._encoder.shared(own)
            for tile in self.tiles:
                around = surroundings(self._cells, tile.cells, tile.centre, own.device)
                around = replace(around, cells=rows[around.cells], neighbours=rows[around.neighbours])
                found.append(to_numpy(self._encoder.in_tissue(own, shared, around)[: tile.n_own]))
                step(tile.n_own)
        return found


def torch_table(encoder: Encoder, own: Floats) -> Tensor:
    """Own vectors where the encoder is."""
    import torch

    return torch.from_numpy(own).to(next(encoder.parameters()).device)


def tissue_head(vectors: Floats, classes: NDArray[np.object_], is_tumour: Callable[[str], bool], seed: int) -> Opinion:
    """A linear head on whole cell vectors (n, dim), tissue part and all, fitted to the ``classes`` (n,) that cells have
    ("" for none).

    The few-shot head looks at own vectors only, so that a neighbour cannot change its mind; this one can. Raises
    LabelError where there are not two classes.
    """
    from stplm.tasks.labels import check_two_classes
    from stplm.tasks.linear import fit_logistic
    from stplm.tasks.outcome import softmax

    known = np.flatnonzero(classes != "")
    if len(known) > _HEAD_CELLS:
        known = np.sort(np.random.default_rng(seed).choice(known, _HEAD_CELLS, replace=False))
    names, codes = np.unique(classes[known].astype(str), return_inverse=True)
    check_two_classes(list(names), len(known))
    middle, scale = vectors[known].mean(0), vectors[known].std(0) + 1e-6
    weights, bias = fit_logistic((vectors[known] - middle) / scale, codes, len(names), penalty=0.1)
    tumour = np.array([is_tumour(str(name)) for name in names])

    def opinion(cells: Floats, which: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[Any]]:
        proba = softmax(((cells - middle) / scale).astype(np.float64) @ weights.T + bias)
        return proba, proba[:, tumour].sum(1)

    return opinion
