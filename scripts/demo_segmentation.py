"""Rebuild nucleus and cell outlines of the demo section from its DAPI image and the instrument's own cell calls.

The crop says of every decoded transcript which cell it was given to and whether it lay in that cell's nucleus, but
brings no outlines. Nuclear transcripts therefore seed a watershed of the DAPI image (scikit-image), one seed a native
cell, and nuclei grow into cells by up to 15 µm as Xenium Onboard Analysis 1 does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import ndimage
from scipy.spatial import cKDTree
from skimage.filters import gaussian, threshold_local
from skimage.segmentation import expand_labels, watershed

NEIGHBOURS = 5
AGREE = 4
"""A pixel seeds a nucleus when this many of its nearest nuclear transcripts are of that one cell, ..."""
REACH = (0.85, 1.5)
"""... the nearest and the third nearest within these distances in µm."""
EXPANSION = 15.0
MIN_SEED = 40
"""Pixels; a smaller seed (few nuclear transcripts) becomes a disc of radius DISC pixels."""
DISC = 5
FOREGROUND = 0.8
FLOOR = 150.0
"""DAPI counts; the crop's 25th percentile: below it there is no nucleus."""
HALF = 0.5
"""A nucleus ends where DAPI falls half-way from its own level to its surroundings."""


@dataclass(frozen=True)
class Segmentation:
    """Label images (y, x): cell value ``i + 1`` is row ``i``; nucleus value ``p + 1`` is of row ``nucleus_cell[p]``."""

    cells: np.ndarray
    nuclei: np.ndarray
    nucleus_cell: np.ndarray


def segment(dapi: np.ndarray, transcripts: pd.DataFrame, count: int, pixel_size: float) -> Segmentation:
    """``transcripts``: ``row`` (cell, -1 outside cells), ``nuclear`` (bool), ``x``, ``y`` in pixels."""
    nuclear = transcripts[transcripts["nuclear"] & (transcripts["row"] >= 0)]
    image = dapi.astype(np.float32)
    smooth = gaussian(image, 1.5, preserve_range=True)
    local = threshold_local(smooth, 151, method="gaussian")
    seeds = _seeds(nuclear, image.shape, count, pixel_size)
    foreground = ((smooth > FOREGROUND * local) & (smooth > FLOOR)) | (seeds > 0)
    depth = ndimage.distance_transform_edt(smooth > local)
    landscape = -gaussian(image, 3, preserve_range=True) / np.maximum(local, FLOOR) - depth / 8
    basins = watershed(landscape, seeds, mask=foreground)
    nuclei = _largest_parts(_tighten(basins, seeds, smooth, count), count)
    cells = expand_labels(_with_seeds_for_the_rest(nuclei, transcripts, count), EXPANSION / pixel_size)
    found = np.unique(nuclei)
    found = found[found > 0]
    renumber = np.zeros(count + 1, dtype=np.uint32)
    renumber[found] = np.arange(1, len(found) + 1)
    return Segmentation(cells.astype(np.uint32), renumber[nuclei], found - 1)


def _seeds(nuclear: pd.DataFrame, shape: tuple[int, ...], count: int, pixel_size: float) -> np.ndarray:
    """Where the nearest nuclear transcripts agree on one cell."""
    points = nuclear[["y", "x"]].to_numpy()
    rows = nuclear["row"].to_numpy()
    touched = np.zeros(shape, dtype=bool)
    inside = _inside(points, shape)
    touched[points[inside, 0].astype(int), points[inside, 1].astype(int)] = True
    near = ndimage.distance_transform_edt(~touched) <= REACH[1] / pixel_size
    pixels = np.column_stack(np.nonzero(near))
    distance, index = cKDTree(points).query(pixels + 0.5, k=NEIGHBOURS)
    owner = rows[index]
    agree = (owner == owner[:, :1]).sum(axis=1) >= AGREE
    agree &= (distance[:, 0] <= REACH[0] / pixel_size) & (distance[:, 2] <= REACH[1] / pixel_size)
    seeds = np.zeros(shape, dtype=np.int32)
    seeds[pixels[agree, 0], pixels[agree, 1]] = owner[agree, 0] + 1
    seeds = _largest_parts(seeds, count)
    size = np.bincount(seeds.ravel(), minlength=count + 1)[1:]
    centre = nuclear.groupby("row")[["y", "x"]].median()
    for row in centre.index[size[centre.index] < MIN_SEED]:
        _stamp(seeds, centre.loc[row].to_numpy(), row + 1)
    return seeds


def _tighten(basins: np.ndarray, seeds: np.ndarray, smooth: np.ndarray, count: int) -> np.ndarray:
    """Cut each basin at half height between nucleus and surroundings, keep the seed's core, smooth the rim."""
    nuclei = np.zeros_like(basins)
    for value, box in enumerate(ndimage.find_objects(basins, max_label=count), start=1):
        if box is None:
            continue
        window = tuple(slice(max(0, side.start - 6), side.stop + 6) for side in box)
        basin, seed, level = basins[window] == value, seeds[window] == value, smooth[window]
        core = ndimage.binary_erosion(seed, iterations=2, border_value=1)
        core = core if core.sum() > MIN_SEED // 2 else seed
        ring = ndimage.binary_dilation(basin, iterations=6) & (basins[window] == 0)
        low = np.median(level[ring]) if ring.sum() > 20 else np.percentile(level[basin], 5)
        high = np.percentile(level[core], 60)
        mask = ndimage.binary_opening(basin & (level > low + HALF * (high - low)), iterations=3) | core
        parts, _ = ndimage.label(ndimage.binary_fill_holes(mask) & basin)
        mask = parts == np.argmax(np.bincount(parts[core])[1:]) + 1
        rounded = (gaussian(mask.astype(float), 2) > 0.5) & basin
        nuclei[window][rounded if rounded.sum() > 0.7 * mask.sum() else mask] = value
    return nuclei


def _with_seeds_for_the_rest(nuclei: np.ndarray, transcripts: pd.DataFrame, count: int) -> np.ndarray:
    """Cells without a nucleus in the crop start from a disc in the midst of their transcripts."""
    labels = nuclei.copy()
    middle = transcripts[transcripts["row"] >= 0].groupby("row")[["y", "x"]].median()
    for row in np.setdiff1d(np.arange(count), np.unique(nuclei) - 1):
        free = np.column_stack(np.nonzero(labels == 0))
        place = free[np.argmin(((free - middle.loc[row].to_numpy()) ** 2).sum(axis=1))]
        _stamp(labels, place, row + 1)
    return labels


def _stamp(labels: np.ndarray, centre: np.ndarray, value: int) -> None:
    """A disc on pixels that are still free."""
    dy, dx = np.mgrid[-DISC : DISC + 1, -DISC : DISC + 1]
    disc = dy**2 + dx**2 <= DISC**2
    points = np.column_stack([dy[disc], dx[disc]]) + np.asarray(centre).astype(int)
    points = points[_inside(points, labels.shape)]
    points = points[labels[points[:, 0], points[:, 1]] == 0]
    labels[points[:, 0], points[:, 1]] = value


def _largest_parts(labels: np.ndarray, count: int) -> np.ndarray:
    kept = np.zeros_like(labels)
    for value, box in enumerate(ndimage.find_objects(labels, max_label=count), start=1):
        if box is not None:
            parts, _ = ndimage.label(labels[box] == value)
            kept[box][parts == np.argmax(np.bincount(parts.ravel())[1:]) + 1] = value
    return kept


def _inside(points: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return (points >= 0).all(axis=1) & (points < np.asarray(shape)).all(axis=1)
