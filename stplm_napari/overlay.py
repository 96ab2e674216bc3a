"""Cell colours on the tissue through a lookup table: a million cells recolour in milliseconds.

The layer is a napari Labels pyramid whose levels are small array objects. Asked for a window, a level reads that window
of the cell label image and returns ``lut[labels]`` as uint8, so only the pixels on screen are ever mapped. A recolour
writes a new table of one byte per label and a colormap of at most 256 entries, then refreshes the layer.

Codes in the table: 0 transparent; 1 to 252 classes or steps of a value; 253 and 254 the dark rim and the light ring of
highlighted cells; 255 grey.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from stplm.errors import LabelError
from stplm.palette import TUMOUR_COLOUR, UNASSIGNED_COLOUR
from stplm_napari.pyramid import boundaries, drop_axes, padded

if TYPE_CHECKING:
    from napari.layers import Labels
    from numpy.typing import ArrayLike, NDArray

MAX_CLASSES = 252
"""Classes that one overlay can tell apart; also the number of steps of a continuous colour map."""
_RIM, _RING, _GREY = 253, 254, 255
_KEPT_COLORMAPS = 8
UNUSED = _RIM
"""A code that only pixels have, never a cell."""
_RIM_COLOUR, _HIGHLIGHT_COLOUR = "#000000", "#FFFFFF"
TUMOUR_MAP = "tumour"
"""Our diverging map: blue (not tumour) over a light grey to the palette's vermilion (tumour)."""
_TUMOUR_STOPS = ("#2166AC", "#92C5DE", "#EDEAE6", "#F4A56A", TUMOUR_COLOUR)


@dataclass
class _Look:
    """What all levels of an overlay share. Replaced piece by piece, so that a slice always sees whole tables."""

    lut: NDArray[np.uint8]
    ring: NDArray[np.bool_] | None = None
    outline: int = 0
    hide_small: bool = False


class ColourLevel:
    """One level of the pyramid: an array object of uint8 codes, computed from the cell labels where it is read.

    Parameters
    ----------
    base
        2-D integer cell labels; numpy, dask, zarr or a :class:`~stplm_napari.pyramid.CachedLevel`.
    look
        The table shared by all levels.
    diameter
        Typical cell diameter in this level's pixels; below 6 there is no room for outlines.
    coarsest
        Whether this is the last level of a pyramid, see :meth:`repaint`.
    """

    dtype = np.dtype(np.uint8)
    ndim = 2

    def __init__(self, base: Any, look: _Look, diameter: float, coarsest: bool = False) -> None:
        self._base, self._look, self._diameter = base, look, diameter
        self._whole = np.zeros(base.shape, np.uint8) if coarsest else None
        self.shape: tuple[int, int] = tuple(base.shape)
        self.size = int(np.prod(self.shape))

    def __getitem__(self, key: Any) -> NDArray[np.uint8]:
        look = self._look
        ring = look.ring
        small = self._diameter < 6
        band = max(3, round(self._diameter / 8))
        width = 0 if small else max(look.outline, band if ring is not None else 0)
        labels, inner = padded(self._base, key, width)
        window = labels[inner]
        codes: NDArray[np.uint8] = np.take(look.lut, window, mode="clip")
        if look.outline and not small:
            codes[~boundaries(labels, look.outline)[inner]] = 0
        elif look.outline and look.hide_small:
            codes[:] = 0
        if ring is not None:
            marked = np.take(ring, window, mode="clip")
            if marked.any():
                codes[marked if small else marked & boundaries(labels, band)[inner]] = _RING
                if not small:
                    codes[marked & boundaries(labels, 1)[inner]] = _RIM
        return drop_axes(codes, key)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        codes = self[:, :] if self._whole is None else self._whole
        return codes.astype(codes.dtype if dtype is None else dtype, copy=bool(copy))

    def repaint(self) -> None:
        """Bring the coarsest level up to date.

        napari (0.9) takes the coarsest level as a whole, once, and draws thumbnail and overview from that array for
        ever. So it is given one that is ours to write.
        """
        if self._whole is not None:
            self._whole[...] = self[:, :]


@dataclass
class CellOverlay:
    """The colours of all cells of a section, as one napari layer.

    Parameters
    ----------
    levels
        Cell label images, finest first: 2-D integer arrays (numpy, dask, zarr or any object with ``shape``, ``dtype``
        and ``[rows, columns]``); they are read lazily, where the screen looks.
    values
        (n_cells,) integers, at least 1: the label value of each row of the cell table, in any order, with gaps allowed.
        Labels that belong to no row stay transparent.
    scale_um, translate_um
        Size of a pixel of the finest level, and the centre of its first pixel, in µm, as (y, x).
    name
        Name of the layer.
    diameter_px
        Typical diameter of a cell in pixels of the finest level.
    outline
        0 fills the cells; n draws outlines n pixels wide.
    hide_small
        Seen from afar, where a cell is a few pixels, outlines are filled so that colours stay visible; or hidden.
    affine
        3 × 3 (y, x) matrix applied after scale and translate, or None.

    Every ``show_*`` method takes one value per cell, in table order, and replaces what was shown. Rows are never
    reordered. Not thread-safe: call from the GUI thread.
    """

    levels: Sequence[Any]
    values: NDArray[np.integer]
    scale_um: tuple[float, float] = (1.0, 1.0)
    translate_um: tuple[float, float] = (0.0, 0.0)
    name: str = "Cell colours"
    diameter_px: float = 40.0
    outline: int = 0
    hide_small: bool = False
    affine: NDArray[np.floating] | None = None
    layer: Labels = field(init=False)
    """The napari layer. Opacity and visibility are napari's own."""

    def __post_init__(self) -> None:
        from napari.layers import Labels

        self.values = np.asarray(self.values)
        if len(self.values) and self.values.min() < 1:
            raise ValueError("label values of cells start at 1; 0 is background")
        top = int(self.values.max()) if len(self.values) else 0
        # One entry more than the highest label: np.take(mode="clip") sends every stray label there, and it stays 0.
        self._look = _Look(np.zeros(top + 2, np.uint8), None, self.outline, self.hide_small)
        self._palette = np.zeros((256, 4), np.float32)
        self._ring_colours = np.zeros((2, 4), np.float32)
        self._ring_rows: NDArray[np.int64] = np.zeros(0, np.int64)
        self._is_drawn = False
        self._colormaps: OrderedDict[bytes, Any] = OrderedDict()
        finest = self.levels[0].shape[0]
        data = [ColourLevel(a, self._look, self.diameter_px * a.shape[0] / finest) for a in self.levels[:-1]]
        last, several = self.levels[-1], len(self.levels) > 1
        data.append(ColourLevel(last, self._look, self.diameter_px * last.shape[0] / finest, coarsest=several))
        self._coarsest = data[-1]
        self.layer = Labels(
            data if several else data[0],
            multiscale=several,
            name=self.name,
            scale=self.scale_um,
            translate=self.translate_um,
            affine=self.affine,
            units=("um", "um"),
            opacity=1.0 if self.outline else 0.7,
            colormap=self._colormap(self._palette),
        )
        self.layer.editable = False

    def show_classes(
        self,
        codes: ArrayLike,
        colours: Sequence[Any],
        *,
        visible: ArrayLike | None = None,
        opacities: ArrayLike | None = None,
        unsure: ArrayLike | None = None,
    ) -> None:
        """Colour the cells by class.

        Parameters
        ----------
        codes
            (n_cells,) integers: index of the cell's class, -1 for none (transparent).
        colours
            One per class: ``"#RRGGBB"`` or RGBA in [0, 1].
        visible
            (n_classes,) bool; cells of a hidden class are transparent. All by default.
        opacities
            (n_classes,) in [0, 1], on top of the layer's own opacity.
        unsure
            (n_cells,) bool: cells with a visible class that are drawn grey.

        Raises
        ------
        LabelError
            More than ``MAX_CLASSES`` classes.
        """
        codes = self._per_cell(codes).astype(np.int64)
        palette = _rgba(colours)
        if len(palette) > MAX_CLASSES:
            raise LabelError(
                f"{len(palette)} classes cannot be told apart by colour.",
                expected=f"at most {MAX_CLASSES}",
                mend="Merge classes, or colour by a coarser column.",
            )
        if len(codes) and codes.max() >= len(palette):
            raise ValueError(f"class index {codes.max()} has no colour; {len(palette)} colours were given")
        if opacities is not None:
            palette[:, 3] *= np.asarray(opacities, np.float32)
        shown = codes >= 0
        if visible is not None:
            shown[shown] = np.asarray(visible, bool)[codes[shown]]
        out = np.where(shown, codes + 1, 0).astype(np.uint8)
        if unsure is not None:
            out[shown & self._per_cell(unsure).astype(bool)] = _GREY
        self._apply(out, palette)

    def show_values(
        self,
        values: ArrayLike,
        *,
        cmap: str = "viridis",
        lo: float = 0.0,
        hi: float = 1.0,
        missing: str = "transparent",
    ) -> None:
        """Colour the cells by a number, in 252 steps.

        Parameters
        ----------
        values
            (n_cells,) float; clipped to [lo, hi].
        cmap
            A matplotlib colour map, or ``"tumour"`` for our diverging one.
        lo, hi
            Values of the first and the last colour, ``hi > lo``.
        missing
            How NaN is drawn: ``"transparent"`` or ``"grey"``.
        """
        if not hi > lo:
            raise ValueError(f"the colour range is empty: {lo} to {hi}")
        values = self._per_cell(values).astype(np.float64)
        known = np.isfinite(values)
        steps = np.zeros(len(values), np.uint8)
        steps[known] = (
            np.round(np.clip((values[known] - lo) / (hi - lo), 0, 1) * (MAX_CLASSES - 1)).astype(np.uint8) + 1
        )
        if missing == "grey":
            steps[~known] = _GREY
        self._apply(steps, colour_steps(cmap))

    def show_uniform(self, colour: str | Sequence[float]) -> None:
        """All cells in one colour."""
        self.show_classes(np.zeros(len(self.values), np.int64), [colour])

    def highlight(self, cells: ArrayLike, colour: str | None = None, *, now: bool = True) -> None:
        """Ring these cells (row numbers) on top of their colours; an empty list takes the rings away.

        The ring has a dark rim, so that it shows on any colour. Where cells are a few pixels only, they are filled.
        Unless ``now``, the rings are drawn with the colours that are shown next: a layer redrawn once is quicker.
        """
        rows = np.asarray(cells, np.int64)
        if not np.array_equal(rows, self._ring_rows):
            self._ring_rows, ring = rows.copy(), None
            if len(rows):
                ring = np.zeros(len(self._look.lut), bool)
                ring[self.values[rows]] = True
            self._look.ring, self._is_drawn = ring, False
        self._ring_colours = _rgba([_RIM_COLOUR, colour or _HIGHLIGHT_COLOUR])
        if now:
            palette = self._palette.copy()
            palette[[_RIM, _RING]] = self._ring_colours
            self._redraw(palette)

    def draw_outlines(self, width: int) -> None:
        """Draw outlines of that many pixels of the finest level; 0 fills the cells."""
        if width != self._look.outline:
            self.outline = self._look.outline = width
            self._is_drawn = False
            self._redraw(self._palette)

    def clear(self) -> None:
        """No colours and no rings."""
        self._ring_rows, self._look.ring, self._is_drawn = np.zeros(0, np.int64), None, False
        self._apply(np.zeros(len(self.values), np.uint8), np.zeros((0, 4), np.float32))

    def codes(self) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """(n_cells,) codes and the (256, 4) colours of all codes as drawn (without the layer's opacity).

        No cell has the code :data:`UNUSED`. Both are copies.
        """
        return self._look.lut[self.values], self._palette.copy()

    def rgba(self) -> NDArray[np.float32]:
        """(n_cells, 4) colours as drawn (without the layer's opacity), so that plots show the very same ones."""
        codes, palette = self.codes()
        return palette[codes]

    def _per_cell(self, array: ArrayLike) -> NDArray[Any]:
        array = np.asarray(array)
        if array.shape != self.values.shape:
            raise ValueError(f"one value per cell is needed: {self.values.shape}, not {array.shape}")
        return array

    def _apply(self, codes: NDArray[np.uint8], colours: NDArray[np.float32]) -> None:
        lut = np.zeros_like(self._look.lut)
        lut[self.values] = codes
        if not np.array_equal(lut, self._look.lut):
            self._look.lut, self._is_drawn = lut, False
        palette = np.zeros((256, 4), np.float32)
        palette[1 : len(colours) + 1] = colours
        palette[[_RIM, _RING]] = self._ring_colours
        palette[_GREY] = _rgba([UNASSIGNED_COLOUR])[0]
        self._redraw(palette)

    def _redraw(self, palette: NDArray[np.float32]) -> None:
        """A new colormap refreshes the layer by itself; where it did not change, a refresh is all there is to do, and
        where nothing did, nothing is."""
        same = np.array_equal(palette, self._palette)
        if same and self._is_drawn:
            return
        self._coarsest.repaint()
        # A layer that is hidden is not refreshed: what it shows then is old until it is seen again.
        self._is_drawn = bool(self.layer.visible)
        if same:
            self.layer.refresh(extent=False)
        else:
            self._palette = palette
            self.layer.colormap = self._colormap(palette)

    def _colormap(self, palette: NDArray[np.float32]) -> Any:
        """napari's colormap of a palette, the very one that was made for it before: it holds tables of its own, which
        take longer to make than a recolour does."""
        key = palette.tobytes()
        made = self._colormaps.pop(key, None)
        self._colormaps[key] = made = _colormap(palette) if made is None else made
        if len(self._colormaps) > _KEPT_COLORMAPS:
            self._colormaps.popitem(last=False)
        return made


def warm_up(label_dtype: Any = np.int32) -> None:
    """Pay for what the first overlay would make the window wait for, about 4 s once a process; meant for a thread.

    napari compiles its colour mapping with numba for each dtype (the overlay's and the label image's), and reads its
    table of units at the first layer that has one.
    """
    from napari.layers import Labels

    Labels(np.zeros((2, 2), np.uint8), units=("um", "um"))
    for dtype in (np.dtype(np.uint8), np.dtype(label_dtype)):
        palette = np.zeros((256, 4), np.float32)
        palette[1 : MAX_CLASSES + 1] = colour_steps("viridis")
        _colormap(palette).map(np.zeros((2, 2), dtype))


def warm_up_scores() -> None:
    """The same for colouring by a number, rings and grey included: more than 254 colours go through 16 bits."""
    for dtype in (np.uint8, np.uint16):
        _colormap(np.ones((256, 4), np.float32)).map(np.zeros((2, 2), dtype))


def colour_steps(cmap: str) -> NDArray[np.float32]:
    """(252, 4) RGBA of a matplotlib colour map, or of ``"tumour"``."""
    from matplotlib import colormaps
    from matplotlib.colors import LinearSegmentedColormap

    scale = (
        LinearSegmentedColormap.from_list(TUMOUR_MAP, list(_TUMOUR_STOPS)) if cmap == TUMOUR_MAP else colormaps[cmap]
    )
    return np.asarray(scale(np.linspace(0, 1, MAX_CLASSES)), np.float32)


def _rgba(colours: Sequence[Any]) -> NDArray[np.float32]:
    from matplotlib.colors import to_rgba

    return np.array([to_rgba(c) for c in colours], np.float32).reshape(-1, 4)


def _colormap(palette: NDArray[np.float32]) -> Any:
    """napari's direct colormap of the codes in use."""
    from napari.utils.colormaps import DirectLabelColormap

    used = np.flatnonzero(palette.any(axis=1))
    table: dict[int | None, Any] = {int(i): palette[i] for i in used}
    # A colormap of the default colours only would put the layer back into its random colours.
    return DirectLabelColormap(color_dict={None: np.zeros(4), 0: np.zeros(4), **table})
