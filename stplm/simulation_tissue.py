"""The layout of a simulated tissue: where cells lie, of which class, how far they reach, how they look under DAPI."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stplm.compiled import compiled
from stplm.io.bundle_zarr import each_window

STEP = 9.5
"""µm between neighbouring places for a cell, in densely packed tissue."""
REACH = 7.5
"""µm; no cell reaches further from its centre."""
RAYS = 20
"""Vertices of a simulated outline."""
TILE = 1024
_ANGLES = np.linspace(0, 2 * np.pi, RAYS, endpoint=False)
_DIRECTIONS = np.column_stack([np.cos(_ANGLES), np.sin(_ANGLES)])
_PATCH = 90.0
"""µm; about the size of a tumour nest."""
REGIONS = ("tumour nest", "rim", "infiltrate", "stroma")
PACKING = (1.0, 1.0, 1.0, 0.6)
"""Share of the places that are taken, per region."""
MIX: tuple[Mapping[str, float], ...] = (
    {"Tumour": 0.91, "T cell": 0.03, "Macrophage": 0.05, "Dendritic": 0.01},
    {"Myoepithelial": 0.75, "Tumour": 0.1, "Stromal": 0.15},
    {"T cell": 0.55, "B cell": 0.22, "Plasma": 0.08, "Macrophage": 0.1, "Dendritic": 0.05},
    {
        "Stromal": 0.62,
        "Endothelial": 0.15,
        "Perivascular": 0.06,
        "Macrophage": 0.08,
        "T cell": 0.04,
        "Adipocyte": 0.03,
        "Mast": 0.02,
    },
)
"""What a region is made of; classes that the profile table lacks are left out."""
_SMALL = ("T cell", "B cell", "Plasma", "Mast")
_NUCLEUS = (3.0, 4.2)
"""µm; usual radius of small and of other nuclei."""
_BACKGROUND, _NOISE, _BRIGHTNESS = 200.0, 20.0, 900.0
"""DAPI counts: level and spread of the background, usual height of a nucleus above it."""
_BLUR = 0.4
"""µm."""


@dataclass(frozen=True)
class Tissue:
    """Cells of a simulated section, in µm.

    Attributes
    ----------
    xy
        (n, 2) float64, centres, row by row from the top.
    kind
        (n,) int64, class, as an index into the profile table.
    region
        (n,) int64, index into ``REGIONS``.
    reach
        (n, RAYS) float64, how far the cell reaches in each direction.
    nucleus_radius
        (n,) float64.
    extent
        Width and height.
    """

    xy: npt.NDArray[np.float64]
    kind: npt.NDArray[np.int64]
    region: npt.NDArray[np.int64]
    reach: npt.NDArray[np.float64]
    nucleus_radius: npt.NDArray[np.float64]
    extent: tuple[float, float]

    def region_names(self) -> npt.NDArray[np.str_]:
        """(n,) names."""
        return np.array(REGIONS)[self.region]

    def outlines(self) -> npt.NDArray[np.float64]:
        """(n, RAYS, 2) open rings of the cells."""
        rings: npt.NDArray[np.float64] = self.xy[:, None] + self.reach[..., None] * _DIRECTIONS
        return rings

    def nucleus_outlines(self) -> npt.NDArray[np.float64]:
        """(n, RAYS, 2) open rings of the nuclei."""
        rings: npt.NDArray[np.float64] = self.xy[:, None] + self.nucleus_radius[:, None, None] * _DIRECTIONS
        return rings

    def area(self) -> npt.NDArray[np.float64]:
        """(n,) µm²."""
        following = np.roll(self.reach, -1, axis=1)
        area: npt.NDArray[np.float64] = 0.5 * np.sin(2 * np.pi / RAYS) * (self.reach * following).sum(axis=1)
        return area

    def scatter(
        self, cell: npt.NDArray[np.int64], rng: np.random.Generator
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
        """Random places inside cells, (m, 2), and whether each is in the nucleus; ``cell`` (m,) says whose."""
        ray = rng.integers(0, RAYS, len(cell))
        # On a chord between two rays: never outside the ring.
        along = rng.random(len(cell))[:, None]
        following = (ray + 1) % RAYS
        ends = [self.reach[cell, r, None] * _DIRECTIONS[r] for r in (ray, following)]
        offset = np.sqrt(rng.random(len(cell)))[:, None] * ((1 - along) * ends[0] + along * ends[1])
        return self.xy[cell] + offset, np.hypot(*offset.T) <= self.nucleus_radius[cell]

    def raster(self, pixel_size: float, *, nuclei: bool = False) -> TissueRaster:
        """Label image of cells or nuclei, drawn where it is sliced: value ``i + 1`` is cell ``i``."""
        return TissueRaster(self, pixel_size, nuclei)

    def dapi(self, pixel_size: float, seed: int, scratch: Path) -> npt.NDArray[np.uint16]:
        """(1, y, x) DAPI image, a memory map of the file ``scratch``."""
        cells = self.raster(pixel_size)
        image = np.memmap(scratch, dtype=np.uint16, mode="w+", shape=(1, *cells.shape))
        bright = np.random.default_rng([seed, 1]).lognormal(0.0, 0.35, len(self.xy)) * _BRIGHTNESS
        radius = self.nucleus_radius

        def draw(window: tuple[slice, slice]) -> None:
            labels, distance = cells.with_distance(window)
            rng = np.random.default_rng([seed, 2, window[0].start, window[1].start])
            level = np.float32(_BACKGROUND) + np.float32(_NOISE) * rng.standard_normal(labels.shape, dtype=np.float32)
            _add_nuclei(level, labels, distance, radius, bright)
            image[0][window] = np.clip(level, 0, 65_535).astype(np.uint16)

        each_window(draw, cells.shape, TILE)
        return image


class TissueRaster:
    """A label image (y, x) that is drawn where it is sliced, with unit step."""

    def __init__(self, tissue: Tissue, pixel_size: float, nuclei: bool) -> None:
        self._tissue, self._pixel_size, self._nuclei = tissue, pixel_size, nuclei
        width, height = tissue.extent
        self.shape = (int(np.ceil(height / pixel_size)), int(np.ceil(width / pixel_size)))

    def __getitem__(self, key: tuple[slice, slice], /) -> npt.NDArray[np.uint32]:
        if not self._nuclei:
            return self._cells(*self._window(key))
        labels, distance = self.with_distance(key)
        _cut_to_nuclei(labels, distance, self._tissue.nucleus_radius)
        return labels

    def with_distance(self, key: tuple[slice, slice]) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.float32]]:
        """Cell labels of a window and each pixel's distance in µm from its cell's centre (0 in the background)."""
        rows, columns = self._window(key)
        labels = self._cells(rows, columns)
        distance = np.zeros(labels.shape, dtype=np.float32)
        _fill_distance(distance, labels, self._tissue.xy, rows.start, columns.start, self._pixel_size)
        return labels, distance

    def _window(self, key: tuple[slice, slice]) -> tuple[range, range]:
        rows, columns = (range(*part.indices(size)) for part, size in zip(key, self.shape, strict=True))
        return rows, columns

    def _cells(self, rows: range, columns: range) -> npt.NDArray[np.uint32]:
        from stplm.spatial.raster import rasterise_cells

        px, xy = self._pixel_size, self._tissue.xy
        # Centres ascend in y, so that a window's cells lie in one stretch.
        first, last = np.searchsorted(xy[:, 1], [rows.start * px - REACH, rows.stop * px + REACH])
        strip = xy[first:last, 0]
        near = (strip > columns.start * px - REACH) & (strip < columns.stop * px + REACH)
        index = np.flatnonzero(near) + first
        return rasterise_cells(
            xy[index],
            REACH,
            pixel_size=px,
            shape=(len(rows), len(columns)),
            origin=(columns.start * px, rows.start * px),
            values=index + 1,
        )


@compiled(nogil=True)
def _cut_to_nuclei(
    labels: npt.NDArray[np.uint32], distance: npt.NDArray[np.float32], radius: npt.NDArray[np.float64]
) -> None:
    """Make background of what is further from its cell's centre than the nucleus reaches."""
    for row in range(labels.shape[0]):
        for column in range(labels.shape[1]):
            value = labels[row, column]
            if value and distance[row, column] > np.float32(radius[value - 1]):
                labels[row, column] = 0


@compiled(nogil=True)
def _add_nuclei(
    level: npt.NDArray[np.float32],
    labels: npt.NDArray[np.uint32],
    distance: npt.NDArray[np.float32],
    radius: npt.NDArray[np.float64],
    bright: npt.NDArray[np.float64],
) -> None:
    """Brighten ``level`` where there is a nucleus, which fades out over about a micrometre."""
    for row in range(labels.shape[0]):
        for column in range(labels.shape[1]):
            value = labels[row, column]
            if value:
                edge = (distance[row, column] - radius[value - 1]) / _BLUR
                level[row, column] += bright[value - 1] / (1 + np.exp(min(max(edge, -30.0), 30.0)))


@compiled(nogil=True)
def _fill_distance(
    distance: npt.NDArray[np.float32],
    labels: npt.NDArray[np.uint32],
    xy: npt.NDArray[np.float64],
    top: int,
    left: int,
    pixel_size: float,
) -> None:
    for row in range(labels.shape[0]):
        for column in range(labels.shape[1]):
            value = labels[row, column]
            if value:
                dx = (left + column + 0.5) * pixel_size - xy[value - 1, 0]
                dy = (top + row + 0.5) * pixel_size - xy[value - 1, 1]
                distance[row, column] = np.sqrt(dx * dx + dy * dy)


@dataclass(frozen=True)
class Places:
    """Cells of a simulated section without their shapes: ``xy``, ``kind`` and ``region`` as in :class:`Tissue`;
    ``nucleus`` (n,) float64, the radius of the nucleus where the cell has room for it, in µm."""

    xy: npt.NDArray[np.float64]
    kind: npt.NDArray[np.int64]
    region: npt.NDArray[np.int64]
    nucleus: npt.NDArray[np.float64]


def lay_out(count: int, classes: list[str], rng: np.random.Generator) -> Tissue:
    """Place ``count`` cells of the named classes; the section is about square."""
    cells = place_cells(count, classes, rng)
    reach = _reach(cells.xy)
    nucleus = np.minimum(cells.nucleus, 0.85 * reach.min(axis=1))
    extent = (float(cells.xy[:, 0].max()) + REACH, float(cells.xy[:, 1].max()) + REACH)
    return Tissue(cells.xy, cells.kind, cells.region, reach, nucleus, extent)


def place_cells(count: int, classes: list[str], rng: np.random.Generator) -> Places:
    """The cells that :func:`lay_out` gives shapes to, row by row from the top."""
    side = int(np.ceil(np.sqrt(count / (min(PACKING) * 0.9)))) + 2
    xy, region = _places(side, rng)
    taken = rng.random(len(xy)) < np.asarray(PACKING)[region]
    # Row by row until there are enough: the section ends where the cells do.
    xy, region = xy[taken], region[taken]
    width = max(STEP * 2, np.sqrt(count / len(xy)) * side * STEP)
    kept = np.flatnonzero(xy[:, 0] < width)
    kept = kept[:count] if len(kept) >= count else np.arange(count)
    xy, region = xy[kept], region[kept]
    order = np.argsort(xy[:, 1], kind="stable")
    xy, region = np.ascontiguousarray(xy[order]), region[order]
    kind = np.zeros(count, dtype=np.int64)
    for number, mix in enumerate(MIX):
        known = {classes.index(name): share for name, share in mix.items() if name in classes}
        known = known or dict.fromkeys(range(len(classes)), 1.0)
        share = np.array(list(known.values()))
        here = np.flatnonzero(region == number)
        kind[here] = rng.choice(np.array(list(known)), len(here), p=share / share.sum())
    small = np.isin(kind, [i for i, name in enumerate(classes) if name in _SMALL])
    return Places(xy, kind, region, np.where(small, *_NUCLEUS) * rng.lognormal(0.0, 0.1, count))


def _places(side: int, rng: np.random.Generator) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """A jittered hexagonal lattice of side x side places and the region of each."""
    row, column = (v.ravel() for v in np.indices((side, side)))
    xy = np.column_stack([column + 0.5 * (row % 2), row * np.sqrt(3) / 2]) * STEP + REACH
    xy += rng.uniform(-0.22, 0.22, xy.shape) * STEP
    nest, immune = _smooth_field(side, rng), _smooth_field(side, rng)
    region = np.full(len(xy), REGIONS.index("stroma"))
    region[immune > 1.0] = REGIONS.index("infiltrate")
    region[nest > 0.15] = REGIONS.index("rim")
    region[nest > 0.35] = REGIONS.index("tumour nest")
    return xy, region


def _smooth_field(side: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """White noise smoothed to patches of ``_PATCH`` µm, standardised, (side * side,)."""
    from scipy.ndimage import gaussian_filter

    field: npt.NDArray[np.float64] = gaussian_filter(rng.standard_normal((side, side)), _PATCH / STEP / 2, mode="wrap")
    return np.ravel((field - field.mean()) / max(float(field.std()), 1e-12))


def _reach(xy: npt.NDArray[np.float64], block: int = 50_000) -> npt.NDArray[np.float64]:
    """How far each cell's Voronoi polygon, clipped to ``REACH``, extends along each ray: (n, RAYS)."""
    from scipy.spatial import cKDTree

    tree = cKDTree(xy)
    reach = np.full((len(xy), RAYS), REACH)
    k = min(len(xy), 13)
    for start in range(0, len(xy), block) if k > 1 else ():
        part = slice(start, start + block)
        distance, index = tree.query(xy[part], k=k, distance_upper_bound=2 * REACH)
        for column in range(1, k):
            there = np.isfinite(distance[:, column])
            rows = np.flatnonzero(there) + start
            towards = xy[index[there, column]] - xy[rows]
            # The bisector with a neighbour at d is met after |d|² / 2 (d · u) along u.
            slope = towards @ _DIRECTIONS.T
            half = 0.5 * distance[there, column] ** 2
            with np.errstate(divide="ignore", invalid="ignore"):
                limit = np.where(slope > 1e-9, half[:, None] / slope, np.inf)
            reach[rows] = np.minimum(reach[rows], limit)
    return reach
