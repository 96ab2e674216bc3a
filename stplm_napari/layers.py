"""A section as napari layers in µm: image channels, cell colours, cell outlines, and the cells themselves."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import MethodType
from typing import TYPE_CHECKING, Any

import numpy as np

from stplm import keys
from stplm_napari.overlay import CellOverlay
from stplm_napari.picking import CellPicker
from stplm_napari.prepare import NO_POSITIONS, CellImage, Channel, PreparedSection, prepare_section

if TYPE_CHECKING:
    from anndata import AnnData
    from napari.layers import Image, Labels, Layer
    from napari.viewer import Viewer
    from numpy.typing import NDArray
    from spatialdata import SpatialData

CELLS, COLOURS, OUTLINES, SELECTED = "Cells", "Cell colours", "Cell outlines", "Selected cells"
SELECTED_COLOUR = "#B6FF00"
"""In no class's palette."""
_OUTLINE_COLOUR = "#D9D9D9"
_CANVAS_PX = 700
"""Zoom is screen pixels a µm; the shorter side of a usual canvas turns the width of a view into a zoom."""
_CHANNEL_MAPS = ("gray", "cyan", "magenta", "yellow", "green", "red", "blue")


@dataclass
class SectionLayers:
    """The layers of one open section.

    ``cells`` is the label image itself, transparent: hover, picking and napari-spatialdata read it. ``overlay`` colours
    the cells, ``outlines`` draws their borders. All three are None for a section without positions, and ``message``
    says so. ``selected`` shows the selected cells while there are any. ``centroids_um`` is (n_cells, 2) x, y in
    µm, in table order.
    """

    section: SpatialData | None
    table: AnnData | None
    viewer: Viewer | None = None
    images: list[Image] = field(default_factory=list)
    cells: Labels | None = None
    overlay: CellOverlay | None = None
    outlines: CellOverlay | None = None
    selected: CellOverlay | None = None
    picker: CellPicker = field(default_factory=lambda: CellPicker(None, np.zeros(0, int), None))
    centroids_um: NDArray[np.floating] | None = None
    message: str = ""
    channels: Sequence[Channel] = ()
    image: CellImage | None = None
    """What the layers were made of, for making them again."""

    def describe(self, row: int) -> str:
        """A cell in a few words: id, class with confidence where predicted, tumour probability, counts."""
        if self.table is None or row < 0:
            return ""
        obs = self.table.obs
        words = [f"cell {obs[keys.CELL_ID].iat[row] if keys.CELL_ID in obs else self.table.obs_names[row]}"]
        if keys.CLASS in obs:
            name, sure = obs[keys.CLASS].iat[row], obs[keys.CONFIDENCE].iat[row] if keys.CONFIDENCE in obs else None
            known = isinstance(name, str)
            words.append(name + ("" if sure is None else f" {sure:.2f}") if known else keys.UNASSIGNED)
        elif keys.CLUSTER in obs:
            words.append(f"cluster {obs[keys.CLUSTER].iat[row]}")
        if keys.TUMOUR in obs and np.isfinite(obs[keys.TUMOUR].iat[row]):
            words.append(f"tumour {obs[keys.TUMOUR].iat[row]:.2f}")
        if keys.N_COUNTS in obs:
            words.append(f"{int(obs[keys.N_COUNTS].iat[row])} counts")
        return " · ".join(words)

    def all_layers(self) -> list[Layer]:
        """The layers that stand for the section's own elements, bottom first."""
        cell_layers = [self.overlay and self.overlay.layer, self.outlines and self.outlines.layer, self.cells]
        return [*self.images, *(layer for layer in cell_layers if layer is not None)]

    def show(self, viewer: Viewer) -> None:
        """Put the layers into a viewer, with a scale bar; the cells are selected. From the GUI thread."""
        self.viewer = viewer
        self._add(self.all_layers())
        if self.section is not None and hasattr(viewer, "window"):
            from stplm_napari import spatialdata_dock

            spatialdata_dock.link(viewer, self.section)

    def add_cells(self, made: SectionLayers) -> None:
        """Draw the cells that :func:`cell_layers` made over the images that are shown already."""
        self.cells, self.overlay, self.outlines = made.cells, made.overlay, made.outlines
        self.picker, self.centroids_um, self.message = made.picker, made.centroids_um, made.message
        self.image = made.image
        self._add(self.all_layers()[len(self.images) :])

    def _add(self, layers: list[Layer]) -> None:
        """Put layers on top of what is there; the first ones set the view, which the user may have moved since."""
        viewer = self.viewer
        if viewer is None or not layers:
            return
        first = not any(layer in viewer.layers for layer in self.all_layers())
        for layer in layers:
            if layer in viewer.layers:  # it was there before its cells
                continue
            viewer.add_layer(layer)
            # napari's help names the keys of its paint modes, which choose our classes here.
            layer.help = viewer.help = ""
            if layer is self.cells:
                _spare_drawing(viewer, self.cells)
        if first:
            _scale_bar(viewer).visible = True
            viewer.reset_view()
        if self.cells is not None:
            viewer.layers.selection.active = self.cells

    def remove(self) -> None:
        """Take the layers out of the viewer; those the user removed already are skipped."""
        for layer in (*self.all_layers(), self.selected and self.selected.layer):
            self._take_out(layer)
        self.images, self.cells, self.overlay, self.outlines = [], None, None, None
        self.selected = None

    def show_selected(self, rows: NDArray[np.integer]) -> None:
        """Mark cells with a layer of their own, which goes when there are none."""
        if self.overlay is None or self.viewer is None:
            return
        if not len(rows):
            self._take_out(self.selected and self.selected.layer)
            self.selected = None
            return
        if self.selected is None or self.selected.layer not in self.viewer.layers:
            of = self.overlay
            self.selected = CellOverlay(
                of.levels,
                of.values,
                of.scale_um,
                of.translate_um,
                SELECTED,
                of.diameter_px,
                outline=2,
                affine=of.affine,
            )
            self.add_on_top(self.selected.layer)
        codes = np.full(len(self.selected.values), -1)
        codes[rows] = 0
        self.selected.show_classes(codes, [SELECTED_COLOUR])

    def add_on_top(self, layer: Layer) -> None:
        """Add a layer above the others; whichever was the selected one stays it."""
        if self.viewer is None:
            return
        active = self.viewer.layers.selection.active
        self.viewer.add_layer(layer)
        layer.help = self.viewer.help = ""
        self.viewer.layers.selection.active = active if active in self.viewer.layers else self.cells

    def _take_out(self, layer: Layer | None) -> None:
        if layer is not None and self.viewer is not None and layer in self.viewer.layers:
            active = self.viewer.layers.selection.active
            self.viewer.layers.remove(layer)
            if active in self.viewer.layers:
                self.viewer.layers.selection.active = active

    def fly_to_box(self, bounds_um: tuple[float, float, float, float]) -> None:
        """Centre the view on lowest x, lowest y, highest x, highest y in µm, with a margin."""
        if self.viewer is None:
            return
        x0, y0, x1, y1 = bounds_um
        camera, (height, width) = camera_of(self.viewer), canvas_size(self.viewer)
        camera.center = (0.0, (y0 + y1) / 2, (x0 + x1) / 2)
        camera.zoom = 0.8 * min(width / max(x1 - x0, 20.0), height / max(y1 - y0, 20.0))

    def fly_to(self, row: int, width_um: float = 120.0) -> None:
        """Centre the view on a cell, about ``width_um`` µm wide. Without positions, nothing happens."""
        if self.viewer is None or self.centroids_um is None or not np.isfinite(self.centroids_um[row]).all():
            return
        x, y = self.centroids_um[row]
        camera = camera_of(self.viewer)
        camera.center = (0.0, float(y), float(x))
        camera.zoom = max(camera.zoom, _CANVAS_PX / width_um)


def show_section(viewer: Viewer, section: SpatialData, prepared: PreparedSection | None = None) -> SectionLayers:
    """Add the layers of a section to a viewer: DAPI, then cells. Call it from the GUI thread.

    Parameters
    ----------
    viewer
        Layers are added on top of what is there.
    section
        As :func:`stplm.read_section` returns it.
    prepared
        What :func:`stplm_napari.prepare.prepare_section` made in a thread; without it, it is made here and now.

    Returns
    -------
    The layers. ``message`` says what is missing: masks, outlines, or positions (then there is no cell layer).
    """
    layers = make_layers(section, prepared)
    layers.show(viewer)
    return layers


def make_layers(section: SpatialData, prepared: PreparedSection | None = None) -> SectionLayers:
    """The layers of a section, in no viewer yet. May run in a thread. Parameters as for :func:`show_section`."""
    prepared = prepare_section(section) if prepared is None else prepared
    layers = SectionLayers(section, section.tables.get(keys.TABLE), message=prepared.message)
    layers.channels = prepared.channels
    layers.images = [_image(layers, channel, i) for i, channel in enumerate(prepared.channels)]
    if prepared.cells is not None:
        _add_cells(layers, prepared.cells)
    return layers


def cell_layers(section: SpatialData | None, cells: CellImage | None) -> SectionLayers:
    """The layers of a section's cells alone, in no viewer yet; of a million, this takes a second. May run in a thread.

    ``cells`` is None for a section without positions.
    """
    made = SectionLayers(section, None if section is None else section.tables.get(keys.TABLE))
    made.message = NO_POSITIONS if cells is None else cells.note
    if cells is not None:
        _add_cells(made, cells)
    return made


def image_layers(channels: Sequence[Channel]) -> SectionLayers:
    """The channels of an image whose cells are not known yet."""
    layers = SectionLayers(None, None)
    layers.images = [_image(layers, channel, i) for i, channel in enumerate(channels)]
    return layers


def _image(layers: SectionLayers, channel: Channel, i: int) -> Image:
    """The first channel (DAPI) is visible, the others are ready to be switched on."""
    from napari.layers import Image

    image = Image(
        list(channel.levels) if len(channel.levels) > 1 else channel.levels[0],
        multiscale=len(channel.levels) > 1,
        name=channel.name,
        colormap=_CHANNEL_MAPS[i % len(_CHANNEL_MAPS)],
        contrast_limits=channel.contrast,
        blending="translucent" if i == 0 else "additive",
        visible=i == 0,
        units=("um", "um"),
        metadata=_spatialdata_metadata(layers, channel.element, None),
        **channel.placement.napari(),
    )
    _stay_in_microns(image)
    return image


def _add_cells(layers: SectionLayers, cells: CellImage) -> None:
    """Colours, outlines and the (transparent) label image of the cells."""
    from napari.layers import Labels
    from napari.utils.colormaps import DirectLabelColormap

    place = cells.placement.napari()
    common = {
        "levels": cells.levels,
        "values": cells.values,
        "scale_um": place["scale"],
        "translate_um": place["translate"],
        "affine": place["affine"],
        "diameter_px": cells.diameter_px,
    }
    layers.image, layers.centroids_um = cells, cells.centroids_um
    layers.picker = CellPicker(cells.levels[0], cells.values, cells.centroids_um, cells.placement.to_pixel)
    layers.overlay = CellOverlay(name=COLOURS, **common)
    layers.outlines = CellOverlay(name=OUTLINES, outline=1, hide_small=True, **common)
    layers.outlines.show_uniform(_OUTLINE_COLOUR)
    layers.outlines.layer.opacity = 0.6
    clear = np.zeros(4)
    layers.cells = Labels(
        list(cells.levels) if len(cells.levels) > 1 else cells.levels[0],
        multiscale=len(cells.levels) > 1,
        name=CELLS,
        colormap=DirectLabelColormap(color_dict={None: clear, 0: clear}),
        units=("um", "um"),
        metadata=_spatialdata_metadata(layers, cells.element, cells.values),
        **place,
    )
    layers.cells.editable = False
    for layer in (layers.overlay.layer, layers.outlines.layer, layers.cells):
        _stay_in_microns(layer)
        _tell_about_cells(layer, layers)


def camera_of(viewer: Viewer) -> Any:
    """napari 0.9 moved it."""
    return viewer.scene.camera if hasattr(viewer, "scene") else viewer.camera


def canvas_size(viewer: Viewer) -> tuple[int, int]:
    """(height, width) in screen pixels. napari 0.9 moved it."""
    size = viewer.canvas.size if hasattr(viewer, "canvas") else viewer._canvas_size
    return int(size[0]), int(size[1])


def _spare_drawing(viewer: Viewer, layer: Labels) -> None:
    """A layer without a colour is not drawn, as long as it has none: a tenth of every frame where a processor draws."""
    visual = None
    with contextlib.suppress(AttributeError, KeyError):  # no window, or another napari's
        visual = viewer.window._qt_viewer.canvas.layer_to_visual[layer]
    if visual is None:
        return
    clear = layer.colormap

    def show() -> None:
        visual.node.visible = layer.visible and layer.colormap is not clear

    for event in (layer.events.visible, layer.events.colormap, layer.events.set_data):
        event.connect(show, position="last")
    show()


def _scale_bar(viewer: Viewer) -> Any:
    """napari 0.9 moved it."""
    return viewer.canvas.overlays.scale_bar if hasattr(viewer, "canvas") else viewer.scale_bar


def _tell_about_cells(layer: Layer, layers: SectionLayers) -> None:
    """The status bar speaks of the cell under the mouse, whichever of our layers is selected."""
    plain = layer.get_status

    def get_status(_: Layer, position: Any = None, **options: Any) -> dict[str, str]:
        status = plain(position, **options)
        if position is not None and options.get("world"):
            y, x = np.asarray(position)[-2:]
            row = layers.picker.cell_at((x, y), reach_um=0)
            words = layers.describe(row) or "no cell"
            status["coordinates"] = f"[{x:.1f}, {y:.1f}] µm: {words}"
            status["value"] = words
        return status

    layer.get_status = MethodType(get_status, layer)


def _stay_in_microns(layer: Layer) -> None:
    """napari-spatialdata gives layers its own affine when a coordinate system is chosen; ours are in µm already."""
    home = np.array(layer.affine.affine_matrix)

    def restore() -> None:
        if not np.allclose(layer.affine.affine_matrix, home):
            layer.affine = home

    layer.events.affine.connect(restore)


def _spatialdata_metadata(
    layers: SectionLayers, element: str | None, values: NDArray[np.integer] | None
) -> dict[str, Any]:
    """Metadata by which napari-spatialdata (0.5 to 0.7) recognises a layer of a SpatialData object.

    Painted cells belong to no element of the section: they carry the table alone, with the label values as instances.
    """
    table = layers.table
    annotated = values is not None and table is not None
    if element is not None and table is not None:
        adata = table if annotated and _annotates(table, element) else None
    else:
        adata = _table_of_painted(table, values) if annotated else None
    attrs = {} if adata is None else adata.uns[keys.ANNOTATION]
    metadata: dict[str, Any] = {
        "adata": adata,
        "name": element,
        "region_key": attrs.get("region_key"),
        "instance_key": attrs.get("instance_key"),
        "table_names": [keys.TABLE] if adata is not None else None,
        "_active_in_cs": {keys.MICRONS},
        "_current_cs": keys.MICRONS,
        "_columns_df": None,
        "indices": [] if values is None else np.sort(values).tolist(),
    }
    if element is not None and layers.section is not None:
        metadata["sdata"] = layers.section
    return metadata


def _annotates(table: AnnData, element: str) -> bool:
    attrs = table.uns.get(keys.ANNOTATION)
    return attrs is not None and element in np.atleast_1d(attrs["region"])


def _table_of_painted(table: AnnData | None, values: NDArray[np.integer] | None) -> AnnData | None:
    """The table with the painted label values as instance ids; counts and embeddings are shared, not copied."""
    import anndata

    if table is None:
        return None
    obs = table.obs.assign(**{keys.LABEL_VALUE: values, keys.REGION: CELLS})
    obs[keys.REGION] = obs[keys.REGION].astype("category")
    attrs = {"region": CELLS, "region_key": keys.REGION, "instance_key": keys.LABEL_VALUE}
    return anndata.AnnData(
        X=table.X, obs=obs, var=table.var, obsm=dict(table.obsm), uns={**table.uns, keys.ANNOTATION: attrs}
    )
