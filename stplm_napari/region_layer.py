"""The drawn regions on the canvas: one Shapes layer of outlines in their class's colour, with their names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from stplm_napari.layers import SectionLayers, camera_of
from stplm_napari.session import Session

if TYPE_CHECKING:
    from napari.layers import Shapes

REGIONS = "Regions"
NO_CLASS_COLOUR = "#C8C8C8"
_WIDTH_PX = 2.5
_REDRAW_RATIO = 1.2


class RegionLayer:
    """Keeps the layer equal to the session's regions until :meth:`let_go`; there is a layer only while there are any.

    Outlines keep their width on the screen at every zoom. The layer cannot be edited: regions change by steps.
    """

    def __init__(self, viewer: Any, layers: SectionLayers, session: Session) -> None:
        self._viewer, self._layers, self._session = viewer, layers, session
        self._camera = camera_of(viewer)
        self._zoom = 0.0
        session.regions_changed.connect(self.refresh)
        session.classes_changed.connect(self.refresh)
        self._camera.events.zoom.connect(self._on_zoom)
        self.refresh()

    def let_go(self) -> None:
        """Follow the session no more; the layer stays."""
        self._session.regions_changed.disconnect(self.refresh)
        self._session.classes_changed.disconnect(self.refresh)
        self._camera.events.zoom.disconnect(self._on_zoom)

    def refresh(self) -> None:
        """Draw the regions that there are now."""
        regions = self._session.annotations.regions
        layer = self._layers.regions
        if not regions:
            self._layers.remove_regions()
            return
        import pandas as pd

        colours = {c.name: c.colour for c in self._session.classes}
        paths, inks, names = [], [], []
        for region in regions:
            for i, ring in enumerate(region.arrays()):
                paths.append(np.concatenate([ring, ring[:1]])[:, ::-1])
                inks.append(colours.get(region.class_name, NO_CLASS_COLOUR))
                names.append("" if i else region.name)
        if layer is None or layer not in self._viewer.layers:
            layer = self._layers.regions = _new_layer()
            self._layers.add_on_top(layer)
        self._zoom = self._camera.zoom
        layer.data = []
        layer.add(paths, shape_type="path", edge_width=_WIDTH_PX / self._zoom, edge_color=inks)
        layer.features = pd.DataFrame({"region": names, "colour": inks})
        layer.text.color = {"feature": "colour"}
        layer.refresh_text()
        layer.selected_data = set()
        layer.editable = False

    def _on_zoom(self, *_: Any) -> None:
        layer = self._layers.regions
        ratio = self._camera.zoom / self._zoom if self._zoom else 1.0
        if layer is not None and not 1 / _REDRAW_RATIO < ratio < _REDRAW_RATIO:
            self._zoom = self._camera.zoom
            layer.edge_width = [_WIDTH_PX / self._zoom] * len(layer.data)


def _new_layer() -> Shapes:
    import pandas as pd
    from napari.layers import Shapes

    return Shapes(
        [],
        ndim=2,
        name=REGIONS,
        units=("um", "um"),
        features=pd.DataFrame({"region": [], "colour": []}),
        text={"string": "{region}", "size": 11, "anchor": "upper_left", "color": "white"},
    )
