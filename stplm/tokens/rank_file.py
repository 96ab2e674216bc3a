"""Rank encoding of a cell table that stays on the disk, into a folder of tokens: memory holds a stretch of cells."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd

from stplm.io.staged import staged_folder
from stplm.io.table_file import ROWS, TableFile
from stplm.progress import Progress, no_progress
from stplm.tokens.encoded import ABOUT, FORMAT, RankTokens
from stplm.tokens.rank import rank_encode


def rank_encode_file(
    path: str | Path,
    folder: str | Path,
    *,
    medians: str | Path | Mapping[str, float] | pd.Series | None = None,
    mode: str = "stplm",
    progress: Progress = no_progress,
) -> RankTokens:
    """Encode the cells of an ``.h5ad`` (:class:`stplm.io.table_file.TableFile`); gives the tokens, mapped into memory.

    The folder holds what ``rank_encode(table, medians=medians, mode=mode).save(folder)`` writes, byte by byte. Progress
    counts cells. Raises GeneError and SectionError as :func:`stplm.rank_encode`, ExportError as ``save``.
    """
    from anndata import AnnData

    with TableFile(path) as table, staged_folder(folder, mark=ABOUT) as part:
        part.mkdir()
        rows = tokens = 0
        with ExitStack() as stack:
            arrays = {n: stack.enter_context(_Array(part / f"{n}.npy")) for n in ("ids", "bins", "offsets", "cells")}
            arrays["offsets"].append(np.zeros(1, dtype=np.int64))
            for start in range(0, table.n_obs, ROWS):
                progress(start, table.n_obs)
                cells = AnnData(table.counts[start : start + ROWS], var=table.var)
                found = rank_encode(cells, medians=medians, mode=mode)
                arrays["ids"].append(found.ids)
                arrays["bins"].append(found.bins)
                arrays["offsets"].append(found.offsets[1:] + tokens)
                arrays["cells"].append(found.cells + np.int32(start))
                rows, tokens = rows + len(found), tokens + len(found.ids)
        about = {"format": FORMAT, "vocabulary": found.vocabulary, "pad": found.pad, "rows": rows}
        (part / ABOUT).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
        progress(table.n_obs, table.n_obs)
    return RankTokens.load(folder)


class _Array:
    """A one-dimensional ``.npy`` file that grows: its header leaves room for any length."""

    def __init__(self, path: Path) -> None:
        self._path, self._length = path, 0
        self._kind: np.dtype[Any] = np.dtype(np.int64)

    def __enter__(self) -> _Array:
        self._file: BinaryIO = self._path.open("wb+")
        self._write_header()
        return self

    def append(self, values: np.ndarray) -> None:
        self._kind, self._length = values.dtype, self._length + len(values)
        self._file.write(values.tobytes())

    def __exit__(self, *_: object) -> None:
        self._file.seek(0)
        self._write_header()
        self._file.close()

    def _write_header(self) -> None:
        about = {"descr": np.lib.format.dtype_to_descr(self._kind), "fortran_order": False, "shape": (self._length,)}
        np.lib.format.write_array_header_1_0(self._file, about)
