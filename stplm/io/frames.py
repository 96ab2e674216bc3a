"""The tables of a Xenium bundle, as Parquet or as (compressed) CSV: whichever of the two is there."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stplm.errors import SectionError
from stplm.io.validate import reason

if TYPE_CHECKING:
    import pandas as pd

ENDINGS = (".parquet", ".csv.gz", ".csv")


def find_frame(folder: Path, stem: str) -> Path | None:
    """``stem`` + .parquet, .csv.gz or .csv in the folder, the first that is there, or None."""
    return next((folder / f"{stem}{end}" for end in ENDINGS if (folder / f"{stem}{end}").is_file()), None)


def read_frame(path: Path, required: Sequence[str], *, only_required: bool = False) -> pd.DataFrame:
    """Read a Parquet or CSV file with the columns ``required``; text is str, and ``cell_id`` always is.

    Raises
    ------
    SectionError
        The file is truncated or damaged, lacks a column, or has no rows.
    """
    import pandas as pd
    import pyarrow.lib
    import pyarrow.parquet as pq

    try:
        if path.suffix == ".parquet":
            # Opened by us, not by name: a column "index" or a partition-like folder name must not change what is read.
            with path.open("rb") as file:
                names = pq.read_schema(file).names
            _require(path, names, required)
            frame = pd.read_parquet(path, columns=list(required) if only_required else None)
        else:
            names = pd.read_csv(path, nrows=0).columns.tolist()
            _require(path, names, required)
            frame = pd.read_csv(
                path, dtype={"cell_id": str}, usecols=list(required) if only_required else None, low_memory=False
            )
    except PermissionError:
        raise
    except (pyarrow.lib.ArrowException, OSError, EOFError, zlib.error, ValueError) as error:
        raise SectionError(
            f"The file {path.name} is truncated or damaged.",
            where=path,
            found=f"{path.stat().st_size:,} bytes; {reason(error)}",
            expected="a complete Parquet file" if path.suffix == ".parquet" else "a complete CSV file",
            mend="Copy or download it again and compare its size with the original.",
        ) from error
    if not len(frame):
        raise SectionError(f"The file {path.name} is empty.", where=path, found="0 rows", expected="a row per cell")
    for name in frame.columns:
        if frame[name].dtype == object and len(frame) and isinstance(frame[name].iloc[0], bytes):
            frame[name] = frame[name].str.decode("utf-8")
    if "cell_id" in frame:
        frame["cell_id"] = frame["cell_id"].astype(str)
    return frame


def _require(path: Path, names: Sequence[str], required: Sequence[str]) -> None:
    missing = [name for name in required if name not in names]
    if missing:
        raise SectionError(
            f"The file {path.name} lacks the column{'s' if len(missing) > 1 else ''} {', '.join(missing)}.",
            where=path,
            found=f"the columns {', '.join(map(str, names))}",
            expected=f"the columns {', '.join(required)}",
        )


def require_numbers(frame: pd.DataFrame, columns: Sequence[str], path: Path) -> None:
    """Raise SectionError unless the columns hold numbers (NaN is looked for elsewhere)."""
    for name in columns:
        if not np.issubdtype(frame[name].to_numpy().dtype, np.number):
            raise SectionError(
                f"The column {name} of {path.name} does not hold numbers.",
                where=path,
                found=f"values like {frame[name].iloc[0]!r}",
                expected="numbers",
            )
