"""What an exported script calls besides :mod:`stplm_napari.tasks`: labels from a file, labels put in. No Qt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from stplm import keys

if TYPE_CHECKING:
    from anndata import AnnData


def labels_from(path: str | Path) -> dict[str, list[str]]:
    """``{class: [cell ids]}`` from the CSV beside a script, in its order. Raises LabelError."""
    from stplm.io.label_csv import read_label_csv

    given = read_label_csv(path)
    codes, names = pd.factorize(given)
    ids = given.index.to_numpy()
    return {str(name): ids[codes == i].tolist() for i, name in enumerate(names)}


def put_labels(table: AnnData, labels: Mapping[str, Sequence[str]], classes: Sequence[Mapping[str, Any]]) -> None:
    """Write the labels as ``obs["stplm_label"]``, with the colours of the classes where scanpy looks for them."""
    names = [str(c["name"]) for c in classes] + [n for n in labels if n not in {c["name"] for c in classes}]
    codes = np.full(table.n_obs, -1)
    for name, cells in labels.items():
        codes[table.obs_names.get_indexer(pd.Index(cells, dtype=object))] = names.index(name)
    table.obs[keys.LABEL] = pd.Categorical.from_codes(codes, names)
    colours = {str(c["name"]): str(c["colour"]) for c in classes}
    table.uns[f"{keys.LABEL}_colors"] = [colours.get(name, "#9A9A9A") for name in names]
