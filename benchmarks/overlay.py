"""Time to recolour all cells: the lookup-table overlay against a DirectLabelColormap and a Points layer.

All three show the same cells in the same window, one after the other. "Set" is the call that changes the colours,
"draw" the frame that shows them; medians. Needs a display:

    xvfb-run -s "-screen 0 1600x1000x24" python benchmarks/overlay.py --cells 100000
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np

_CELL_PX = 12


def main() -> None:
    """Print one line per way."""
    import napari
    from napari.utils.colormaps import DirectLabelColormap

    from stplm.spatial.raster import label_pyramid
    from stplm_napari.overlay import CellOverlay, warm_up

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=100_000)
    parser.add_argument("--classes", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()

    side = int(np.ceil(np.sqrt(args.cells)))
    labels, n = squares(side), side * side
    levels = [np.ascontiguousarray(level) for level in label_pyramid(labels)]
    values = np.arange(1, n + 1)
    rng = np.random.default_rng(0)
    palette = rng.random((args.classes, 3))
    palette = np.concatenate([palette, np.ones((args.classes, 1))], axis=1).astype(np.float32)
    viewer = napari.Viewer(show=True)
    viewer.window.resize(1200, 800)
    print(f"{n:,} cells, {labels.shape[0]} x {labels.shape[1]} pixels, {args.classes} classes, {args.repeats} repeats")

    def codes() -> np.ndarray:
        return rng.integers(0, args.classes, n)

    warm_up(labels.dtype)
    overlay = CellOverlay(levels, values, diameter_px=_CELL_PX)
    viewer.add_layer(overlay.layer)
    measure("lookup table", viewer, lambda: overlay.show_classes(codes(), palette), args.repeats)
    viewer.layers.clear()

    layer = viewer.add_labels(levels, multiscale=True)

    def direct() -> None:
        chosen = palette[codes()]
        table = {None: np.zeros(4), **dict(zip(values.tolist(), chosen, strict=True))}
        layer.colormap = DirectLabelColormap(color_dict=table)

    measure("DirectLabelColormap", viewer, direct, min(3, args.repeats))
    viewer.layers.clear()

    centres = np.stack(np.divmod(np.arange(n), side), axis=1) * _CELL_PX + _CELL_PX / 2
    points = viewer.add_points(centres, size=_CELL_PX, border_width=0)

    def as_points() -> None:
        points.face_color = palette[codes()]

    measure("Points", viewer, as_points, min(3, args.repeats))
    viewer.close()


def squares(side: int) -> np.ndarray:
    """int32 label image of ``side`` x ``side`` square cells with a pixel of background between them."""
    cell = np.repeat(np.arange(side, dtype=np.int32), _CELL_PX)
    image = cell[:, None] * side + cell[None, :] + 1
    inside = np.arange(len(cell)) % _CELL_PX != 0
    image[~inside] = 0
    image[:, ~inside] = 0
    return image


def measure(name: str, viewer: object, recolour: Callable[[], None], repeats: int) -> None:
    """Time the call and the frame after it, at the overview and zoomed in."""
    for view in ("overview", "100 um"):
        viewer.reset_view()
        if view != "overview":
            viewer.scene.camera.zoom = 8
        viewer.screenshot(flash=False)
        set_ms, draw_ms = [], []
        for _ in range(repeats):
            start = time.perf_counter()
            recolour()
            middle = time.perf_counter()
            viewer.screenshot(flash=False)
            set_ms.append(1000 * (middle - start))
            draw_ms.append(1000 * (time.perf_counter() - middle))
        set_, draw = statistics.median(set_ms), statistics.median(draw_ms)
        print(f"  {name:20s} {view:9s} set {set_:9.1f} ms   draw {draw:8.1f} ms")


if __name__ == "__main__":
    main()
