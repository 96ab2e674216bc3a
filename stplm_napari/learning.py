"""How well labels that were held out are called: scored in the background after each fit, kept as the labels grow."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from psygnal import Signal
from qtpy.QtCore import QTimer

from stplm_napari import tasks
from stplm_napari.jobs import Slot
from stplm_napari.results import snapshot

if TYPE_CHECKING:
    from stplm.evaluation.learning_curve import HeldOut
    from stplm.progress import Progress
    from stplm_napari.annotations import Annotations
    from stplm_napari.session import Revision
    from stplm_napari.workspace import Workspace

DELAY_MS = 500
"""Scores wait until the clicks pause, and until the next cells to label have been chosen."""


@dataclass(frozen=True)
class Point:
    """One point of the curve."""

    n_labels: int
    accuracy: float
    macro_f1: float


class Learning:
    """The scores of one workspace. Everything is called from the GUI thread."""

    changed = Signal()

    def __init__(self, workspace: Workspace) -> None:
        self._workspace, self._session = workspace, workspace.session
        self.points: tuple[Point, ...] = ()
        """By number of labels, ascending."""
        self.latest: HeldOut | None = None
        self.at = ""
        """When the latest score was made, local time, HH:MM."""
        self.scoring = Slot()
        self._made_from: Revision | None = None
        self._timer = QTimer(workspace)
        self._timer.setSingleShot(True)
        self._timer.setInterval(DELAY_MS)
        self._timer.timeout.connect(self._score)
        self._session.section_opened.connect(self._on_opened)
        self._session.predicted.connect(self.refresh)
        self._session.embedded.connect(self.refresh)
        self.scoring.changed.connect(self.changed.emit)

    @property
    def is_scoring(self) -> bool:
        """Whether a score is being made or about to."""
        return self._timer.isActive() or self.scoring.is_busy

    @property
    def can_score(self) -> bool:
        """Whether there are two classes with two labels or more, and an embedding."""
        return self._session.is_embedded and sum(n >= 2 for n in self._session.annotations.counts().values()) >= 2

    @property
    def outdated(self) -> str:
        """Why the latest score no longer fits; "" while it does."""
        made, now = self._made_from, self._session.revision
        if made is None:
            return ""
        if made.embedding != now.embedding:
            return "the cells were embedded again since"
        if (made.labels, made.classes) != (now.labels, now.classes):
            return "labels changed since"
        return ""

    def refresh(self) -> None:
        """Score anew, soon; nothing where labels and embedding are those of the latest score."""
        if self.can_score and (self._made_from is None or self.outdated):
            self._timer.start()

    def _score(self) -> None:
        if self.scoring.is_busy or self._workspace.suggesting.is_making:
            self._timer.start()
            return
        if not self.can_score:
            return
        session = self._session
        made, table, labels = session.revision, snapshot(session.table), in_order(session.annotations)
        history = not self.points

        def run(progress: Progress) -> list[HeldOut]:
            return tasks.held_out(table, labels, history=history, progress=progress)

        def put(found: list[HeldOut]) -> bool:
            now = session.revision
            if (made.section, made.embedding) != (now.section, now.embedding):
                return False
            self._put(found, made)
            return True

        self.scoring.take(self._workspace.jobs.start("Scoring held-out labels", run, put, quiet=True))

    def _put(self, found: list[HeldOut], made: Revision) -> None:
        if found:
            first = found[0].n_labels
            kept = [p for p in self.points if p.n_labels < first]  # labels that were taken back leave the curve
            self.points = (*kept, *(Point(s.n_labels, s.accuracy, s.macro_f1) for s in found))
            self.latest, self.at = found[-1], datetime.now().strftime("%H:%M")
        self._made_from = made
        self.changed.emit()
        self.refresh()

    def _on_opened(self) -> None:
        self._timer.stop()
        self.scoring.clear()
        self.points, self.latest, self.at, self._made_from = (), None, "", None
        self.changed.emit()
        self.refresh()


def in_order(annotations: Annotations) -> pd.Series:
    """Class names by cell id, in the order in which they were given."""
    labels = annotations.labels
    order = np.argsort(labels.times(), kind="stable")
    return pd.Series(labels.names()[order], index=labels.ids_at(labels.rows[order]), dtype=object)
