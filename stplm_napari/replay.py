"""What an exported script calls besides :mod:`stplm_napari.tasks`: labels from a file, labels put in. No Qt."""

from __future__ import annotations

import json
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


def regions_from(path: str | Path) -> list[dict[str, Any]]:
    """Regions from the JSON file beside a script."""
    found: list[dict[str, Any]] = json.loads(Path(path).read_text(encoding="utf-8"))
    return found


def put_labels(table: AnnData, labels: Mapping[str, Sequence[str]], classes: Sequence[Mapping[str, Any]]) -> None:
    """Write the labels as ``obs["stplm_label"]``, with the colours of the classes where scanpy looks for them."""
    names = [str(c["name"]) for c in classes] + [n for n in labels if n not in {c["name"] for c in classes}]
    codes = np.full(table.n_obs, -1)
    for name, cells in labels.items():
        codes[table.obs_names.get_indexer(np.array(cells, object))] = names.index(name)
    table.obs[keys.LABEL] = pd.Categorical.from_codes(codes, pd.Index(names))
    colours = {str(c["name"]): str(c["colour"]) for c in classes}
    table.uns[f"{keys.LABEL}_colors"] = [colours.get(name, "#9A9A9A") for name in names]


def put_column(table: AnnData, path: str | Path, name: str, classes: Mapping[str, str]) -> None:
    """Write the groups of a cell groups file as a categorical column of obs; ``classes`` renames them, "" leaves out.

    Raises
    ------
    LabelError
        The name is taken by what the section came with, or none of the cells is in the section.
    """
    from stplm.errors import LabelError
    from stplm.io.exchange import read_exchange

    cells = read_exchange(path).cells
    known = None if cells is None else cells[cells.index.isin(table.obs_names)]
    if known is None or not len(known):
        raise LabelError("None of the cells in the file is in this section.", where=path)
    if name.startswith("stplm_") or name in (keys.CELL_ID, keys.LABEL_VALUE, keys.REGION, keys.N_COUNTS, keys.N_GENES):
        raise LabelError(f"A column cannot be called {name!r}.", mend="Choose another name.")
    values = known.map(lambda group: classes.get(str(group), str(group)))
    values = values[values != ""]
    table.obs[name] = pd.Categorical(values.reindex(table.obs_names), categories=list(dict.fromkeys(values)))
