"""What makes counts counts, ids ids and positions micrometres. Each check raises an error that says how to mend it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from stplm.errors import SectionError

# Median distance from a cell to its nearest neighbour, in µm. Measured: 7 (dense breast tumour), 11 (a whole breast
# region), 16 (bone marrow); 13 to 174 in random subsamples of 20 % down to 0.1 % of those sections.
NEAREST_TOO_CLOSE = 2.0
NEAREST_TOO_FAR = 1000.0
NEAREST_SPARSE = 100.0
# Dense tissue seen through pixels of 0.2125 µm: neighbours are far apart and yet evenly spaced (a subsample of a
# section is far apart too, but keeps some close pairs: the 1st percentile stays under 0.35 of the median).
PIXEL_MEDIAN = 28.0
PIXEL_CLOSEST = 11.5
PIXEL_EVENNESS = (0.38, 0.8)
PIXEL_CELLS = 500
FEWEST_CELLS = 50
"""Under so many cells their distances say nothing about the unit."""


def reason(error: Exception) -> str:
    """The first line of another library's error, or its type where it says nothing."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def check_counts(values: NDArray[Any], where: str | Path) -> NDArray[np.int32]:
    """Matrix values as int32 counts (same shape). Raises SectionError for NaN, negative, fractional or huge values."""
    array = np.asarray(values)
    if array.dtype == bool:
        return array.astype(np.int32)
    if not np.issubdtype(array.dtype, np.number):
        raise SectionError(
            "The matrix does not hold numbers.", where=where, found=f"values of type {array.dtype}", expected="counts"
        )
    if array.size == 0:
        return array.astype(np.int32)
    if np.issubdtype(array.dtype, np.inexact) and not np.isfinite(array).all():
        raise SectionError(
            "The matrix has missing values.",
            where=where,
            found=f"{np.count_nonzero(~np.isfinite(array)):,} values that are NaN or infinite",
            expected="a count (0, 1, 2, ...) for every cell and gene",
            mend="Open the raw count matrix instead of a processed one.",
        )
    low, high = array.min(), array.max()
    if low < 0:
        raise SectionError(
            "The matrix does not hold counts: it has negative values, as scaled (z-scored) data has.",
            where=where,
            found=f"values from {low:.4g} to {high:.4g}",
            expected="integer counts, 0 and up",
            mend='Open the raw counts, or store them in the file as layers["counts"].',
        )
    if np.issubdtype(array.dtype, np.inexact) and not np.array_equal(array, np.rint(array)):
        fractional = array[array != np.rint(array)]
        raise SectionError(
            f"The matrix does not hold counts{_guess_processing(high)}.",
            where=where,
            found=f"{fractional.size / array.size:.0%} of the values are not integers, e.g. "
            + ", ".join(f"{v:.4g}" for v in fractional[:3]),
            expected="integer counts",
            mend='Open the raw counts, or store them in the file as layers["counts"].',
        )
    if high > np.iinfo(np.int32).max:
        raise SectionError("The counts are too large.", where=where, found=f"a count of {high:.4g}")
    return array.astype(np.int32, copy=False)


def _guess_processing(high: float) -> str:
    return ": it looks log-normalised" if high < 20 else ": it looks normalised"


def is_counts(values: NDArray[Any]) -> bool:
    """Whether the values pass :func:`check_counts`."""
    try:
        check_counts(values, "")
    except SectionError:
        return False
    return True


def counts_csr(matrix: object, where: str | Path) -> sparse.csr_matrix:
    """Any matrix (cells × genes) as canonical int32 CSR: sorted indices, no stored zeros. Raises SectionError."""
    if sparse.issparse(matrix):
        csr = sparse.csr_matrix(matrix)
    elif isinstance(matrix, np.ndarray):
        check_counts(matrix, where)
        csr = sparse.csr_matrix(matrix)
    else:
        raise SectionError(
            "The counts are stored in a form that cannot be read.",
            where=where,
            found=type(matrix).__name__,
            expected="a dense or sparse matrix in memory",
            mend="Load the data into memory first (adata.to_memory()).",
        )
    data = check_counts(csr.data, where)
    if data is csr.data and csr.has_canonical_format and not (data == 0).any():
        return csr
    result = sparse.csr_matrix((data.copy(), csr.indices.copy(), csr.indptr.copy()), shape=csr.shape)
    result.sum_duplicates()
    result.eliminate_zeros()
    return result


def check_cell_ids(ids: ArrayLike, where: str | Path) -> NDArray[np.str_]:
    """Cell ids as an array of strings. Raises SectionError when one is empty or occurs twice."""
    array = np.asarray(ids).astype(str)
    if array.size == 0:
        raise SectionError("There are no cells.", where=where, found="0 cells", expected="at least one cell")
    letters = np.ascontiguousarray(array).view(np.uint32).reshape(array.size, -1)  # numpy's own comparison is slow
    if (empty := np.count_nonzero(letters[:, 0] == 0)) > 0:
        raise SectionError("Some cells have no id.", where=where, found=f"{empty:,} empty ids", expected="an id each")
    if _all_different(letters):
        return array
    unique, counts = np.unique(array, return_counts=True)
    if unique.size != array.size:
        twice = unique[counts > 1]
        raise SectionError(
            "Cell ids are not unique.",
            where=where,
            found=f"{twice.size:,} ids occur more than once, e.g. {', '.join(twice[:3])}",
            expected="each cell id once",
            mend="If sections were joined in one file, give each its own prefix, or open them one by one.",
        )
    return array


def _all_different(letters: NDArray[np.uint32]) -> bool:
    """Whether rows (n, width) surely differ, told by a hash of each; False where two hashes are equal."""
    factors = np.random.default_rng(0).integers(1, 2**63, (letters.shape[1],), dtype=np.uint64)
    hashed = np.zeros(len(letters), dtype=np.uint64)
    for column in range(letters.shape[1]):
        hashed = (hashed ^ letters[:, column]) * (factors[column] | np.uint64(1))
        hashed ^= hashed >> np.uint64(29)
    hashed.sort()
    return bool((hashed[1:] != hashed[:-1]).all())


def check_positions(
    xy: ArrayLike, where: str | Path, *, unit_declared: bool = False
) -> tuple[NDArray[np.float64], list[str]]:
    """Positions (n_cells, 2) as float64, checked to be µm, and warnings for the user.

    Whether numbers are µm is told from the distance between nearest neighbours: cells are some µm across. Sparse
    sections and random subsamples pass (see the figures at the top of this module), and so does a source that
    declares its unit.

    Raises
    ------
    SectionError
        Positions are missing (NaN), all the same, or evidently in pixels, mm, nm or scaled to an interval.
    """
    array = np.array(xy, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] < 2:
        raise SectionError(
            "Cell positions have the wrong shape.", where=where, found=f"shape {array.shape}", expected="(cells, 2)"
        )
    array = np.ascontiguousarray(array[:, :2])
    if (bad := np.count_nonzero(~np.isfinite(array).all(axis=1))) > 0:
        raise SectionError(
            "Some cells have no position.",
            where=where,
            found=f"{bad:,} of {len(array):,} cells with a missing (NaN) or infinite coordinate",
            expected="x and y in µm for every cell",
            mend="Remove these cells from the file, or export it again.",
        )
    if len(array) < FEWEST_CELLS or unit_declared:
        return array, []
    nearest = nearest_distances(array)
    closest, median = float(np.percentile(nearest, 1)), float(np.median(nearest))
    found = f"neighbouring cells {median:.3g} apart (median), x from {array[:, 0].min():.6g} to {array[:, 0].max():.6g}"
    if median < NEAREST_TOO_CLOSE:
        raise _not_microns("they are too close together. They may be mm, or scaled", where, found)
    if median > NEAREST_TOO_FAR:
        raise _not_microns("they are too far apart. They may be nm", where, found)
    evenness = closest / median
    if (
        len(array) >= PIXEL_CELLS
        and median > PIXEL_MEDIAN
        and closest > PIXEL_CLOSEST
        and PIXEL_EVENNESS[0] < evenness < PIXEL_EVENNESS[1]
    ):
        raise _not_microns("cells are packed evenly but far apart, as in pixels of 0.2125 µm", where, found)
    if median > NEAREST_SPARSE:
        return array, [f"Cells are far apart ({median:.0f} µm): neighbourhoods will hold few of them."]
    return array, []


def _not_microns(why: str, where: str | Path, found: str) -> SectionError:
    return SectionError(
        f"Cell positions are not in µm: {why}.",
        where=where,
        found=found,
        expected="positions in µm, where neighbouring cells are 3 to 60 µm apart",
        mend="Convert them to µm (pixels × pixel size, mm × 1000) and open the file again. If they are µm, say so "
        'in the h5ad: adata.uns["spatial_unit"] = "um".',
    )


def nearest_distances(xy: NDArray[np.float64], sample: int = 20_000) -> NDArray[np.float64]:
    """Distance of each of at most ``sample`` evenly chosen cells to its nearest other cell, in the unit of ``xy``."""
    from scipy.spatial import cKDTree

    step = max(1, len(xy) // sample)
    distances: NDArray[np.float64] = cKDTree(xy).query(xy[::step], k=2)[0]
    return distances[:, 1]


def check_frame(
    xy: NDArray[np.float64], low: ArrayLike, high: ArrayLike, where: str | Path, frame: str, pixel_size: float
) -> None:
    """Raise SectionError unless nearly all positions (µm) lie in the box from ``low`` to ``high`` (µm) and fill it.

    ``frame`` says in words what the box is, e.g. "the image". A bundle whose positions are in pixels, mm or scaled
    fails here whatever its density.
    """
    low, high = np.asarray(low, dtype=float), np.asarray(high, dtype=float)
    slack = 0.02 * (high - low) + 20.0
    inside = ((xy >= low - slack) & (xy <= high + slack)).all(axis=1).mean()
    spread = (np.percentile(xy, 99, axis=0) - np.percentile(xy, 1, axis=0)) / np.maximum(high - low, 1e-9)
    if inside >= 0.95 and (len(xy) < FEWEST_CELLS or spread.max() > 0.02):
        return
    as_pixels = ((xy * pixel_size >= low - slack) & (xy * pixel_size <= high + slack)).all(axis=1).mean()
    guess = " They look like pixels." if inside < 0.95 and as_pixels >= 0.95 else ""
    raise SectionError(
        f"Cell positions are not in µm: they do not fit {frame}.{guess}",
        where=where,
        found=f"x from {xy[:, 0].min():.6g} to {xy[:, 0].max():.6g}, y from {xy[:, 1].min():.6g} to "
        f"{xy[:, 1].max():.6g}; {inside:.0%} of the cells inside",
        expected=f"x within {low[0]:.0f} to {high[0]:.0f} µm, y within {low[1]:.0f} to {high[1]:.0f} µm ({frame})",
        mend="Restore the cells file that the instrument wrote, or convert its positions to µm.",
    )
