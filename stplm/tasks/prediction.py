"""What a classifier says of every cell, written into the cell table in one place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stplm import keys
from stplm.tasks.classifier_scores import most_probable

if TYPE_CHECKING:
    from anndata import AnnData


def write_prediction(
    table: AnnData,
    classes: Sequence[str],
    proba: NDArray[np.floating],
    tumour: NDArray[np.floating],
    empty: NDArray[np.bool_],
    note: Mapping[str, Any],
    *,
    unknown: NDArray[np.float32] | None = None,
) -> None:
    """Write class, confidence, tumour probability, unknown score and provenance.

    Parameters
    ----------
    classes, proba
        Names (n_classes,) and probabilities (n_cells, n_classes).
    tumour
        (n_cells,) probability of tumour.
    empty
        (n_cells,) cells without counts: they get no class.
    note
        Plain values for ``uns["stplm"]["prediction"]``.
    unknown
        (n_cells,) where the classifier has such a score; one of another classifier is taken out.
    """
    codes, confidence, called = calls(proba, tumour, empty)
    table.obs[keys.CLASS] = pd.Categorical.from_codes(codes, pd.Index(list(classes)))
    table.obs[keys.CONFIDENCE] = confidence
    table.obs[keys.TUMOUR] = called
    if unknown is not None:
        table.obs[keys.UNKNOWN] = unknown
    elif keys.UNKNOWN in table.obs:
        del table.obs[keys.UNKNOWN]
    table.obsm[keys.PROBA] = np.asarray(proba, dtype=np.float32)
    table.uns.setdefault(keys.UNS, {})[keys.UNS_PREDICTION] = dict(note)


def calls(
    proba: NDArray[np.floating], tumour: NDArray[np.floating], empty: NDArray[np.bool_]
) -> tuple[NDArray[np.int16], NDArray[np.float32], NDArray[np.float32]]:
    """Class (its number, -1 for none), confidence and tumour probability of each cell, all (n_cells,)."""
    codes, confidence = most_probable(np.asarray(proba, dtype=np.float32))
    codes[empty], confidence[empty] = -1, 0
    # Without counts there is no evidence: a share of the section must not pass for a call.
    return codes, confidence, np.where(empty, np.float32(np.nan), tumour).astype(np.float32)
