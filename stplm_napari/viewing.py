"""What a viewer shows of its section: colours, disagreements, transcripts, the cell that is looked at and why."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from stplm.errors import SectionError
from stplm_napari.disagreements import Disagreements
from stplm_napari.explaining import Explaining
from stplm_napari.jobs import FAILED, Slot
from stplm_napari.transcript_points import TranscriptPoints
from stplm_napari.watch import Watch

if TYPE_CHECKING:
    from stplm_napari.colourings import Shown
    from stplm_napari.workspace import Workspace

NEXT_KEY, PREVIOUS_KEY = "D", "Shift-D"


class Viewing:
    """Colours the tissue by any source; values that take a while are made in a thread, and the latest wish wins."""

    wish_changed = Signal()

    def __init__(self, workspace: Workspace) -> None:
        self._workspace, self._session = workspace, workspace.session
        self.making = Slot()
        """The values of a source being made."""
        self.wish = ""
        """The key whose values are being made; "" when the tissue shows what was asked for."""
        self.watch = Watch(workspace)
        self.explaining = Explaining(workspace, self.watch)
        self.transcripts = TranscriptPoints(workspace)
        self.disagreements = Disagreements(workspace.session, self._visit, self._visited_all)
        self._bind("bind")

    def colour_by(self, key: str) -> None:
        """Colour the tissue by a source, at once or as soon as its values are there. An unknown one is an error."""
        session, sources = self._session, self._session.sources
        if sources.find(key) is None:
            name = key.rpartition(":")[2]
            session.failed.emit(SectionError(f"The cells cannot be coloured by {name}.", mend="Choose another source."))
            return
        if not sources.is_slow(key):
            self._show(key)
            return
        self.wish = key
        self.wish_changed.emit()
        opened, stamp = session.revision.section, sources.stamp(key)

        def put(shown: Shown | None) -> bool:
            if session.revision.section != opened:
                return False
            sources.keep(key, shown, stamp)
            if self.wish != key:
                return False
            self._show(key)
            return True

        def ended() -> None:
            if job.state == FAILED and self.wish == key:
                self._show(session.colouring.by)

        job = self._workspace.jobs.start(
            f"Reading {key.rpartition(':')[2]}", lambda _: sources.make(key), put, quiet=True
        )
        self.making.take(job)
        job.ended.connect(ended)

    def close(self) -> None:
        """Let go of mouse and keys."""
        self.watch.close()
        self.transcripts.close()
        self._bind("unbind")

    def _show(self, key: str) -> None:
        self.wish = ""
        self._session.colour(by=key)
        self.wish_changed.emit()

    def _bind(self, how: str) -> None:
        viewer = self._workspace.viewer
        if not hasattr(viewer, "bind_key"):
            return
        for key, step in ((NEXT_KEY, 1), (PREVIOUS_KEY, -1)):
            go = partial(self._step, step) if how == "bind" else None
            viewer.bind_key(key, None if go is None else _named(go), overwrite=True)

    def _step(self, by: int) -> None:
        if self.disagreements.shown is not None:
            self.disagreements.step(by)

    def _visit(self, row: int, why: str) -> None:
        self.watch.go_to(row)
        self._workspace.suggesting.look_at(row, why)

    def _visited_all(self) -> None:
        self._workspace.suggesting.leave()
        self._workspace.viewer.status = "No cell disagrees."


def _named(action: Any) -> Any:
    """A function of its own, for napari asks a key binding for its name."""

    def stplm_step(_: Any) -> None:
        action()

    return stplm_step
