"""A million points on a vispy scene: plain GL points of a few pixels, drawn through an index of those wanted.

vispy's own Markers shade every pixel of every mark: 5 times as slow where a processor draws.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from vispy import gloo
from vispy.scene.visuals import create_visual_node
from vispy.visuals import Visual

if TYPE_CHECKING:
    from numpy.typing import NDArray

_VERTEX = """
uniform float u_size;
uniform sampler2D u_palette;
attribute vec2 a_place;
attribute float a_code;
varying vec4 v_colour;
void main() {
    v_colour = texture2D(u_palette, vec2((a_code + 0.5) / 256.0, 0.5));
    gl_Position = v_colour.a > 0.0 ? $transform(vec4(a_place, 0.0, 1.0)) : vec4(2.0, 2.0, 2.0, 1.0);
    gl_PointSize = u_size;
}
"""
_FRAGMENT = """
uniform float u_size;
varying vec4 v_colour;
void main() {
    if (u_size > 3.5 && length(gl_PointCoord - 0.5) > 0.5) discard;
    gl_FragColor = vec4(v_colour.rgb, 1.0);
}
"""


class CellPointsVisual(Visual):  # type: ignore[misc]
    """Points in the colour of each, without blending; those of alpha 0 are left out.

    Colours are codes into a palette: a million points change theirs by 4 MB.

    Parameters
    ----------
    places
        (n, 2) float32; not to be changed afterwards.
    codes
        (n,) uint8.
    palette
        (256, 4) float32 in [0, 1]: the colour of each code.
    """

    def __init__(self, places: NDArray[np.float32], codes: NDArray[np.uint8], palette: NDArray[np.float32]) -> None:
        super().__init__(_VERTEX, _FRAGMENT)
        places_or_zero = places if len(places) else np.zeros((1, 2), np.float32)
        # A column at a time: numpy is ten times as slow along the longer axis.
        columns = places_or_zero[:, 0], places_or_zero[:, 1]
        self._low, self._high = [c.min() for c in columns], [c.max() for c in columns]
        self._draw_mode = "points"
        self._index_buffer = gloo.IndexBuffer(np.zeros(1, np.uint32))
        self._codes = gloo.VertexBuffer(codes.astype(np.float32))
        self._palette = gloo.Texture2D(palette[None], format="rgba", interpolation="nearest")
        self.shared_program["a_place"] = gloo.VertexBuffer(places)
        self.shared_program["a_code"] = self._codes
        self.shared_program["u_palette"] = self._palette
        self.shared_program["u_size"] = 2.0
        self.set_gl_state(depth_test=False, blend=False, cull_face=False)

    def show(self, which: NDArray[np.integer]) -> None:
        """Draw these points, in this order."""
        self._index_buffer.set_data(which.astype(np.uint32))
        self.visible = len(which) > 0
        self.update()

    def recolour(self, codes: NDArray[np.uint8], palette: NDArray[np.float32]) -> None:
        """Other codes, (n,) uint8, and their colours, (256, 4) float32 in [0, 1]."""
        self._codes.set_data(codes.astype(np.float32))
        self._palette.set_data(palette[None])
        self.update()

    def resize(self, pixels: float) -> None:
        """Width of a point in pixels of the screen."""
        self.shared_program["u_size"] = pixels
        self.update()

    def _prepare_transforms(self, view: Any) -> None:
        view.view_program.vert["transform"] = view.transforms.get_transform()

    def _compute_bounds(self, axis: int, view: Any) -> tuple[float, float]:
        return (float(self._low[axis]), float(self._high[axis])) if axis < 2 else (0.0, 0.0)


CellPoints = create_visual_node(CellPointsVisual)
"""The visual as a node of a scene."""
