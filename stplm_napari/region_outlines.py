"""The drawn regions on the canvas: outlines in their class's colour, with their names.

Lines on napari's scene and no Shapes layer: they keep their width on the screen at any zoom, cost little to change, and
cannot be dragged out of step with the session by napari's own tools.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stplm_napari.session import Session
from stplm_napari.sketch import scene_of

NO_CLASS_COLOUR = "#C8C8C8"
_ORDER = 5_000
_WIDTH_PX, _RIM_PX = 2.5, 5.0
_FONT_SIZE = 10


class RegionOutlines:
    """Keeps what is drawn equal to the session's regions until :meth:`close`."""

    def __init__(self, viewer: Any, session: Session) -> None:
        self._scene, self._session = scene_of(viewer), session
        self._rim: Any = None
        self._line: Any = None
        self._names: Any = None
        for signal in (session.regions_changed, session.classes_changed):
            signal.connect(self.refresh)
        self.refresh()

    def close(self) -> None:
        """Follow the session no more, and take the outlines away."""
        for signal in (self._session.regions_changed, self._session.classes_changed):
            signal.disconnect(self.refresh)
        for visual in self._visuals:
            visual.parent = None
        self._rim = self._line = self._names = None

    def refresh(self) -> None:
        """Draw the regions that there are now."""
        session = self._session
        regions = session.annotations.regions if session.regions_shown else ()
        if self._scene is None or (not regions and self._line is None):
            return
        if not regions:
            for visual in self._visuals:
                visual.visible = False
            return
        from vispy.color import ColorArray

        if self._line is None:
            self._make()
        colours = {c.name: c.colour for c in session.classes}
        inks = [colours.get(region.class_name, NO_CLASS_COLOUR) for region in regions]
        rings, owners, tops = [], [], []
        for i, region in enumerate(regions):
            arrays = region.arrays()
            rings += [np.concatenate([ring, ring[:1]]) for ring in arrays]
            owners += [i] * len(arrays)
            tops.append(arrays[0][arrays[0][:, 1].argmin()])
        lengths = [len(ring) for ring in rings]
        points = np.concatenate(rings).astype(np.float32)
        joined = np.ones(len(points), bool)
        joined[np.cumsum(lengths) - 1] = False
        ink = ColorArray(inks).rgba.astype(np.float32)[np.repeat(owners, lengths)]
        self._rim.set_data(pos=points, connect=joined)
        self._line.set_data(pos=points, color=ink, connect=joined)
        self._names.text = [region.name for region in regions]
        self._names.pos = np.array(tops, np.float32)
        self._names.color = ColorArray([_light(ink) for ink in inks])
        for visual in self._visuals:
            visual.visible = True

    @property
    def _visuals(self) -> tuple[Any, ...]:
        return () if self._line is None else (self._rim, self._line, self._names)

    def _make(self) -> None:
        from vispy.scene.visuals import Line, Text

        nothing = np.zeros((2, 2), np.float32)
        self._rim = Line(nothing, color="#00000090", width=_RIM_PX, method="gl", parent=self._scene)
        self._line = Line(nothing, width=_WIDTH_PX, method="gl", parent=self._scene)
        self._names = Text(
            "", font_size=_FONT_SIZE, bold=True, anchor_x="center", anchor_y="bottom", parent=self._scene
        )
        for i, visual in enumerate(self._visuals):
            visual.order = _ORDER + i
            visual.set_gl_state("translucent", depth_test=False)


def _light(colour: str) -> str:
    """Half way to white, so that a name reads on tissue of its own colour."""
    return "#" + "".join(f"{(int(colour[i : i + 2], 16) + 255) // 2:02X}" for i in (1, 3, 5))
