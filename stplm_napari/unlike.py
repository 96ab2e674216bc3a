"""The unknown score of a live prediction: it costs as much as all the rest, so nobody waits for it.

A fit that follows a click leaves it out unless the tissue is coloured by it. It is added once nothing more is being
fitted, and before anything is exported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer

from stplm import keys
from stplm_napari.jobs import Slot

if TYPE_CHECKING:
    from anndata import AnnData

    from stplm.progress import Progress
    from stplm_napari.workspace import Workspace

_PAUSE_MS = 400
"""Between a fit and the score: whoever clicks again meanwhile is served first."""


class UnlikeScores:
    """Adds the unknown score to the predictions of a workspace that came without."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self.scoring = Slot()
        self._timer = QTimer(workspace)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_PAUSE_MS)
        self._timer.timeout.connect(self._score)
        workspace.session.predicted.connect(self._on_predicted)
        workspace.session.labels_changed.connect(self._on_labels)

    @property
    def is_missing(self) -> bool:
        """Whether the classifier of the prediction has such a score, and the cells do not have it yet."""
        session = self._workspace.session
        has = getattr(session.classifier, "unknown", None) is not None
        return has and session.is_embedded and session.is_predicted and keys.UNKNOWN not in session.table.obs

    def complete(self, table: AnnData, classifier: Any) -> None:
        """Add the score to a snapshot of a predicted table that lacks it; any thread may ask."""
        from stplm.tasks.classify import score_unknown

        if getattr(classifier, "unknown", None) is not None and keys.UNKNOWN not in table.obs:
            score_unknown(table, classifier, features=self._workspace.features.of(table))

    def _on_predicted(self) -> None:
        if self.is_missing:
            self._timer.start()

    def _on_labels(self) -> None:
        """What learns from the label comes first."""
        if self.scoring.job is not None and self.scoring.is_busy:
            self.scoring.job.cancel()
            self._timer.start()

    def _score(self) -> None:
        workspace, session = self._workspace, self._workspace.session
        if not self.is_missing:
            return
        if workspace.will_refit or self.scoring.is_busy:
            self._timer.start()
            return
        table, classifier = session.table, session.classifier
        features = workspace.features

        def run(progress: Progress) -> Any:
            return classifier.unknown_scores(features.of(table), lambda done, total: progress(0, 0))

        def put(scores: Any) -> bool:
            return session.put_unknown(scores, classifier)

        self.scoring.take(workspace.jobs.start("Looking for unknown cells", run, put, quiet=True))
