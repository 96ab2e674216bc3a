"""One open section on a viewer's canvas: its layers follow the session, clicks and keys go to the session."""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from stplm.errors import StplmError
from stplm_napari.annotations import KEYS
from stplm_napari.colourings import BOTH, CELLS
from stplm_napari.drawing import Drawing
from stplm_napari.paint import paint, paint_style
from stplm_napari.picking import DRAG_PX, distance_px, install_click
from stplm_napari.region_outlines import RegionOutlines
from stplm_napari.session import Session
from stplm_napari.shortcuts import ACCEPT_KEY, MODE_KEYS, NEXT_KEY, SKIP_KEY, TOOL_KEYS
from stplm_napari.tools import BRUSH, CLEAR, CLICK, LABEL, LASSO, SELECT, Shape

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from stplm_napari.layers import SectionLayers
    from stplm_napari.suggesting import Suggesting

_RIGHT = 2


class Canvas:
    """Ties the layers of a section to a session until :meth:`close`.

    While the session is annotating, a click on a cell does what the session's tool does (gives it the active class),
    a right click takes its label away, and drawn shapes go to ``on_shape(shape, does)``. The keys are those of
    :mod:`stplm_napari.shortcuts`.
    """

    def __init__(
        self,
        viewer: Viewer,
        layers: SectionLayers,
        session: Session,
        on_shape: Callable[[Shape, str], Any] = lambda shape, does: None,
        suggesting: Suggesting | None = None,
    ) -> None:
        self._suggesting = suggesting
        self.layers, self._viewer, self._session = layers, viewer, session
        self._style: tuple[Any, ...] = (BOTH, 1, True)
        self._undo_all: list[Callable[[], Any]] = []
        self.regions = RegionOutlines(viewer, session)
        self._undo_all.append(self.regions.close)
        self.drawing = Drawing(viewer, session, on_shape, self._free)
        self._undo_all.append(self.drawing.close)
        session.selection_changed.connect(self._show_selected)
        self._undo_all.append(partial(session.selection_changed.disconnect, self._show_selected))
        for signal in (
            session.embedded,
            session.labels_changed,
            session.predicted,
            session.colouring_changed,
            session.sources_changed,
        ):
            signal.connect(self.recolour)
            self._undo_all.append(partial(signal.disconnect, self.recolour))
        self._undo_all.append(install_click(viewer, layers, self._on_click))
        self._undo_all.append(self._install_right_click())
        self._bind_keys()
        self._show_selected()
        self.recolour()

    def recolour(self) -> None:
        """Paint the cells as the session says."""
        overlay, outlines, how = self.layers.overlay, self.layers.outlines, self._session.colouring
        if overlay is not None and outlines is not None:
            # Only when it changes: the user may move napari's own sliders and eyes too.
            if (style := (how.style, how.outline_px, how.by == CELLS)) != self._style:
                self._style = style
                paint_style(overlay, outlines, self._session)
            paint(overlay, self._session)
            self._session.painted.emit()

    def _show_selected(self) -> None:
        self.layers.show_selected(self._session.selected)

    def close(self) -> None:
        """Let go of session, mouse and keys, and take the layers out."""
        self.let_go()
        self.layers.remove()

    def let_go(self) -> None:
        """Follow the session no more; the layers stay as they are."""
        for undo in self._undo_all:
            undo()
        self._undo_all.clear()

    # --- mouse ---

    def _on_click(self, row: int, event: Any) -> None:
        session, tool = self._session, self._session.tool
        if not session.annotating or not self._free() or tool.shape not in (CLICK, LASSO):
            return
        if tool.does == SELECT:
            session.select(np.setxor1d(session.selected, [row]))
        elif tool.does == CLEAR or (tool.does == LABEL and "Shift" in event.modifiers):
            self._try(lambda: session.clear_rows([row]))
        elif tool.does == LABEL:
            self._try(lambda: session.label_rows([row]))

    def _on_right_click(self, row: int) -> None:
        if self._session.annotating and self._free():
            self._try(lambda: self._session.clear_rows([row]))

    def _install_right_click(self) -> Callable[[], None]:
        callbacks = self._viewer.mouse_drag_callbacks

        def on_press(_: Any, event: Any) -> Generator[None, None, None]:
            if event.button != _RIGHT:
                return
            start, moved = np.asarray(event.pos, float), 0.0
            yield
            while event.type == "mouse_move":
                moved = max(moved, distance_px(start, event))
                yield
            if max(moved, distance_px(start, event)) <= DRAG_PX:
                y, x = event.position[-2:]
                if (row := self.layers.picker.cell_at((x, y))) >= 0:
                    self._on_right_click(row)

        callbacks.append(on_press)
        return lambda: callbacks.remove(on_press) if on_press in callbacks else None

    def _free(self) -> bool:
        """Not while the user draws on some other layer."""
        active = self._viewer.layers.selection.active
        return active is None or str(getattr(active, "mode", "pan_zoom")) == "pan_zoom"

    # --- keys ---

    def _bind_keys(self) -> None:
        """On the viewer and on our layers, whose own digits (napari's paint modes) would go first."""
        actions: dict[str, Callable[[], Any]] = {key: partial(self._choose, key) for key in KEYS}
        actions["Control-Z"] = lambda: self._try(self._session.annotations.undo)
        actions["Control-Shift-Z"] = lambda: self._try(self._session.annotations.redo)
        actions |= {key: partial(self._session.use, shape=shape) for shape, key in TOOL_KEYS.items()}
        actions |= {key: partial(self._toggle, does) for does, key in MODE_KEYS.items()}
        actions |= {"[": partial(self._resize, -1), "]": partial(self._resize, 1)}
        if self._suggesting is not None:
            asks = self._suggesting
            actions |= {NEXT_KEY: asks.next, ACCEPT_KEY: asks.accept, SKIP_KEY: asks.skip}
        actions |= {"Enter": self._enter, "Backspace": self.drawing.take_back, "Escape": self._escape}
        bindings: dict[str, Callable[[Any], Any]] = {key: _binding(action) for key, action in actions.items()}
        bindings["Space"] = _held(self.drawing.move_view)
        for target in (self._viewer, *self.layers.all_layers()):
            for key, binding in bindings.items():
                target.bind_key(key, binding, overwrite=True)
                self._undo_all.append(partial(target.bind_key, key, None, overwrite=True))

    def _toggle(self, does: str) -> None:
        self._session.use(does=LABEL if self._session.tool.does == does else does)

    def _resize(self, steps: int) -> None:
        tool = self._session.tool
        if tool.shape == BRUSH:
            self._session.use(radius_um=tool.resized(steps))
            self._viewer.status = f"Brush of {self._session.tool.radius_um:g} µm radius"

    def _enter(self) -> None:
        if self.drawing.is_drawing or self._suggesting is None or not self._suggesting.accept():
            self.drawing.finish()

    def _escape(self) -> None:
        if self.drawing.is_drawing:
            self.drawing.drop()
        elif self._suggesting is None or not self._suggesting.leave():
            self._session.select([])

    def _choose(self, key: str) -> None:
        chosen = next((c for c in self._session.classes if c.key == key), None)
        if chosen is not None and self._suggesting is not None and self._suggesting.relabel(chosen.name):
            return
        if chosen is not None:
            self._session.choose_class(chosen.name)
            self._viewer.status = f"{chosen.name} is the class to give"

    def _try(self, action: Callable[[], Any]) -> None:
        try:
            action()
        except StplmError as error:
            self._session.failed.emit(error)


def _binding(action: Callable[[], Any]) -> Callable[[Any], None]:
    """A function of its own, for napari asks a key binding for its name."""

    def stplm_key(_: Any) -> None:
        action()

    return stplm_key


def _held(switch: Callable[[bool], Any]) -> Callable[[Any], Generator[None, None, None]]:
    """A key binding that is on while the key is down."""

    def stplm_held_key(_: Any) -> Generator[None, None, None]:
        switch(True)
        yield
        switch(False)

    return stplm_held_key
