"""One open section on a viewer's canvas: its layers follow the session, clicks and keys go to the session."""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from stplm.errors import StplmError
from stplm_napari.annotations import KEYS
from stplm_napari.paint import paint
from stplm_napari.picking import install_click
from stplm_napari.session import Session

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from stplm_napari.layers import SectionLayers

_RIGHT = 2
_DRAG_PX = 4


class Canvas:
    """Ties the layers of a section to a session until :meth:`close`.

    A click on a cell gives it the session's active class while the session is annotating; a right click takes its
    label away; 1 to 9 choose the class; Ctrl-Z and Ctrl-Shift-Z undo and redo.
    """

    def __init__(self, viewer: Viewer, layers: SectionLayers, session: Session) -> None:
        self.layers, self._viewer, self._session = layers, viewer, session
        self._undo_all: list[Callable[[], Any]] = []
        for signal in (session.embedded, session.labels_changed, session.predicted, session.colouring_changed):
            signal.connect(self.recolour)
            self._undo_all.append(partial(signal.disconnect, self.recolour))
        self._undo_all.append(install_click(viewer, layers, self._on_click))
        self._undo_all.append(self._install_right_click())
        self._bind_keys()
        self.recolour()

    def recolour(self) -> None:
        """Paint the cells as the session says."""
        if self.layers.overlay is not None:
            paint(self.layers.overlay, self._session)

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
        if self._session.annotating and self._free():
            self._try(lambda: self._session.label([self._session.table.obs_names[row]]))

    def _on_right_click(self, row: int) -> None:
        if self._session.annotating and self._free():
            self._try(lambda: self._session.annotations.clear_labels([self._session.table.obs_names[row]]))

    def _install_right_click(self) -> Callable[[], None]:
        callbacks = self._viewer.mouse_drag_callbacks

        def on_press(_: Any, event: Any) -> Generator[None, None, None]:
            if event.button != _RIGHT:
                return
            start = np.asarray(event.pos, float)
            yield
            while event.type == "mouse_move":
                yield
            if np.abs(np.asarray(event.pos, float) - start).max() <= _DRAG_PX:
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
        for target in (self._viewer, *self.layers.all_layers()):
            for key, action in actions.items():
                target.bind_key(key, _binding(action), overwrite=True)
                self._undo_all.append(partial(target.bind_key, key, None, overwrite=True))

    def _choose(self, key: str) -> None:
        chosen = next((c for c in self._session.classes if c.key == key), None)
        if chosen is not None:
            self._session.choose_class(chosen.name)
            self._viewer.status = f"Clicks label {chosen.name}"

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
