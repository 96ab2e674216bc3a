"""What is measured of a variant: how far its vector went, towards which state, and how its class was judged after."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stplm import keys
from stplm.errors import LabelError, ModelError
from stplm.tasks.features import count_features
from stplm.tasks.perturb_vectors import to_numpy

if TYPE_CHECKING:
    from anndata import AnnData
    from scipy.sparse import csr_matrix

    from stplm.nn.encoder import Encoder
    from stplm.tasks.cells import Cells
    from stplm.tasks.classifier import Classifier
    from stplm.tasks.features import Features

Floats = NDArray[np.float32]
_STATE_CELLS = 2000


def shift_of(before: Floats, after: Floats) -> Floats:
    """One minus the cosine of two vectors (n, d) each; 0 where one is zero. Between 0 and 2."""
    return (1 - cosine(before, after)).clip(0, 2).astype(np.float32)


def cosine(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """(n,) of rows; ``b`` may be one vector. In doubles: a shift is a small difference from 1."""
    a, b = a.astype(np.float64), np.broadcast_to(b, a.shape).astype(np.float64)
    size = np.sqrt((a * a).sum(1) * (b * b).sum(1))
    return np.asarray(np.divide((a * b).sum(1), size, out=np.ones(len(a)), where=size > 0))


@dataclass(frozen=True)
class States:
    """Where a perturbation should lead and what it should leave: mean own vectors (own_width,) of two classes' cells.

    A variant's *shift to the goal* is cos(after, goal) - cos(before, goal); its *shift from the start* is
    cos(before, start) - cos(after, start). Both as Geneformer states them (Theodoris et al., 2023).
    """

    goal: Floats | None = None
    start: Floats | None = None

    def shifts(self, before: Floats, after: Floats) -> dict[str, Floats]:
        """``to_goal`` and ``from_start`` (n,), of those that there are."""
        found = {}
        if self.goal is not None:
            found["to_goal"] = (cosine(after, self.goal) - cosine(before, self.goal)).astype(np.float32)
        if self.start is not None:
            found["from_start"] = (cosine(before, self.start) - cosine(after, self.start)).astype(np.float32)
        return found


def state_cells(table: AnnData, name: str, states: str | pd.Series | None, seed: int) -> NDArray[np.int64]:
    """Cells of the class ``name``, 2,000 at most, drawn with ``seed``.

    ``states``: an obs column, or classes by cell id; by default the labels of a user, then the predicted classes.
    Raises LabelError when there is no such class.
    """
    values = state_classes(table, states)
    found = np.flatnonzero(values == name)
    if not len(found):
        there = pd.Series(values[values != ""]).value_counts().index[:12]
        raise LabelError(
            f"No cell is of the class {name!r}.", expected=f"one of {', '.join(there)}", mend="Choose one of these."
        )
    if len(found) > _STATE_CELLS:
        found = np.sort(np.random.default_rng(seed).choice(found, _STATE_CELLS, replace=False))
    return found


def state_classes(table: AnnData, states: str | pd.Series | None) -> NDArray[np.object_]:
    """Class of every cell, "" where there is none. Raises LabelError when there is no such column."""
    if isinstance(states, pd.Series):
        column = states.reindex(table.obs_names)
    else:
        name = states or next((c for c in (keys.CLASS, keys.LABEL) if c in table.obs), None)
        if name is None:
            raise LabelError(
                "A goal or a start needs classes, and these cells have none.",
                mend="Classify the cells first (stplm.predict), or name an obs column (states=...).",
            )
        if name not in table.obs:
            raise LabelError(f"There is no obs column {name!r}.", expected=", ".join(map(str, table.obs.columns[:20])))
        column = table.obs[name]
    values = column.astype(object).to_numpy()
    return np.where(pd.isna(values), "", values.astype(str)).astype(object)


class Judge:
    """The few-shot head's opinion of cells whose counts and vectors were changed.

    Raises ModelError when the head was fitted on another model's vectors.
    """

    def __init__(self, classifier: Classifier, table: AnnData, fingerprint: str, known: int) -> None:
        from stplm.tasks.cells import table_columns

        if (fitted := classifier.info.get("embedding")) and fitted != fingerprint:
            raise ModelError(
                "The classifier was fitted on another model's vectors.",
                found=str(fitted)[:12],
                expected=fingerprint[:12],
                mend="Embed with this model and fit the classifier again.",
            )
        self.classifier, self.classes = classifier, list(classifier.classes)
        self.tumour_classes = list(classifier.tumour_classes)
        self._genes, self._share = table_columns(table), known / max(table.n_vars, 1)

    def __call__(self, vectors: Floats, counts: csr_matrix) -> tuple[Floats, Floats]:
        """Class probabilities (n, k) and tumour probabilities (n,) of cells with counts (n, n_genes)."""
        return self.classifier.outputs(self._features(vectors, counts))

    def logits(self, vectors: Floats, counts: csr_matrix) -> NDArray[np.float64]:
        """Class logits (n, k) of such cells, as :meth:`Classifier.logits` gives them."""
        return self.classifier.logits(self._features(vectors, counts))

    def _features(self, vectors: Floats, counts: csr_matrix) -> Features:
        return count_features(counts, self._genes, vectors, self._share)


class Seen:
    """What a head sees of a variant: its own vector; of a gene-token model, mixed with its neighbours' as they are.

    ``own``: own vectors of all cells that a selected cell has near it, rows found by ``row`` (n_cells,).
    """

    def __init__(self, encoder: Encoder, cells: Cells, own: Floats, row: NDArray[np.int64]) -> None:
        self._encoder, self._cells, self._own, self._row = encoder, cells, own, row

    @classmethod
    def of(
        cls,
        encoder: Encoder,
        cells: Cells,
        chosen: NDArray[np.int64],
        own_of: Callable[[NDArray[np.int64]], Floats],
    ) -> Seen:
        """For variants of the ``chosen`` cells; ``own_of`` gives own vectors (n, own_width) of cells."""
        assert cells.neighbours is not None
        near = np.unique(cells.neighbours[chosen]).astype(np.int64)
        row = np.full(len(cells), -1, dtype=np.int64)
        row[near] = np.arange(len(near))
        return cls(encoder, cells, own_of(near), row)

    @staticmethod
    def is_mixed(encoder: Encoder, cells: Cells) -> bool:
        """Whether neighbours are mixed into the very vector that a head sees."""
        return encoder.config.dim == encoder.config.own_width and cells.xy is not None

    def __call__(self, own: Floats, which: NDArray[np.int64]) -> Floats:
        """(n, own_width) of variants with vectors ``own`` of the cells ``which``."""
        import torch

        from stplm.nn.encoder import Surroundings

        cells, device = self._cells, next(self._encoder.parameters()).device
        assert cells.neighbours is not None
        assert cells.weights is not None
        assert cells.distances is not None
        first = len(self._own)
        around = Surroundings(
            torch.arange(first, first + len(which), device=device),
            torch.as_tensor(np.maximum(self._row[cells.neighbours[which]], 0), device=device),
            torch.as_tensor(cells.weights[which], device=device),
            torch.as_tensor(cells.distances[which], device=device),
            torch.zeros((len(which), 2), device=device),
        )
        with torch.inference_mode():
            table = torch.from_numpy(np.concatenate([self._own, own])).to(device)
            return to_numpy(self._encoder.in_tissue(table, self._encoder.shared(table), around))
