"""The Learn dock: how well held-out labels are called, where the classes are mixed up, which cells to label next."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QGridLayout, QVBoxLayout, QWidget

from stplm_napari.widgets.common import Dock, EmptyState
from stplm_napari.widgets.confusion import ConfusionMatrix
from stplm_napari.widgets.learningcurve import LearningCurve
from stplm_napari.widgets.nextcell import NextCellCard
from stplm_napari.widgets.panels import JobPanel
from stplm_napari.widgets.queue import QueueList
from stplm_napari.widgets.style import button, empty_layout, text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari.viewer import Viewer

    from stplm.evaluation.learning_curve import HeldOut

_WHAT = (
    "Your own labels, held out in turn and called by what the others teach. They are the cells you chose: suggested "
    "ones are hard, so the score may fall while the model gets better on the tissue."
)


class LearnWidget(Dock):
    """What labels have taught so far, and what to label next."""

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(napari_viewer)
        workspace, session = self.workspace, self.session
        self.empty = EmptyState("No section is open.", "Open a section", lambda: self.open_dock("Section"))
        self.not_embedded = EmptyState(
            "No cells embedded yet. Suggestions and scores are made from the embedding.",
            "Embed cells",
            lambda: workspace.embed(),
        )
        self.embedding = JobPanel(workspace.embedding, self)
        self.few = EmptyState(
            "A score needs two labels or more in two classes. Press N for a cell worth labelling, "
            "then the key of its class.",
            "Next cell (N)",
            workspace.suggesting.next,
        )
        self.card = NextCellCard(self)
        self.scores = QWidget()
        layout = QVBoxLayout(self.scores)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(8)
        self.curve, self.classes, self.confusion = LearningCurve(), ClassScores(), ConfusionMatrix()
        self.made_from, self.old = text(kind="hint", tip=_WHAT), text(kind="warn")
        self.score_now = button("Score now", workspace.learning.refresh, tip="Hold labels out again")
        layout.addWidget(text("Held-out labels", "title", wrap=False, tip=_WHAT))
        for part in (self.curve, self.made_from, self.old, self.score_now, self.classes, self.confusion):
            layout.addWidget(part)
        self.scoring = JobPanel(workspace.learning.scoring, self)
        self.queue_title = text("Cells worth labelling", "title", wrap=False)
        self.queue = QueueList(self)
        parts: tuple[QWidget, ...] = (
            self.empty,
            self.not_embedded,
            self.embedding,
            self.few,
            self.card,
            self.scores,
            self.scoring,
        )
        for each in (*parts, self.queue_title, self.queue):
            self.body.addWidget(each)
        self.body.addStretch(1)
        for signal in (session.section_opened, session.embedded, session.labels_changed, session.classes_changed):
            self.listen(signal, self.refresh)
        for signal in (workspace.learning.changed, workspace.embedding.changed, session.predicted):
            self.listen(signal, self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Make what is shown equal to the state."""
        session, learning = self.session, self.workspace.learning
        ready, found = session.is_embedded, learning.latest
        self.empty.setVisible(not session.is_open)
        self.not_embedded.setVisible(session.is_open and not ready and not self.workspace.embedding.is_busy)
        self.few.setVisible(ready and found is None and not learning.can_score)
        self.scores.setVisible(ready and found is not None)
        for part in (self.queue_title, self.queue):
            part.setVisible(ready)
        if found is None:
            return
        colours = {c.name: c.colour for c in session.classes}
        self.curve.show_points(learning.points)
        self.classes.show_scores(found, colours)
        self.confusion.show_values(found.classes, found.confusion, colours)
        self.made_from.setText(source_words(found, learning.at))
        stale = learning.outdated
        self.old.setVisible(bool(stale) and not learning.is_scoring and not self.workspace.will_refit)
        self.old.setText(f"Out of date: {stale}.")
        self.score_now.setVisible(not self.old.isHidden() and learning.can_score)


class ClassScores(QWidget):
    """A class a line: its labels, and the share of its held-out labels that is called right."""

    def __init__(self) -> None:
        super().__init__()
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setVerticalSpacing(3)
        self._grid.setColumnStretch(0, 1)

    def show_scores(self, found: HeldOut, colours: Mapping[str, str]) -> None:
        """Replace what is shown."""
        empty_layout(self._grid)
        tips = ("", "Cells that you labelled", "Share of its held-out labels that is called right")
        self._line(0, ("Class", "Labels", "Recall"), "hint", tips)
        for i, (name, n, recall) in enumerate(zip(found.classes, found.labels, found.recall, strict=True), start=1):
            dot = f'<span style="color:{colours.get(name, "#999999")}">■</span> {name}'
            said = "–" if np.isnan(recall) else f"{recall:.2f}"
            tip = "Its only label cannot be held out" if np.isnan(recall) else ""
            self._line(i, (dot, f"{n:,}", said), "value", ("", "", tip))

    def _line(self, row: int, words: tuple[str, ...], kind: str, tips: tuple[str, ...]) -> None:
        for column, (said, tip) in enumerate(zip(words, tips, strict=True)):
            label = text(said, kind, wrap=False, tip=tip)
            if column:
                label.setAlignment(Qt.AlignmentFlag.AlignRight)
                label.setMinimumWidth(56)
            self._grid.addWidget(label, row, column)


def source_words(found: HeldOut, at: str) -> str:
    """From how many labels, how they were held out, and when."""
    how = "by squares of tissue" if found.spatial else "at random: they lie too close together for more"
    n = f"{found.n_scored:,} of {found.n_labels:,} labels of yours" if found.n_scored < found.n_labels else ""
    n = n or f"{found.n_labels:,} labels of yours"
    return f"From {n}, held out {how}, at {at}. Balanced accuracy {found.balanced_accuracy:.2f}."
