"""Perturbation of a fine-tuned model: its own heads say what class a changed cell is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stplm.errors import ModelError
from stplm.models import Model, load_model
from stplm.tasks.perturb_vectors import to_numpy

if TYPE_CHECKING:
    from anndata import AnnData
    from scipy.sparse import csr_matrix

    from stplm.nn.encoder import Encoder
    from stplm.nn.heads import ClassHeads
    from stplm.nn.tissue import TissueStage
    from stplm.tasks.cells import Cells

Floats = NDArray[np.float32]
_CHUNK = 4096


def is_tuned(classifier: Any) -> bool:
    """Whether a classifier, or the folder of one, is a model with heads of its own, not a few-shot head."""
    if isinstance(classifier, Model):
        return True
    return isinstance(classifier, str | Path) and (Path(classifier) / "provenance.json").is_file()


def heads_for(model: Model, classifier: Any) -> ClassHeads | None:
    """The heads to ask: the model's own, where no ``classifier`` is given or where that is the same model; None where a
    few-shot head is to be asked, or nobody.

    Raises ModelError for a fine-tuned classifier that is not the perturbed model, or has no heads.
    """
    if classifier is None:
        return model.heads
    if not is_tuned(classifier):
        return None
    tuned = load_model(classifier)
    if tuned.heads is None:
        raise ModelError(
            "This model has not learned any classes.",
            found=tuned.name,
            expected="a fine-tuned model, or a few-shot head (stplm.fit_classifier)",
        )
    if tuned.fingerprint() != model.fingerprint():
        raise ModelError(
            "A fine-tuned model reads its own vectors only.",
            found=f"vectors of {model.name}",
            expected=f"those of {tuned.name}",
            mend="Name the fine-tuned model as the model to perturb too.",
        )
    return tuned.heads


class HeadJudge:
    """The heads' opinion of cells whose counts and vectors were changed: calibrated, with the shares they learnt."""

    def __init__(self, heads: ClassHeads, encoder: Encoder, table: AnnData) -> None:
        from stplm.tasks.cells import table_columns
        from stplm.tokens.vocabulary import gene_places

        self._heads, self._encoder = heads.cpu().eval(), encoder
        self._columns = gene_places(heads.config.genes, table_columns(table))
        self.classes, self.tumour_classes = list(heads.config.classes), list(heads.config.tumour_classes)

    def __call__(self, vectors: Floats, counts: csr_matrix) -> tuple[Floats, Floats]:
        """Class probabilities (n, k) and tumour probabilities (n,) of cells with counts (n, n_genes) and ``vectors``
        (n, dim), or (n, own_width) where they are seen by themselves."""
        from stplm.tasks.finetune_scores import outputs

        proba, called = outputs(self._heads, self._logs(vectors, counts))
        return proba.astype(np.float32), called.astype(np.float32)

    def logits(self, vectors: Floats, counts: csr_matrix) -> NDArray[np.float64]:
        """Class logits (n, k) of such cells, calibrated, the classes' shares included."""
        from stplm.tasks.finetune_scores import class_logits

        return class_logits(self._heads, self._logs(vectors, counts))

    def _logs(self, vectors: Floats, counts: csr_matrix) -> Floats:
        """Log-probabilities (n, k) as trained."""
        import torch

        from stplm.tasks.finetune_patches import take_columns

        logs = np.empty((len(vectors), len(self.classes)), dtype=np.float32)
        with torch.inference_mode():
            for start in range(0, len(vectors), _CHUNK):
                part = slice(start, start + _CHUNK)
                dense = torch.from_numpy(np.asarray(counts[part].toarray(), dtype=np.float32))
                seen = torch.from_numpy(vectors[part])
                if seen.shape[1] < self._heads.config.dim:
                    seen = self._encoder.alone(seen)
                types, tumour = self._heads(seen, take_columns(dense, self._columns), dense.sum(1))
                logs[part] = self._heads.log_proba(types, tumour).numpy()
        return logs


class InTissue:
    """Whole vectors of variants of cells of a section, the cells around as they are (:mod:`stplm.nn.held`).

    Parameters
    ----------
    chosen
        The cells that variants are of.
    own_of
        Own vectors (n, own_width) of cells, given their rows.
    """

    def __init__(
        self,
        encoder: TissueStage,
        cells: Cells,
        chosen: NDArray[np.int64],
        own_of: Callable[[NDArray[np.int64]], Floats],
    ) -> None:
        import torch

        from stplm.nn.held import HeldTiles, hold
        from stplm.spatial.tiles import iter_tiles
        from stplm.tasks.cells import surroundings

        assert cells.xy is not None
        assert cells.neighbours is not None
        self._encoder, config = encoder, encoder.config
        is_chosen = np.zeros(len(cells), dtype=bool)
        is_chosen[chosen] = True
        tiles = [
            tile
            for tile in iter_tiles(cells.xy, config.tile_size, config.halo)
            if is_chosen[tile.cells[: tile.n_own]].any()
        ]
        inside = np.unique(np.concatenate([tile.cells for tile in tiles]))
        needed = np.union1d(inside, cells.neighbours[inside].ravel().astype(np.int64))
        row = np.full(len(cells), -1, dtype=np.int64)
        row[needed] = np.arange(len(needed))
        device = next(encoder.parameters()).device
        rows, found = torch.as_tensor(row, device=device), []
        self._at = np.full(len(cells), -1, dtype=np.int64)
        held, mean, place, tile_of, known = [], [], [], [], 0
        with torch.inference_mode():
            shared = encoder.shared(torch.from_numpy(own_of(needed)).to(device))
            for i, tile in enumerate(tiles):
                around = surroundings(cells, tile.cells, tile.centre, device)
                around = replace(around, cells=rows[around.cells], neighbours=rows[around.neighbours])
                held.append(hold(encoder, shared, around))
                mine = np.flatnonzero(is_chosen[tile.cells[: tile.n_own]])
                which = torch.as_tensor(mine, device=device)
                mean.append(encoder.mean_of_neighbours(shared, around.neighbours[which], around.weights[which]))
                place.append(around.place[which])
                tile_of.append(torch.full((len(mine),), i, device=device))
                found.append(tile.cells[mine])
                known += len(mine)
        self._at[np.concatenate(found)] = np.arange(known)
        self._held = HeldTiles.of(held)
        self._mean, self._place, self._tile = torch.cat(mean), torch.cat(place), torch.cat(tile_of)

    def __call__(self, own: Floats, which: NDArray[np.int64]) -> Floats:
        """(n, dim) of variants with own vectors (n, own_width) of the cells ``which`` (n,)."""
        import torch

        from stplm.nn.held import in_held_tissue

        vectors = np.empty((len(own), self._encoder.config.dim), dtype=np.float32)
        with torch.inference_mode():
            for start in range(0, len(own), _CHUNK):
                part = slice(start, start + _CHUNK)
                at = torch.as_tensor(self._at[which[part]], device=self._mean.device)
                mine = torch.from_numpy(own[part]).to(self._mean)
                vectors[part] = to_numpy(
                    in_held_tissue(self._encoder, mine, self._mean[at], self._place[at], self._held, self._tile[at])
                )
        return vectors
