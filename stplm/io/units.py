"""Whether coordinates are µm or image pixels: from what the file says, and from where the section lies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stplm import keys
from stplm.errors import ExportError
from stplm.io.exchange import MICRONS, PIXELS, UNKNOWN, Exchange, Units, moved
from stplm.io.outlines import affine_to_microns, base_level, pixels_a_micron

if TYPE_CHECKING:
    from anndata import AnnData

_MARGIN = 0.03
"""Outlines drawn at the very edge reach a little over it."""
_INSIDE = 0.98
_HALF = 0.5

Bounds = tuple[float, float, float, float]


@dataclass(frozen=True)
class UnitsFound:
    """What the coordinates of a file are.

    ``units`` is the better guess; ``certain`` only where nothing else is possible, else the user must be asked.
    ``reason`` is a sentence. ``inside`` is the share of the corners that would lie on the section in either unit.
    """

    units: Units
    certain: bool
    reason: str
    inside: dict[Units, float]


def find_units(exchange: Exchange, section: Any, table: AnnData) -> UnitsFound:
    """Compare where outlines and points would lie with where the section is, in either unit.

    Raises
    ------
    ExportError
        The section has no positions to compare with.
    """
    places = exchange.places()
    bounds = section_bounds(section, table)
    inside: dict[Units, float] = {MICRONS: _share_inside(places, bounds)}
    try:
        to_um = np.linalg.inv(pixels_a_micron(section, table))
    except ExportError:
        to_um = None
    inside[PIXELS] = 0.0 if to_um is None else _share_inside(moved(places, to_um), bounds)
    fits = {units: share >= _INSIDE for units, share in inside.items()}
    if exchange.units != UNKNOWN:
        said = exchange.units
        words = "µm" if said == MICRONS else "pixels"
        if fits[said] or not any(fits.values()):
            return UnitsFound(said, fits[said], f"The file says that it is in {words}.", inside)
        other: Units = PIXELS if said == MICRONS else MICRONS
        return UnitsFound(other, False, f"The file says {words}, but then it would not fit this section.", inside)
    if not any(fits.values()):
        best: Units = max((MICRONS, PIXELS), key=lambda units: inside[units])
        return UnitsFound(
            best, False, "In neither unit does it fit this section: was it drawn on another section or image?", inside
        )
    if to_um is None:
        return UnitsFound(MICRONS, False, "The section does not say how large its pixels are.", inside)
    if not fits[MICRONS]:
        return UnitsFound(PIXELS, True, "In µm it would reach beyond the section; in pixels it fits.", inside)
    if not fits[PIXELS]:
        return UnitsFound(MICRONS, True, "In pixels it would not lie on the section; in µm it does.", inside)
    # Small numbers lie on the section in both units. In pixels, all of it would lie in one corner.
    reach = (places.max(axis=0) - bounds[:2]) / np.maximum(np.subtract(bounds[2:], bounds[:2]), 1e-9)
    if exchange.from_qupath and reach.max() < _HALF:
        return UnitsFound(PIXELS, False, "It fits in µm and in pixels; QuPath writes pixels.", inside)
    return UnitsFound(
        MICRONS, False, "It fits in µm and in pixels, where all of it would lie in one corner of the section.", inside
    )


def in_microns(
    exchange: Exchange, units: Units, section: Any, table: AnnData, pixel_size: float | None = None
) -> Exchange:
    """The same in µm. ``pixel_size`` (µm a pixel) goes before the section's own, for drawings on another image.

    Raises
    ------
    ExportError
        In pixels, and neither the section nor the caller says how large one is.
    """
    if units == MICRONS:
        return exchange.moved(np.eye(3), MICRONS)
    if pixel_size is not None:
        return exchange.moved(np.diag([pixel_size, pixel_size, 1.0]), MICRONS)
    return exchange.moved(np.linalg.inv(pixels_a_micron(section, table)), MICRONS)


def section_bounds(section: Any, table: AnnData) -> Bounds:
    """Lowest x, lowest y, highest x, highest y of a section in µm: of its images and cells.

    Raises
    ------
    ExportError
        It has neither.
    """
    corners: list[NDArray[np.floating]] = []
    if keys.SPATIAL in table.obsm:
        xy = np.asarray(table.obsm[keys.SPATIAL], np.float64)[:, :2]
        corners.append(xy[np.isfinite(xy).all(axis=1)])
    if section is not None:
        for group in (section.images, section.labels):
            for element in group.values():
                matrix = affine_to_microns(element, table)
                if matrix is not None:
                    height, width = base_level(element).shape[-2:]
                    frame = np.array([[0, 0], [width, 0], [0, height], [width, height]], float)
                    corners.append(moved(frame, matrix))
    points = np.concatenate(corners) if corners else np.zeros((0, 2))
    if not len(points):
        raise ExportError(
            "The section has no positions, so nothing can be placed on it.",
            mend="Open the whole Xenium bundle instead of its matrix alone.",
        )
    (x0, y0), (x1, y1) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    return x0, y0, x1, y1


def _share_inside(places: NDArray[np.floating], bounds: Bounds) -> float:
    if not len(places):
        return 1.0
    low, high = np.array(bounds[:2]), np.array(bounds[2:])
    margin = _MARGIN * (high - low)
    return float(((places >= low - margin) & (places <= high + margin)).all(axis=1).mean())
