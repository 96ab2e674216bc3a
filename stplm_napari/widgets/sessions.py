"""Asking for saved sessions: which, where to, and what to do when a section has moved or changed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QFileDialog, QMessageBox

from stplm.errors import StplmError
from stplm_napari.session_file import SectionChanged, SectionMoved

if TYPE_CHECKING:
    from stplm_napari.workspace import Workspace


def choose_session(parent: Any, workspace: Workspace) -> None:
    """Ask for a session and open it."""
    start = str(workspace.sessions.suggest().parent)
    if path := QFileDialog.getExistingDirectory(parent, "Open a session: a folder that ends in .stplm", start):
        open_session(parent, workspace, path)


def open_session(parent: Any, workspace: Workspace, path: str | Path, **how: Any) -> None:
    """Open a session; the user is asked where its section is, or whether to take one that has changed."""
    try:
        workspace.sessions.open(path, **how)
    except SectionMoved as error:
        if ask(parent, error.problem, f"{error.where}\n\nDo you want to say where it is now?") and (
            place := QFileDialog.getExistingDirectory(parent, "Where is the section now?", str(Path(path).parent))
        ):
            open_session(parent, workspace, path, at=place)
    except SectionChanged as error:
        if ask(parent, error.problem, f"{error.where}\n\n{error.mend}\n\nOpen it with this section?"):
            open_session(parent, workspace, path, **{**how, "accept_changed": True})
    except StplmError as error:
        workspace.session.failed.emit(error)
        from napari.utils.notifications import show_error

        show_error(str(error))


def save_session(parent: Any, workspace: Workspace) -> Any:
    """Ask where to save, and save; the job, or None."""
    suggested = str(workspace.sessions.suggest())
    path, _ = QFileDialog.getSaveFileName(
        parent,
        "Save the session",
        suggested,
        "STPLM session (*.stplm)",
        options=QFileDialog.Option.DontConfirmOverwrite,
    )
    return workspace.sessions.save(path) if path else None


def ask(parent: Any, question: str, details: str = "") -> bool:
    """A question with yes and no."""
    box = QMessageBox(QMessageBox.Icon.Question, "STPLM", question, parent=parent)
    box.setInformativeText(details)
    box.setStandardButtons(QMessageBox.StandardButton.Yes | QMessageBox.StandardButton.No)
    return bool(box.exec() == QMessageBox.StandardButton.Yes)
