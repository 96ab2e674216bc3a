"""What the plugin adds to napari's File menu, for as long as a workspace lives.

napari (0.9) lets plugins contribute to submenus of File, not to File itself, and builds its menus anew when a plugin
is switched on or off; so the entries are put back whenever the menu is about to be shown.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtGui import QAction
from qtpy.QtWidgets import QFileDialog

from stplm_napari.jobs import DONE, FAILED, Job

if TYPE_CHECKING:
    from stplm_napari.workspace import Workspace

_BEFORE = "preferences"
SCRIPTS = "Python script (*.py);;Jupyter notebook (*.ipynb)"


class FileMenu:
    """The entries of one window; :meth:`close` takes them out."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._window = workspace.viewer.window._qt_window
        self._menu = workspace.viewer.window.file_menu
        self._closed = False
        self.actions: dict[str, QAction] = {}
        self._add("Open STPLM session…", self.open_session)
        self._add("Save STPLM session…", self.save_session)
        self._add("Import into STPLM…", self.import_file)
        self._add("Export STPLM script or notebook…", self.export_script)
        self._add("Save STPLM recipe for other sections…", self.save_recipe)
        self._line = QAction(self._window)
        self._line.setSeparator(True)
        self._menu.aboutToShow.connect(self._show)
        self._show()

    def close(self) -> None:
        """Take the entries out. The window may be gone already."""
        self._closed = True
        with contextlib.suppress(RuntimeError):
            for action in (*self.actions.values(), self._line):
                self._menu.removeAction(action)

    def open_session(self) -> None:
        """Ask which, and open it."""
        from stplm_napari.widgets.sessions import choose_session

        choose_session(self._window, self._workspace)

    def save_session(self) -> None:
        """Ask where to, and save."""
        from stplm_napari.widgets.sessions import save_session

        if (job := save_session(self._window, self._workspace)) is not None:
            self.tell(job, "the session folder")

    def import_file(self) -> None:
        """Show the Import dock, and ask for a file."""
        from stplm_napari.widgets.common import open_dock

        open_dock(self._workspace.viewer, "Import").choose_file()

    def export_script(self) -> None:
        """Ask where to, and write the steps."""
        recorder = self._workspace.recorder
        path, kind = QFileDialog.getSaveFileName(
            self._window, "Export what was done", str(recorder.suggest(".py")), SCRIPTS
        )
        if path:
            self.tell(recorder.export(with_ending(path, ".ipynb" if "ipynb" in kind else ".py")), path)

    def save_recipe(self) -> None:
        """Ask where to, and write what was done as a recipe."""
        recorder = self._workspace.recorder
        path, _ = QFileDialog.getSaveFileName(
            self._window, "Save a recipe for other sections", str(recorder.suggest(".yaml")), "Recipe (*.yaml)"
        )
        if path:
            self.tell(recorder.save_recipe(with_ending(path, ".yaml")), path)

    def tell(self, job: Job, path: str | Path) -> None:
        """Say how a job ended, for whoever has no dock open."""

        def say() -> None:
            from napari.utils.notifications import show_error, show_info

            if job.state == DONE:
                show_info(f"Written to {path}")
            elif job.state == FAILED and job.error is not None:
                show_error(str(job.error))

        job.ended.connect(say)

    def _add(self, words: str, on_click: Callable[[], Any]) -> None:
        action = QAction(words, self._window)
        action.triggered.connect(lambda: on_click())
        self.actions[words] = action

    def _show(self) -> None:
        if self._closed:
            return
        there = self._menu.actions()
        if self._line not in there:
            before = next((a for a in there if _BEFORE in a.text().lower().replace("&", "")), None)
            for action in (*self.actions.values(), self._line):
                self._menu.insertAction(before, action)
        for words, action in self.actions.items():
            action.setEnabled(self._workspace.session.is_open or words.startswith("Open"))


def with_ending(path: str | Path, ending: str) -> Path:
    """``path``, with an ending where it has none."""
    path = Path(path)
    return path if path.suffix else path.with_name(path.name + ending)
