"""The map on the screen: a vispy canvas of all cells, moved and zoomed with the mouse, with a lasso. No session."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QEvent, QPoint, Qt, QTimer, Signal
from qtpy.QtWidgets import QSizePolicy, QToolTip, QVBoxLayout, QWidget
from vispy.gloo import gl
from vispy.scene import PanZoomCamera, SceneCanvas

from stplm_napari.picking import DRAG_PX
from stplm_napari.points import CellPoints
from stplm_napari.sketch import Sketch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stplm_napari.mapping import Places

_LEFT, _MIDDLE = 1, 3
_WHILE_MOVING, _AT_FIRST = 40_000, 120_000
"""Points that are drawn while the view moves, and when it has come to rest for the first time."""
_LONGEST_S = 0.08
"""A frame that takes longer gets no more points; a graphics card draws all of a million well within it."""
_REST_MS, _HOVER_MS = 120, 80
_REACH_PX = 7.0
_STEP_PX = 2
_MOST_ARROWS = 2_000


class MapView(QWidget):
    """Draws cells at their places and says what the mouse does there, in the map's own coordinates.

    Of a large section a random part is drawn: few points while the view moves, as many as a frame has time for when it
    rests, of those in view, so that zooming in shows them all. Nothing but the drawing depends on it.
    """

    lassoed = Signal(object, bool)
    """(n, 2) corners; whether Shift was down."""
    clicked = Signal(float, float, bool)
    double_clicked = Signal(float, float)
    hovered = Signal(float, float)
    key_pressed = Signal(str, object)
    """The key's name or text, and the modifiers down."""
    asked_for_menu = Signal(object)
    """Where on the screen."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.canvas = _Canvas(self)
        self.view = self.canvas.central_widget.add_view()
        self.view.camera = PanZoomCamera(aspect=1)
        self.view.camera.interactive = False  # the mouse is ours: see below
        self.sketch = Sketch(self.view.scene)
        self.lasso_colour = "#FFFFFF"
        self.moves_view = False
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.canvas.native)
        self.canvas.native.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        # vispy's canvas asks for 600 pixels; here it takes what the dock has left.
        self.canvas.native.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Ignored)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMinimumHeight(280)
        self._places: Places | None = None
        self._xy = np.zeros((0, 2), np.float32)
        self._order = np.zeros(0, np.int64)
        self._drawable = np.zeros(0, bool)
        self._cells: Any = None
        self._marked: Any = None
        self._marks = np.zeros(0, np.int64)
        self._arrows: list[Any] = []
        self._budget = _AT_FIRST
        self._n_drawn = 0
        self._waits = False
        self._pressed: tuple[NDArray[np.float64], int, bool] | None = None
        self._moved = 0.0
        self._line: list[NDArray[np.float64]] = []
        self._space = False
        self._frame = 0
        self._rest, self._more = _timer(self, _REST_MS, self._draw_at_rest), _timer(self, _REST_MS, self._draw_more)
        self._hover = _timer(self, _HOVER_MS, self._say_hovered)
        self._at = np.zeros(2)
        for name in ("mouse_press", "mouse_move", "mouse_release", "mouse_double_click", "mouse_wheel"):
            getattr(self.canvas.events, name).connect(getattr(self, f"_on_{name}"))
        self.canvas.events.key_press.connect(self._on_key_press)
        self.canvas.events.key_release.connect(self._on_key_release)
        self.canvas.events.resize.connect(lambda _: self._draw_moving())

    # --- what is shown ---

    @contextlib.contextmanager
    def one_draw(self) -> Iterator[None]:
        """Several changes at once: the cells are drawn when all are made."""
        self._waits = True
        try:
            yield
        finally:
            self._waits = False
            self._draw_at_rest()

    def show_places(self, places: Places) -> None:
        """Put points there, to be drawn in that order; they are grey until :meth:`show_colours`."""
        self._remove_points()
        self._places, self._order, self._xy = places, places.rows, places.xy
        self._drawable = np.ones(len(self._order), bool)
        self._budget = _AT_FIRST
        if len(self._xy):
            self._cells = CellPoints(self._xy, *_in_one_colour(len(self._xy), (0.5, 0.5, 0.5)), parent=self.view.scene)
        self.show_all()

    def show_colours(self, codes: NDArray[np.uint8], palette: NDArray[np.float32]) -> None:
        """A code for each row, and the (256, 4) colours of the codes in [0, 1]; those of alpha 0 are not drawn."""
        if self._cells is not None:
            drawn = codes[self._order]
            self._drawable = (palette[:, 3] > 0)[drawn]
            self._cells.recolour(drawn, palette)
            self._draw_at_rest()

    def show_marked(self, rows: NDArray[np.int64], colour: tuple[float, float, float]) -> None:
        """Draw these rows on top, a little larger, in one colour."""
        is_marked = np.zeros(int(self._order.max(initial=-1)) + 1, bool)
        is_marked[rows[rows < len(is_marked)]] = True
        self._marks = np.flatnonzero(is_marked[self._order])
        if self._marked is not None:
            self._marked.parent = None
            self._marked = None
        if len(self._marks):
            colours = _in_one_colour(len(self._marks), colour)
            self._marked = CellPoints(self._xy[self._marks], *colours, parent=self.view.scene)
            self._marked.order = 1
        self._draw_at_rest()

    def show_arrows(self, from_xy: NDArray[np.floating], to_xy: NDArray[np.floating], colour: str = "#FFFFFF") -> None:
        """Draw arrows between (n, 2) places and (n, 2) places, 2,000 of them at most; none by empty arrays."""
        from vispy.scene.visuals import Arrow

        for arrow in self._arrows:
            arrow.parent = None
        self._arrows = []
        start, end = np.asarray(from_xy, np.float32).reshape(-1, 2), np.asarray(to_xy, np.float32).reshape(-1, 2)
        usable = np.flatnonzero(np.isfinite(start).all(axis=1) & np.isfinite(end).all(axis=1))
        if len(usable) > _MOST_ARROWS:
            usable = np.sort(np.random.default_rng(0).choice(usable, _MOST_ARROWS, replace=False))
        if len(usable):
            ends = np.stack([start[usable], end[usable]], axis=1)
            arrow = Arrow(
                ends.reshape(-1, 2),
                connect="segments",
                color=colour,
                width=1.5,
                method="gl",
                arrows=ends.reshape(-1, 4),
                arrow_type="triangle_60",
                arrow_size=6.0,
                arrow_color=colour,
                parent=self.view.scene,
            )
            arrow.order = 2
            arrow.set_gl_state("translucent", depth_test=False)
            self._arrows = [arrow]
        self.canvas.update()

    def show_background(self, colour: str) -> None:
        """Colour of the canvas."""
        self.canvas.bgcolor = colour

    def show_all(self) -> None:
        """Zoom so that all cells are in view."""
        if self._places is not None and len(self._xy):
            low, high = self._places.low, self._places.high
            size = np.maximum(high - low, 1e-3)
            self.visible = (*(low - 0.04 * size), *(1.08 * size))

    @property
    def visible(self) -> tuple[float, float, float, float]:
        """The part of the map that is looked at: left, bottom, width, height."""
        rect = self.view.camera.rect
        return rect.left, rect.bottom, rect.width, rect.height

    @visible.setter
    def visible(self, window: tuple[float, float, float, float]) -> None:
        self.view.camera.rect = tuple(map(float, window))
        self._draw_at_rest()

    @property
    def n_drawn(self) -> int:
        """Points in the last frame, those on top not counted."""
        return self._n_drawn

    def picture(self) -> NDArray[np.uint8]:
        """What is shown, (rows, columns, 4)."""
        self._draw(len(self._xy))
        picture = np.asarray(self.canvas.render())
        self._draw_at_rest()
        return picture

    def place_of(self, pixel: Any) -> NDArray[np.float64]:
        """From a place on the canvas, in pixels from the upper left, to the map."""
        return np.asarray(self._transform().map([*np.asarray(pixel, float)[:2], 0, 1])[:2])

    def pixel_of(self, place: Any) -> NDArray[np.float64]:
        """The way back."""
        return np.asarray(self._transform().imap([*np.asarray(place, float)[:2], 0, 1])[:2])

    @property
    def reach(self) -> float:
        """How far from a cell the mouse may be to mean it, on the map."""
        a, b = self.place_of((0, 0)), self.place_of((_REACH_PX, 0))
        return float(abs(b[0] - a[0]))

    def let_go(self) -> None:
        """Give the graphics memory back."""
        for timer in (self._rest, self._more, self._hover):
            timer.stop()
        with contextlib.suppress(RuntimeError):  # Qt may have been quicker
            self.canvas.close()

    def event(self, event: QEvent) -> bool:
        """Qt's: the canvas goes before its window does."""
        if event.type() == QEvent.Type.DeferredDelete:
            self.let_go()
        return super().event(event)

    # --- how many points ---

    def _draw_moving(self) -> None:
        self._draw(_WHILE_MOVING)
        self._rest.start()

    def _draw_at_rest(self) -> None:
        """As many points as there is time for; more of them after a frame that was quick."""
        if self._waits:
            return
        if self._draw(self._budget) > self._budget:
            self._frame = self.canvas.n_frames
            self._more.start()

    def _draw_more(self) -> None:
        if self._pressed is not None or self._frame == self.canvas.n_frames:
            return
        if self.canvas.seconds < _LONGEST_S / 2:
            self._budget *= 2
            self._draw_at_rest()
        elif self.canvas.seconds > 2 * _LONGEST_S:  # from the next frame on
            self._budget = max(_WHILE_MOVING, self._budget // 2)

    def _draw(self, most: int) -> int:
        """Draw at most so many of the cells in view; how many there are."""
        if self._cells is None:
            return 0
        left, bottom, width, height = self._in_view()
        x, y = self._xy[:, 0], self._xy[:, 1]
        inside = (x >= left) & (x <= left + width) & (y >= bottom) & (y <= bottom + height) & self._drawable
        which = np.flatnonzero(inside)
        size = _point_size(len(which))
        self._cells.show(which[:most])
        self._cells.resize(size * self.canvas.pixel_scale)
        if self._marked is not None:
            self._marked.show(np.arange(min(len(self._marks), most)))
            self._marked.resize((size + 1.5) * self.canvas.pixel_scale)
        self._n_drawn = min(len(which), most)
        return len(which)

    def _in_view(self) -> tuple[float, float, float, float]:
        """The window, and what the canvas shows beyond it where it has another shape."""
        a, b = self.place_of((0, 0)), self.place_of(self.canvas.size)
        return min(a[0], b[0]), min(a[1], b[1]), abs(b[0] - a[0]), abs(b[1] - a[1])

    def _remove_points(self) -> None:
        for points in (self._cells, self._marked):
            if points is not None:
                points.parent = None
        self._cells = self._marked = None
        self._marks = np.zeros(0, np.int64)

    def _transform(self) -> Any:
        return self.canvas.scene.node_transform(self.view.scene)

    # --- mouse: the left button draws a lasso, or moves the view; middle and Space move it; the wheel zooms ---

    def _on_mouse_press(self, event: Any) -> None:
        if event.button not in (_LEFT, _MIDDLE):
            self.asked_for_menu.emit(self.canvas.native.mapToGlobal(QPoint(*map(int, event.pos))))
            return
        QToolTip.hideText()
        self._hover.stop()
        place = np.asarray(event.pos, float)
        moves = event.button == _MIDDLE or self.moves_view or self._space
        self._pressed, self._moved = (place, event.button, moves), 0.0
        self._at = place
        self._line = [] if moves else [self.place_of(place)]

    def _on_mouse_move(self, event: Any) -> None:
        place = np.asarray(event.pos, float)
        if self._pressed is None:
            self._at = place
            self._hover.start()
            return
        start, _, moves = self._pressed
        self._moved = max(self._moved, float(np.abs(place - start).max()))
        if moves:
            self.view.camera.pan(self.place_of(self._at) - self.place_of(place))
            self._at = place
            self._draw_moving()
        elif self._line and np.abs(place - self._at).max() >= _STEP_PX:
            self._at = place
            self._line.append(self.place_of(place))
            self.sketch.show([np.array([*self._line, self._line[0]])], self.lasso_colour)
            self._draw_moving()

    def _on_mouse_release(self, event: Any) -> None:
        if self._pressed is None:
            return
        (_, button, _), line = self._pressed, self._line
        self._pressed = None
        self.drop()
        more = "Shift" in {m.name for m in event.modifiers}
        if self._moved <= DRAG_PX:
            if button == _LEFT:
                self.clicked.emit(*self.place_of(event.pos), more)
        elif len(line) >= 3:
            self.lassoed.emit(np.array(line), more)

    def _on_mouse_double_click(self, event: Any) -> None:
        if event.button == _LEFT:
            self.double_clicked.emit(*self.place_of(event.pos))

    def _on_mouse_wheel(self, event: Any) -> None:
        self.view.camera.zoom(1.25 ** -event.delta[1], self.place_of(event.pos))
        self._draw_moving()

    def drop(self) -> bool:
        """Forget the line being drawn; whether there was one."""
        had = bool(self._line) and self._pressed is not None
        self._line = []
        self.sketch.clear()
        return had

    def _say_hovered(self) -> None:
        if self._pressed is None:
            self.hovered.emit(*self.place_of(self._at))

    # --- keys ---

    def _on_key_press(self, event: Any) -> None:
        if event.key is None:
            return
        name = event.key.name
        self._space = self._space or name == "Space"
        if name == "Escape" and self.drop():
            return
        self.key_pressed.emit(event.text if event.text == "?" else name, {m.name for m in event.modifiers})

    def _on_key_release(self, event: Any) -> None:
        if event.key is not None and event.key.name == "Space":
            self._space = False


def _in_one_colour(n: int, colour: tuple[float, float, float]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Codes and palette of n points."""
    return np.zeros(n, np.uint8), np.tile(np.array([*colour, 1.0], np.float32), (256, 1))


class _Canvas(SceneCanvas):  # type: ignore[misc]
    """A canvas that knows how long its last frame took."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent=parent, keys=None, show=False)
        self.unfreeze()
        self.seconds, self.n_frames = 0.0, 0

    def on_draw(self, event: Any) -> None:
        """vispy's."""
        start = time.perf_counter()
        super().on_draw(event)
        gl.glFinish()
        self.seconds = time.perf_counter() - start
        self.n_frames += 1


def _point_size(n: int) -> float:
    """Pixels of a point where so many are in view: few are large enough to click."""
    return float(np.clip(20 / max(n, 1) ** 0.19, 1.5, 7.0))


def _timer(parent: QWidget, ms: int, slot: Any) -> QTimer:
    made = QTimer(parent)
    made.setSingleShot(True)
    made.setInterval(ms)
    made.timeout.connect(slot)
    return made
