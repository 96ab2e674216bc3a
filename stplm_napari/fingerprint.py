"""Telling one section from another, wherever it lies: by samples of its files, and by its cells. No Qt."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stplm import keys

if TYPE_CHECKING:
    from anndata import AnnData

_SAMPLE = 64 * 1024
_TELLING = (
    "experiment.xenium",
    "cell_feature_matrix.h5",
    "cells.parquet",
    "cells.csv.gz",
    "cells.zarr.zip",
    "zarr.json",
    ".zmetadata",
    ".zattrs",
)


def files_fingerprint(path: str | Path) -> str:
    """SHA-256 of name and size of the files that tell a section, and of the first and last 64 kB of each.

    The same for a copy in another place; read in milliseconds however large the section is. "" where nothing is there.
    """
    path = Path(path)
    files = [path / name for name in _TELLING if (path / name).is_file()] if path.is_dir() else [path]
    digest = hashlib.sha256()
    try:
        for file in files:
            size = file.stat().st_size
            digest.update(f"{file.name if path.is_dir() else ''} {size}\n".encode())
            with file.open("rb") as handle:
                digest.update(handle.read(_SAMPLE))
                handle.seek(max(0, size - _SAMPLE))
                digest.update(handle.read(_SAMPLE))
    except OSError:
        return ""
    return digest.hexdigest() if files else ""


def cells_fingerprint(table: AnnData) -> str:
    """SHA-256 of the cells' ids in their order, the genes and the number of counts: what results depend on."""
    digest = hashlib.sha256()
    for names in (table.obs_names, table.var_names):
        digest.update("\n".join(names).encode())
        digest.update(b"\0")
    if keys.N_COUNTS in table.obs:
        digest.update(np.ascontiguousarray(table.obs[keys.N_COUNTS].to_numpy(np.int64)).tobytes())
    return digest.hexdigest()
