"""What a task adds to a cell table, apart from the table: to carry between threads and processes and put in whole.

A task works on a :func:`snapshot`; what it added is taken out and put into the section's own table by the GUI thread,
in one go. A task that fails or is cancelled has therefore touched nothing. No Qt.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from stplm import keys

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray
    from spatialdata import SpatialData

_META, _ARRAYS = "result.json", "result.npz"


@dataclass(frozen=True)
class Result:
    """Columns of obs, arrays of obsm and entries of ``uns["stplm"]``."""

    obs: Mapping[str, pd.Series] = field(default_factory=dict)
    obsm: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    uns: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def embedding_of(cls, table: AnnData) -> Result:
        """What ``stplm.embed`` wrote."""
        return cls.of(table, [keys.CLUSTER], [keys.X_STPLM], [keys.UNS_EMBEDDING])

    @classmethod
    def map_of(cls, table: AnnData) -> Result:
        """What ``stplm.umap`` wrote."""
        return cls.of(table, [], [keys.UMAP], [keys.UNS_MAP])

    @classmethod
    def prediction_of(cls, table: AnnData) -> Result:
        """What ``stplm.predict`` wrote."""
        return cls.of(
            table, [keys.CLASS, keys.CONFIDENCE, keys.TUMOUR, keys.UNKNOWN], [keys.PROBA], [keys.UNS_PREDICTION]
        )

    @classmethod
    def of(cls, table: AnnData, obs: Iterable[str] = (), obsm: Iterable[str] = (), uns: Iterable[str] = ()) -> Result:
        """Those of the named parts that are there."""
        mine = table.uns.get(keys.UNS, {})
        return cls(
            {k: table.obs[k].copy() for k in obs if k in table.obs},
            {k: np.asarray(table.obsm[k]) for k in obsm if k in table.obsm},
            {k: deepcopy(mine[k]) for k in uns if k in mine},
        )

    def put_into(self, table: AnnData) -> None:
        """Add it all to a table with the same cells in the same order."""
        for name, column in self.obs.items():
            table.obs[name] = column.to_numpy() if column.dtype != "category" else column.array
        for name, array in self.obsm.items():
            table.obsm[name] = array
        table.uns[keys.UNS] = {**table.uns.get(keys.UNS, {}), **deepcopy(dict(self.uns))}

    def save(self, folder: Path) -> None:
        """Write it to a folder as JSON and arrays (no pickle); a mapped ``.npy`` that lies there stays as it is."""
        files = {k: name for k, v in self.obsm.items() if (name := _file_in(folder, v))}
        arrays: dict[str, Any] = {f"obsm:{k}": v for k, v in self.obsm.items() if k not in files}
        categories: dict[str, list[str]] = {}
        for name, column in self.obs.items():
            if column.dtype == "category":
                categories[name] = [str(c) for c in column.cat.categories]
                arrays[f"obs:{name}"] = column.cat.codes.to_numpy()
            else:
                arrays[f"obs:{name}"] = column.to_numpy()
        np.savez(folder / _ARRAYS, **arrays)
        meta = {"categories": categories, "uns": self.uns, "files": files}
        (folder / _META).write_text(json.dumps(meta, default=_plain))

    @classmethod
    def load(cls, folder: Path) -> Result:
        """Read what :meth:`save` wrote."""
        meta = json.loads((folder / _META).read_text())
        obs: dict[str, pd.Series] = {}
        obsm = {name: np.load(folder / file, allow_pickle=False) for name, file in meta["files"].items()}
        with np.load(folder / _ARRAYS, allow_pickle=False) as arrays:
            for key in arrays.files:
                kind, name = key.split(":", 1)
                if kind == "obsm":
                    obsm[name] = arrays[key]
                elif name in meta["categories"]:
                    obs[name] = pd.Series(pd.Categorical.from_codes(arrays[key], meta["categories"][name]))
                else:
                    obs[name] = pd.Series(arrays[key])
        return cls(obs, obsm, meta["uns"])


def snapshot(table: AnnData) -> AnnData:
    """A table that a task may add to: columns, arrays and entries. What is there already is shared, not copied."""
    import anndata

    # The ids are the table's: whether a million of them are unique is not looked up again.
    with anndata.settings.override(check_uniqueness=False):
        return anndata.AnnData(
            X=table.X,
            obs=table.obs.copy(deep=False),
            var=table.var.copy(deep=False),
            uns=deepcopy(dict(table.uns)),
            **{part: dict(getattr(table, part)) for part in ("obsm", "varm", "obsp", "varp", "layers")},
        )


def section_snapshot(section: SpatialData, table: AnnData) -> SpatialData:
    """The section around a :func:`snapshot` of its cells, so that what is written does not change meanwhile."""
    from spatialdata import SpatialData

    parts = {part: dict(getattr(section, part)) for part in ("images", "labels", "shapes", "points")}
    copy = SpatialData(**parts, tables={**section.tables, keys.TABLE: table}, attrs=dict(section.attrs))
    copy.path = section.path
    return copy


def _file_in(folder: Path, array: NDArray[Any]) -> str:
    """Name of the file of the folder that an array is the whole of, mapped into memory; "" where it is none."""
    if not isinstance(array, np.memmap) or isinstance(array.base, np.ndarray) or array.filename is None:
        return ""
    path = Path(array.filename)
    return path.name if path.parent == folder.resolve() else ""


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    return str(value)
