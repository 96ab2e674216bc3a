"""What other programs drew or chose: outlines, points and cells with their classes, read from any of their files.

One container for all of them, so that whoever takes it in need not know where it came from.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from stplm.errors import ExportError

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

Units = Literal["microns", "pixels"]
MICRONS: Units = "microns"
PIXELS: Units = "pixels"
UNKNOWN: Literal["unknown"] = "unknown"
REACH_UM = 10.0
"""A point names the cell whose centroid is nearest, up to this far: about the diameter of a cell."""
_NO_CLASS = frozenset({"", "unclassified", "unassigned", "none", "nan"})
_MOST_BYTES = 2 * 1024**3


@dataclass(frozen=True)
class Outline:
    """A drawn region.

    ``rings`` are (n, 2) x, y, not closed, under the even-odd rule: holes and several parts are rings too. ``group`` is
    its class, ``colour`` that class's "#RRGGBB"; "" where the file names none.
    """

    name: str
    rings: tuple[NDArray[np.float64], ...]
    group: str = ""
    colour: str = ""
    note: str = ""


@dataclass(frozen=True)
class Exchange:
    """What a file holds.

    Attributes
    ----------
    source
        Which kind of file it is, in words.
    units
        Of outlines and points: "microns", "pixels", or "unknown" where the file does not say.
    outlines
        Drawn regions.
    points, point_groups, point_names
        (n, 2) x, y, and class and name of each: points, and middles of cells that another program segmented.
    cells
        Classes by cell id, where the file names cells; else empty.
    colours
        ``{class: "#RRGGBB"}`` as the file has them.
    from_qupath
        Whether QuPath wrote it, which always writes pixels.
    notes
        What was left out, in words.
    """

    source: str
    units: Units | Literal["unknown"] = UNKNOWN
    outlines: tuple[Outline, ...] = ()
    points: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 2)))
    point_groups: tuple[str, ...] = ()
    point_names: tuple[str, ...] = ()
    cells: pd.Series | None = None
    colours: Mapping[str, str] = field(default_factory=dict)
    from_qupath: bool = False
    notes: tuple[str, ...] = ()

    @property
    def n_cells(self) -> int:
        """Cells that it names."""
        return 0 if self.cells is None else len(self.cells)

    @property
    def groups(self) -> tuple[str, ...]:
        """Every class in it, in the order they come."""
        named = [o.group for o in self.outlines] + list(self.point_groups)
        named += [] if self.cells is None else [str(g) for g in self.cells.unique()]
        return tuple(dict.fromkeys(g for g in named if g))

    def places(self) -> NDArray[np.float64]:
        """(n, 2) every corner and point."""
        rings = [ring for outline in self.outlines for ring in outline.rings]
        return np.concatenate([*rings, self.points]) if rings else self.points

    def moved(self, matrix: NDArray[np.floating], units: Units) -> Exchange:
        """The same through a (3, 3) affine matrix."""
        outlines = tuple(replace(o, rings=tuple(moved(ring, matrix) for ring in o.rings)) for o in self.outlines)
        return replace(self, outlines=outlines, points=moved(self.points, matrix), units=units)


def read_exchange(path: str | Path) -> Exchange:
    """Read what another program drew or chose.

    Parameters
    ----------
    path
        A CSV of Xenium Explorer (selection coordinates, cells of a selection, cell groups; :mod:`stplm.io.selections`)
        or a GeoJSON of QuPath, Xenium Explorer or others (:mod:`stplm.io.region_geojson`); told by what is in it.

    Raises
    ------
    ExportError
        The file cannot be read, or is none of these.
    """
    from stplm.io.region_geojson import parse_geojson
    from stplm.io.selections import parse_csv

    path = Path(path)
    text = _text(path)
    parse = parse_geojson if text.lstrip()[:1] in ("{", "[") else parse_csv
    return parse(text, path)


def check_outlines(outlines: Sequence[Outline]) -> None:
    """Raise ExportError where there is nothing to write."""
    if not outlines:
        raise ExportError("There are no regions to write.", mend="Draw a region in the Annotate dock first.")


def point_rows(table: AnnData, points_um: NDArray[np.floating], reach_um: float = REACH_UM) -> NDArray[np.int64]:
    """(n,) row of the cell whose centroid is nearest to each point (n, 2) in µm; -1 where none is within reach."""
    from scipy.spatial import cKDTree

    from stplm import keys

    rows = np.full(len(points_um), -1, np.int64)
    if not len(points_um) or keys.SPATIAL not in table.obsm:
        return rows
    xy = np.asarray(table.obsm[keys.SPATIAL], np.float64)[:, :2]
    placed = np.flatnonzero(np.isfinite(xy).all(axis=1))
    if len(placed):
        distance, at = cKDTree(xy[placed]).query(np.asarray(points_um, np.float64))
        rows = np.where(distance <= reach_um, placed[np.minimum(at, len(placed) - 1)], -1)
    return rows


def moved(xy: NDArray[np.floating], matrix: NDArray[np.floating]) -> NDArray[np.float64]:
    """(n, 2) points through a (3, 3) affine matrix."""
    return np.asarray(xy @ matrix[:2, :2].T + matrix[:2, 2], dtype=np.float64)


def open_ring(ring: NDArray[np.floating]) -> NDArray[np.float64]:
    """A ring without its last point where that repeats the first, and without what repeats the point before."""
    line = np.asarray(ring, dtype=np.float64)
    if len(line) > 1:
        line = line[np.r_[True, (np.diff(line, axis=0) != 0).any(axis=1)]]
    return line[:-1] if len(line) > 1 and (line[0] == line[-1]).all() else line


def hexadecimal(colour: object) -> str:
    """A colour as "#RRGGBB": from such a text, from [r, g, b], or from QuPath's signed ARGB number; else ""."""
    if isinstance(colour, str):
        text = colour.strip().lstrip("#")
        try:
            return f"#{int(text, 16):06X}" if len(text) == 6 else ""
        except ValueError:
            return ""
    try:
        if isinstance(colour, list | tuple) and len(colour) >= 3:
            return "#" + "".join(f"{min(max(int(c), 0), 255):02X}" for c in colour[:3])
        if isinstance(colour, int) and not isinstance(colour, bool):
            return f"#{colour & 0xFFFFFF:06X}"
    except (TypeError, ValueError):
        return ""
    return ""


def class_name(given: object) -> str:
    """A class as a file names it; "" for those that mean none."""
    text = "" if given is None else " ".join(str(given).split())
    return "" if text.lower() in _NO_CLASS else text


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ExportError("The file is too large to import.", where=path, expected="at most 2 GB")
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
    except (OSError, EOFError) as error:
        raise ExportError("The file cannot be read.", where=path, found=str(error)) from error
    for encoding in ("utf-8-sig", "utf-16") if content[:2] in (b"\xff\xfe", b"\xfe\xff") else ("utf-8-sig", "cp1252"):
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise ExportError("The file is not text.", where=path, expected="a CSV or a GeoJSON file")
