"""Image and label pyramids as napari reads them: windows of lazy arrays, kept in memory as tiles. No Qt, no napari."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

TILE = 1024
"""Edge of a cached tile, in pixels."""
_COARSEST_PX = 512
"""A recolour maps the whole coarsest level of the cells, see ``ColourLevel.repaint``: it is kept small."""


class TileStore:
    """Least recently used tiles of several arrays, within one budget of memory (bytes). Thread-safe."""

    def __init__(self, budget: int = 512 << 20) -> None:
        self._budget, self._bytes = budget, 0
        self._tiles: OrderedDict[tuple[int, int, int], NDArray[Any]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple[int, int, int]) -> NDArray[Any] | None:
        """The tile, or None when it is not (or no longer) there."""
        with self._lock:
            tile = self._tiles.get(key)
            if tile is not None:
                self._tiles.move_to_end(key)
            return tile

    def put(self, key: tuple[int, int, int], tile: NDArray[Any]) -> None:
        """Keep a tile; the least recently used ones go when the budget is passed."""
        with self._lock:
            if key in self._tiles:
                return
            self._tiles[key] = tile
            self._bytes += tile.nbytes
            while self._bytes > self._budget and len(self._tiles) > 1:
                self._bytes -= self._tiles.popitem(last=False)[1].nbytes


class CachedLevel:
    """A 2-D array object over a slow one (dask, zarr): what was read once comes from memory.

    Recolouring re-reads the same window of cell labels again and again, and a dask graph costs tens of milliseconds
    each time; a cached window costs a copy.
    """

    ndim = 2

    def __init__(self, source: Any, store: TileStore) -> None:
        self._source, self._store = source, store
        self.shape: tuple[int, int] = (int(source.shape[0]), int(source.shape[1]))
        self.dtype = np.dtype(source.dtype)
        self.size = self.shape[0] * self.shape[1]
        self.nbytes = self.size * self.dtype.itemsize

    def __getitem__(self, key: Any) -> NDArray[Any]:
        rows, columns = window(key, self.shape)
        out = np.empty((rows.stop - rows.start, columns.stop - columns.start), self.dtype)
        for i in range(rows.start // TILE, -(-rows.stop // TILE)):
            for j in range(columns.start // TILE, -(-columns.stop // TILE)):
                tile = self._tile(i, j)
                y0, x0 = i * TILE, j * TILE
                ya, yb = max(rows.start, y0), min(rows.stop, y0 + tile.shape[0])
                xa, xb = max(columns.start, x0), min(columns.stop, x0 + tile.shape[1])
                out[ya - rows.start : yb - rows.start, xa - columns.start : xb - columns.start] = tile[
                    ya - y0 : yb - y0, xa - x0 : xb - x0
                ]
        return drop_axes(out, key)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        whole = self[:, :]
        return whole if dtype is None else whole.astype(dtype)

    def _tile(self, i: int, j: int) -> NDArray[Any]:
        key = (id(self), i, j)
        tile = self._store.get(key)
        if tile is None:
            tile = np.asarray(self._source[i * TILE : (i + 1) * TILE, j * TILE : (j + 1) * TILE])
            self._store.put(key, tile)
        return tile


def window(key: Any, shape: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns of an index, as slices within the array. Raises IndexError for steps and fancy indices."""
    parts = _parts(key)
    out = []
    for part, n in zip((*parts, slice(None), slice(None)), shape, strict=False):
        if isinstance(part, int | np.integer):
            if not -n <= part < n:
                raise IndexError(f"{part} is outside of an axis of {n}")
            part = slice(int(part) % n, int(part) % n + 1)
        start, stop, step = part.indices(n)
        if step != 1:
            raise IndexError(f"only windows without a step can be read, not {key!r}")
        out.append(slice(start, max(start, stop)))
    return out[0], out[1]


def drop_axes(array: NDArray[Any], key: Any) -> NDArray[Any]:
    """A window as numpy would return it: without the axes that were indexed by a number."""
    numbers = tuple(i for i, part in enumerate(_parts(key)) if not isinstance(part, slice))
    return array.squeeze(numbers) if numbers else array


def _parts(key: Any) -> tuple[Any, ...]:
    parts = () if key is Ellipsis else key if isinstance(key, tuple) else (key,)
    if len(parts) > 2 or not all(isinstance(part, slice | int | np.integer) for part in parts):
        raise IndexError(f"only windows can be read, not {key!r}")
    return parts


def padded(base: Any, key: Any, width: int) -> tuple[NDArray[Any], tuple[slice, slice]]:
    """The window of an array grown by ``width`` pixels on each side (less at the border), and the window in it.

    Outlines need the neighbours of the pixels at the window's edge: without them every window would get a frame.
    """
    rows, columns = window(key, base.shape)
    grown = tuple(
        slice(max(0, s.start - width), min(n, s.stop + width)) for s, n in zip((rows, columns), base.shape, strict=True)
    )
    labels = np.asarray(base[grown])
    inner = tuple(slice(s.start - g.start, s.stop - g.start) for s, g in zip((rows, columns), grown, strict=True))
    return labels, (inner[0], inner[1])


def boundaries(labels: NDArray[Any], width: int = 1) -> NDArray[np.bool_]:
    """True for the pixels of a label that have another label or background 1 or ``width`` pixels up, down or aside.

    For cells wider than ``width`` that is a band of ``width`` pixels inside their border.
    """
    edge = np.zeros(labels.shape, bool)
    for step in sorted({1, width}):
        down = labels[step:] != labels[:-step]
        right = labels[:, step:] != labels[:, :-step]
        edge[step:] |= down
        edge[:-step] |= down
        edge[:, step:] |= right
        edge[:, :-step] |= right
    return edge & (labels != 0)


def image_levels(levels: Sequence[Any], store: TileStore, whole: int = 64 << 20) -> list[Any]:
    """Levels fit for the screen: small ones (``whole`` bytes) read now, big ones through tiles. Call it in a thread."""
    return [np.asarray(a) if _bytes(a) <= whole else _cached(a, store) for a in levels]


def label_levels(levels: Sequence[Any], store: TileStore, whole: int = 512 << 20) -> list[Any]:
    """Like :func:`image_levels` for a label image, whose coarser levels are every second pixel of the finer one.

    A Xenium bundle holds its masks at full resolution only, so each lazy level reads all of it: the finest level within
    ``whole`` bytes is read once, and the coarser ones are taken from that.
    """
    from stplm.spatial.raster import label_pyramid

    levels = label_pyramid(levels[-1], _COARSEST_PX) if len(levels) == 1 else list(levels)
    first = next((i for i, level in enumerate(levels) if _bytes(level) <= whole), len(levels) - 1)
    coarse = label_pyramid(np.asarray(levels[first]), _COARSEST_PX)
    return [*(_cached(level, store) for level in levels[:first]), *map(np.ascontiguousarray, coarse)]


def _cached(level: Any, store: TileStore) -> Any:
    return level if isinstance(level, np.ndarray) else CachedLevel(level, store)


def _bytes(level: Any) -> int:
    return int(np.prod(level.shape)) * np.dtype(level.dtype).itemsize
