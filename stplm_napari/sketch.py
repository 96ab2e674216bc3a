"""The shape under the mouse while it is drawn: a line on the scene, in no layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ON_TOP = 10_000


class Sketch:
    """Lines over everything else in a vispy scene, in a colour with a dark rim; nothing where there is no scene."""

    def __init__(self, scene: Any) -> None:
        self._scene = scene
        self._lines: tuple[Any, ...] = ()

    def show(self, lines: Sequence[NDArray[np.floating]], colour: str) -> None:
        """Draw (n, 2) x, y each, instead of what was there."""
        lines = [line for line in lines if len(line) > 1]
        if not lines or self._scene is None:
            self.clear()
            return
        if not self._lines:
            self._lines = (self._line(5.0, 0), self._line(2.0, 1))
        points = np.concatenate(lines).astype(np.float32)
        ends = np.cumsum([len(line) for line in lines])
        joined = np.ones(len(points), bool)
        joined[ends - 1] = False
        for line, ink in zip(self._lines, ("#00000090", colour), strict=True):
            line.set_data(pos=points, color=ink, connect=joined)
            line.visible = True

    def clear(self) -> None:
        """Draw nothing."""
        for line in self._lines:
            line.visible = False

    def remove(self) -> None:
        """Take the lines out of the scene."""
        for line in self._lines:
            line.parent = None
        self._lines = ()

    def _line(self, width_px: float, order: int) -> Any:
        from vispy.scene.visuals import Line

        line = Line(np.zeros((2, 2), np.float32), width=width_px, method="gl", antialias=False, parent=self._scene)
        line.order = _ON_TOP + order
        line.set_gl_state("translucent", depth_test=False)
        return line


def scene_of(viewer: Any) -> Any:
    """napari's vispy scene, whose coordinates are (x, y) in world units; None where there is none."""
    try:
        return viewer.window._qt_viewer.canvas.view.scene
    except AttributeError:
        return None
