"""Transcripts: of a bundle that spatialdata-io cannot read, as points; and those of a few genes in a window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stplm import keys
from stplm.errors import SectionError
from stplm.io.frames import find_frame, read_frame, require_numbers
from stplm.io.validate import reason
from stplm.progress import Progress, no_progress

if TYPE_CHECKING:
    import dask.dataframe as dd
    from numpy.typing import NDArray

_ROWS = 1_000_000
"""A partition: about 100 MB."""
_BATCH = 262_144
_PLACE = ("feature_name", "x_location", "y_location")
MIN_QV = 20.0
"""The instrument's own cut: one transcript in a hundred called wrongly."""
MOST = 200_000
"""Points that a canvas still moves smoothly."""
_MOST_READ = 10
"""Reading ends at this many times as many as are returned."""


def read_transcripts(path: Path, pixel_size: float) -> dd.DataFrame:
    """Transcripts with x, y, z in µm as a points element. Read into memory. Raises SectionError."""
    import dask.dataframe as dd
    from spatialdata.models import PointsModel
    from spatialdata.transformations import Identity, Scale

    frame = read_frame(path, ["feature_name", "x_location", "y_location"])
    require_numbers(frame, ["x_location", "y_location"], path)
    frame["feature_name"] = frame["feature_name"].astype("category")
    coordinates = {axis: f"{axis}_location" for axis in "xyz" if f"{axis}_location" in frame}
    keywords: dict[str, Any] = {"instance_key": keys.CELL_ID} if keys.CELL_ID in frame else {}
    points: dd.DataFrame = PointsModel.parse(
        dd.from_pandas(frame, npartitions=1 + len(frame) // _ROWS),
        coordinates=coordinates,
        feature_key="feature_name",
        transformations={
            keys.PIXELS: Scale([1 / pixel_size, 1 / pixel_size], axes=("x", "y")),
            keys.MICRONS: Identity(),
        },
        **keywords,
    )
    return points


@dataclass(frozen=True)
class TranscriptsFound:
    """Transcripts in a window: ``xy_um`` (n, 2) x, y in µm; ``gene`` (n,) index into the genes asked for.

    ``n_found`` is how many there are, or at least so many; ``groups_read`` of ``groups`` row groups were read.
    """

    xy_um: NDArray[np.float32]
    gene: NDArray[np.int16]
    n_found: int
    groups_read: int
    groups: int


def transcripts_file(bundle: Path) -> Path | None:
    """The Parquet file of a bundle's transcripts; None where there is none. CSV cannot be read in parts."""
    found = find_frame(bundle, keys.TRANSCRIPTS) if bundle.is_dir() else None
    return found if found is not None and found.suffix == ".parquet" else None


def transcripts_in_view(
    path: Path,
    genes: Sequence[str],
    window_um: tuple[float, float, float, float],
    *,
    min_qv: float = MIN_QV,
    most: int = MOST,
    progress: Progress = no_progress,
) -> TranscriptsFound:
    """Transcripts of a few genes in a rectangle, reading only those row groups of the file that may lie in it.

    Parameters
    ----------
    path
        A bundle's ``transcripts.parquet``. Where its row groups have no statistics of x and y, all are read.
    genes
        Their names in the column ``feature_name``.
    window_um
        Lowest x, lowest y, highest x, highest y in µm.
    min_qv
        Quality value (Phred scale) from which a transcript counts; the instrument's own cut is 20.
    most
        Transcripts to return; of more, evenly spaced ones.
    progress
        ``progress(row groups done, all)``; a callback cancels by raising Cancelled.

    Raises
    ------
    SectionError
        The file is damaged, or lacks a column.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    x0, y0, x1, y1 = (float(v) for v in window_um)
    try:
        with path.open("rb") as handle, pq.ParquetFile(handle) as file:
            columns = [c for c in (*_PLACE, "qv") if c in file.schema_arrow.names]
            missing = [c for c in _PLACE if c not in columns]
            if missing:
                raise SectionError(
                    f"The file {path.name} lacks the column{'s' if len(missing) > 1 else ''} {', '.join(missing)}.",
                    where=path,
                    found=f"the columns {', '.join(file.schema_arrow.names)}",
                )
            wanted = pa.array(list(genes), pa.string())
            groups = [i for i in range(file.num_row_groups) if _may_meet(file.metadata.row_group(i), x0, y0, x1, y1)]
            xy, gene, n = [np.zeros((0, 2), np.float32)], [np.zeros(0, np.int16)], 0
            for done, group in enumerate(groups):
                progress(done, len(groups))
                for part in file.iter_batches(_BATCH, row_groups=[group], columns=columns):
                    x, y = part["x_location"], part["y_location"]
                    inside = pc.and_(_between(x, x0, x1), _between(y, y0, y1))
                    if "qv" in columns:
                        inside = pc.and_(inside, pc.greater_equal(part["qv"], min_qv))
                    part = part.filter(inside)
                    which = pc.index_in(_as_text(part["feature_name"]), value_set=wanted)
                    known = pc.is_valid(which)
                    part, which = part.filter(known), which.filter(known)
                    xy.append(np.c_[part["x_location"].to_numpy(), part["y_location"].to_numpy()].astype(np.float32))
                    gene.append(which.to_numpy().astype(np.int16))
                    n += len(which)
                if n > _MOST_READ * most:
                    break
            n_groups = file.num_row_groups
    except PermissionError:
        raise
    except (pa.lib.ArrowException, OSError, EOFError) as error:
        raise SectionError(
            f"The file {path.name} is truncated or damaged.",
            where=path,
            found=reason(error),
            expected="a complete Parquet file",
            mend="Copy or download it again and compare its size with the original.",
        ) from error
    # Evenly thinned, for the first ones of a file lie in one corner.
    kept = np.linspace(0, n - 1, most).astype(np.int64) if n > most else slice(None)
    return TranscriptsFound(np.concatenate(xy)[kept], np.concatenate(gene)[kept], n, len(groups), n_groups)


def _between(values: Any, lo: float, hi: float) -> Any:
    import pyarrow.compute as pc

    return pc.and_(pc.greater_equal(values, lo), pc.less_equal(values, hi))


def _as_text(names: Any) -> Any:
    """Older bundles hold names as bytes, and some files as dictionaries."""
    import pyarrow as pa

    return names if pa.types.is_string(names.type) else names.cast(pa.string())


def _may_meet(group: Any, x0: float, y0: float, x1: float, y1: float) -> bool:
    """Whether a row group's statistics allow rows in the window; True where it has none."""
    for i in range(group.num_columns):
        column = group.column(i)
        lo, hi = {"x_location": (x0, x1), "y_location": (y0, y1)}.get(column.path_in_schema, (None, None))
        known = column.statistics if lo is not None else None
        if known is not None and known.has_min_max and (known.max < lo or known.min > hi):
            return False
    return True
