"""Lasso, polygon and brush on the canvas: mouse to shape. The session says which tool, a callback takes the shape."""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from stplm_napari.layers import SELECTED_COLOUR, camera_of
from stplm_napari.picking import DRAG_PX
from stplm_napari.session import Session
from stplm_napari.sketch import Sketch, scene_of
from stplm_napari.tools import BRUSH, CLEAR, LABEL, POLYGON, SELECT, SELECT_MORE, Shape

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LEFT, _MIDDLE = 1, 3
_STEP_PX = 2
"""A line gets a new point when the mouse has moved so many screen pixels."""
_COLOURS = {CLEAR: "#FFFFFF", SELECT: SELECTED_COLOUR, SELECT_MORE: SELECTED_COLOUR}


class Drawing:
    """Draws with the session's tool until :meth:`close`; ``on_shape(shape, does)`` gets what was drawn.

    The left button draws; the middle button, or the left one with Space held, moves the view; the wheel zooms as ever.
    With Shift, what is drawn clears labels (or adds to the selection) whatever the tool does.
    """

    def __init__(
        self, viewer: Any, session: Session, on_shape: Callable[[Shape, str], Any], is_free: Callable[[], bool]
    ) -> None:
        self._viewer, self._session = viewer, session
        self._on_shape, self._is_free = on_shape, is_free
        self._sketch = Sketch(scene_of(viewer))
        self._points: list[NDArray[np.float64]] = []
        self._does = ""
        self._moving = False
        self._has_pan = False
        self._undo_all: list[Callable[[], Any]] = []
        for callbacks, callback in (
            (viewer.mouse_drag_callbacks, self._on_press),
            (viewer.mouse_move_callbacks, self._on_move),
            (viewer.mouse_double_click_callbacks, self._on_double_click),
        ):
            callbacks.append(callback)
            self._undo_all.append(partial(_drop, callbacks, callback))
        session.tool_changed.connect(self._on_tool)
        self._undo_all.append(partial(session.tool_changed.disconnect, self._on_tool))
        viewer.layers.selection.events.active.connect(self._on_tool)
        self._undo_all.append(partial(viewer.layers.selection.events.active.disconnect, self._on_tool))
        self._on_tool()

    def close(self) -> None:
        """Give mouse and view back."""
        for undo in self._undo_all:
            undo()
        self._undo_all.clear()
        self.drop()
        self._sketch.remove()
        self._take_mouse(False)

    @property
    def is_drawing(self) -> bool:
        """Whether a shape has been begun."""
        return bool(self._points)

    @property
    def is_ready(self) -> bool:
        """Whether a drag with the left button would draw."""
        session = self._session
        return session.annotating and session.tool.draws and not self._moving and self._viewer.dims.ndisplay == 2

    def drop(self) -> None:
        """Forget what has been drawn."""
        self._points, self._does = [], ""
        self._sketch.clear()

    def finish(self) -> None:
        """Close the polygon; with fewer than three corners, drop it."""
        points, does = _without_repeats(self._points), self._does
        if self._session.tool.shape != POLYGON or not self._points:
            return
        self.drop()
        if len(points) >= 3:
            self._on_shape(Shape(points), does)

    def take_back(self) -> None:
        """Take the last corner of the polygon back."""
        if self._session.tool.shape == POLYGON and self._points:
            self._points.pop()
            self._show_polygon(None)

    def move_view(self, on: bool) -> None:
        """While on, the left button moves the view instead of drawing."""
        self._moving = on
        self._on_tool(keep=True)

    # --- mouse ---

    def _on_press(self, _: Any, event: Any) -> Generator[None, None, None]:
        if event.button == _MIDDLE and self.is_ready:
            yield from self._pan(event)
        elif event.button == _LEFT and self.is_ready and self._is_free():
            shape = self._session.tool.shape
            yield from self._corner(event) if shape == POLYGON else self._stroke(event)

    def _stroke(self, event: Any) -> Generator[None, None, None]:
        """Lasso and brush: from press to release."""
        tool = self._session.tool
        self._begin(event)
        last = start = np.asarray(event.pos, float)
        moved = 0.0
        self._show_stroke()
        yield
        while event.type == "mouse_move":
            if not self._points:  # dropped meanwhile
                return
            place = np.asarray(event.pos, float)
            if np.abs(place - last).max() >= _STEP_PX:
                last, moved = place, max(moved, float(np.abs(place - start).max()))
                self._points.append(_xy(event))
                self._show_stroke()
            yield
        if not self._points:
            return
        points, does = np.array(self._points), self._does
        self.drop()
        if tool.shape == BRUSH:
            self._on_shape(Shape(points, tool.radius_um), does)
        elif len(points) >= 3 and moved > DRAG_PX:  # else it was a click
            self._on_shape(Shape(points), does)

    def _corner(self, event: Any) -> Generator[None, None, None]:
        """Polygon: a click is a corner."""
        if not self._points:
            self._begin(event)
        else:
            self._points.append(_xy(event))
        self._show_polygon(None)
        yield

    def _on_move(self, _: Any, event: Any) -> None:
        if self._points and self._session.tool.shape == POLYGON:
            self._show_polygon(_xy(event))

    def _on_double_click(self, _: Any, event: Any) -> None:
        if event.button == _LEFT and self.is_ready:
            self.finish()

    def _pan(self, event: Any) -> Generator[None, None, None]:
        camera = camera_of(self._viewer)
        start, centre = np.asarray(event.pos, float), np.array(camera.center, float)
        yield
        while event.type == "mouse_move":
            shift = (np.asarray(event.pos, float) - start) / camera.zoom
            camera.center = (*centre[:-2], centre[-2] - shift[1], centre[-1] - shift[0])
            yield

    # --- inside ---

    def _begin(self, event: Any) -> None:
        does = self._session.tool.does
        if "Shift" in event.modifiers:
            does = {LABEL: CLEAR, SELECT: SELECT_MORE}.get(does, does)
        self._points, self._does = [_xy(event)], does

    @property
    def _colour(self) -> str:
        session = self._session
        active = next((c.colour for c in session.classes if c.name == session.active_class), "#FFFFFF")
        return _COLOURS.get(self._does, active)

    def _show_stroke(self) -> None:
        tool = self._session.tool
        if tool.shape == BRUSH:
            rings = Shape(np.array(self._points), tool.radius_um).rings()
            self._sketch.show([np.concatenate([ring, ring[:1]]) for ring in rings], self._colour)
        else:
            self._sketch.show([np.array([*self._points, self._points[0]])], self._colour)

    def _show_polygon(self, mouse: NDArray[np.float64] | None) -> None:
        corners = self._points if mouse is None else [*self._points, mouse]
        if not self._points:
            self._sketch.clear()
            return
        ring = np.array([*corners, corners[0]])
        knobs = [_knob(corner, 4 / camera_of(self._viewer).zoom) for corner in self._points]
        self._sketch.show([ring, *knobs], self._colour)

    def _on_tool(self, *_: Any, keep: bool = False) -> None:
        """The view stays under the left button unless the tool draws with it."""
        if self._points and not keep:
            self.drop()
        self._take_mouse(self.is_ready)
        if self.is_ready:
            cursor, tool = self._viewer.cursor, self._session.tool
            if tool.shape == BRUSH:
                _bare_circle(self._viewer)
                cursor.scaled, cursor.size, cursor.style = True, 2 * tool.radius_um, "circle"
            else:
                cursor.style = "crosshair"

    def _take_mouse(self, on: bool) -> None:
        """Take the left button from the view, and give it back only if it was us who took it."""
        camera = camera_of(self._viewer)
        if on:
            camera.mouse_pan, self._has_pan = False, True
        elif self._has_pan:
            camera.mouse_pan, self._has_pan = True, False
            self._viewer.cursor.style = "standard"


def _xy(event: Any) -> NDArray[np.float64]:
    y, x = event.position[-2:]
    return np.array([x, y], np.float64)


def _knob(corner: NDArray[np.float64], half: float) -> NDArray[np.float64]:
    """A small square around a corner."""
    return corner + half * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1], [-1, -1]])


def _without_repeats(points: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """The corners without those that a double click put twice."""
    found = np.array(points).reshape(-1, 2)
    return found[np.append(True, np.any(np.diff(found, axis=0) != 0, axis=1))] if len(found) else found


def _bare_circle(viewer: Any) -> None:
    """napari 0.9 puts a dark box behind the circle of a brush, and leaves it there when the circle goes."""
    circle = getattr(getattr(getattr(viewer, "canvas", None), "overlays", None), "_brush_circle", None)
    if circle is not None:
        circle.box = False


def _drop(callbacks: list[Any], callback: Any) -> None:
    if callback in callbacks:
        callbacks.remove(callback)
