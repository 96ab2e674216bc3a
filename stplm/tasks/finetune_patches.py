"""Batches of fine-tuning: contiguous patches of tissue, so that gradients reach a cell's neighbours.

A patch is a labelled cell with the cells nearest to it, and around these, as context, every neighbour of theirs: each
cell that is scored has all its neighbours. Each labelled cell is scored in one patch an epoch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from stplm.nn.encoder import Encoder
from stplm.nn.heads import ClassHeads
from stplm.nn.thinning import split_counts
from stplm.tasks.cells import patch_surroundings
from stplm.tasks.finetune_data import LabelledSection


@dataclass(frozen=True)
class Patch:
    """Cells to encode together: ``cells`` int64 (t,) of section number ``section``; the first ``scored`` are scored."""

    section: int
    cells: NDArray[np.int64]
    scored: int


def plan_patches(
    sections: list[LabelledSection],
    side: str,
    size: int,
    random: np.random.Generator,
    trees: list[cKDTree | None],
) -> list[Patch]:
    """Patches that score each cell of ``side`` ("train" or "test") once, in random order.

    ``trees``: of each section's positions; None scores ``size`` cells from anywhere at a time, without context.
    """
    patches = []
    for number, section in enumerate(sections):
        todo, tree = getattr(section, side).copy(), trees[number]
        order = random.permutation(np.flatnonzero(todo))
        if tree is None:
            patches += [
                Patch(number, order[i : i + size], len(order[i : i + size])) for i in range(0, len(order), size)
            ]
            continue
        for centre in order:
            if todo[centre]:
                near = _nearest(tree, centre, size)
                scored, rest = near[todo[near]], near[~todo[near]]
                todo[scored] = False
                patches.append(Patch(number, np.concatenate([scored, rest, _ring(section, near)]), len(scored)))
    return [patches[i] for i in random.permutation(len(patches))]


def _nearest(tree: cKDTree, centre: int, size: int) -> NDArray[np.int64]:
    _, near = tree.query(tree.data[centre], k=min(size, tree.n))
    found = np.atleast_1d(near).astype(np.int64)
    # Where many cells lie on one spot, the centre may not be among the nearest.
    return found if centre in found else np.append(found[:-1], centre)


def _ring(section: LabelledSection, near: NDArray[np.int64]) -> NDArray[np.int64]:
    neighbours, weights = section.cells.neighbours, section.cells.weights
    assert neighbours is not None
    assert weights is not None
    return np.setdiff1d(neighbours[near][weights[near] > 0].astype(np.int64), near)


def group(patches: list[Patch], scored: int) -> list[list[Patch]]:
    """Patches in batches, each just large enough to score ``scored`` cells; the last may score fewer."""
    batches: list[list[Patch]] = []
    filled = scored
    for patch in patches:
        if filled >= scored:
            batches.append([])
            filled = 0
        batches[-1].append(patch)
        filled += patch.scored
    return batches


def at_once(batch: list[Patch], cells: int) -> list[list[Patch]]:
    """A batch's patches in parts of at most ``cells`` cells, or of one patch: what is in memory together."""
    parts: list[list[Patch]] = []
    filled = cells
    for patch in batch:
        if filled + len(patch.cells) > cells:
            parts.append([])
            filled = 0
        parts[-1].append(patch)
        filled += len(patch.cells)
    return parts


class Forward:
    """Encoder and heads on the cells of a patch."""

    def __init__(
        self,
        encoder: Encoder,
        heads: ClassHeads,
        sections: list[LabelledSection],
        device: torch.device,
        vectors: list[Tensor] | None = None,
    ) -> None:
        """``vectors``: of every cell of each section, where the encoder does not train."""
        self.encoder, self.heads, self.sections, self.device, self.vectors = encoder, heads, sections, device, vectors
        self.columns = [s.columns(heads.config.genes) for s in sections]

    def log_proba(
        self, patch: Patch, *, thinning: float = 1.0, turn: float = 0.0, generator: torch.Generator | None = None
    ) -> Tensor:
        """Log-probabilities (scored, k) as :meth:`ClassHeads.log_proba`.

        ``thinning``: lowest share of a cell's molecules kept, drawn with ``generator``. ``turn``: angle by which the
        patch is turned about its middle: tissue has no up.
        """
        section, scored = self.sections[patch.section], patch.scored
        seen = patch.cells if self.vectors is None else patch.cells[:scored]
        counts = torch.from_numpy(np.asarray(section.counts[seen].toarray(), dtype=np.float32)).to(self.device)
        if thinning < 1:
            assert generator is not None
            counts, _ = split_counts(counts, thinning, 1.0, generator)
        depth = counts.sum(1)
        if self.vectors is None:
            vectors = self._encode(section, patch, counts, turn)
        else:
            vectors = self.vectors[patch.section][torch.as_tensor(seen, device=self.device)]
        genes = take_columns(counts[:scored], self.columns[patch.section])
        types, tumour = self.heads(vectors[:scored].float(), genes, depth[:scored])
        return self.heads.log_proba(types.float(), tumour.float())

    def _encode(self, section: LabelledSection, patch: Patch, counts: Tensor, turn: float) -> Tensor:
        rows = torch.as_tensor(section.cells.rows, device=self.device)
        known = torch.as_tensor(section.known, device=self.device)
        own = self.encoder.encode_own(counts[:, known], rows)
        if not self.heads.config.neighbours or section.cells.xy is None:
            return self.encoder.alone(own)
        xy = section.cells.xy[patch.cells]
        cos, sin = np.cos(turn), np.sin(turn)
        place = (xy - (xy.min(0) + xy.max(0)) / 2) @ np.array([[cos, -sin], [sin, cos]])
        around = patch_surroundings(section.cells, patch.cells, place, self.device)
        return self.encoder.in_tissue(own, self.encoder.shared(own), around)


def take_columns(counts: Tensor, columns: NDArray[np.int64]) -> Tensor:
    """Columns of ``counts`` (n, p), NaN where a column is -1: (n, len(columns))."""
    lacking = torch.as_tensor(columns < 0, device=counts.device)
    return counts[:, torch.as_tensor(np.maximum(columns, 0), device=counts.device)].masked_fill(lacking, torch.nan)
