"""Why the kept cell is called what it is called: asked of the worker process when somebody looks, cell by cell."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from psygnal import Signal

from stplm.errors import ModelError
from stplm_napari.explain_worker import Why, explain_in_worker
from stplm_napari.jobs import Slot
from stplm_napari.results import snapshot
from stplm_napari.runs import KeptModel, vectors_model

if TYPE_CHECKING:
    from stplm.progress import Progress
    from stplm_napari.watch import Watch
    from stplm_napari.workspace import Workspace


class Explaining:
    """The genes that speak for the kept cell's class and against it. The latest cell wins; what is stale is dropped."""

    changed = Signal()

    def __init__(self, workspace: Workspace, watch: Watch) -> None:
        self._workspace, self._session, self._watch = workspace, workspace.session, watch
        self.asking = Slot()
        self._predictions = 0
        self._asked: tuple[int, ...] = ()
        self._found: tuple[tuple[int, ...], Why] | None = None
        self._session.section_opened.connect(self._on_opened)
        self._session.predicted.connect(self._on_predicted)

    @property
    def is_possible(self) -> bool:
        """Whether a cell is kept, and a classifier that is at hand says what it is."""
        session = self._session
        head = session.classifier
        at_hand = isinstance(head, KeptModel) or (head is not None and session.is_embedded)
        return at_hand and session.is_predicted and self._watch.pinned >= 0

    @property
    def found(self) -> Why | None:
        """Of the kept cell under the present prediction; None until it is known."""
        return self._found[1] if self._found is not None and self._found[0] == self._now() else None

    def ask(self, *, again: bool = False) -> None:
        """Ask about the kept cell, unless that was done already; ``again``: even if it failed."""
        now = self._now()
        if not self.is_possible or self.found is not None:
            return
        # One that runs ends soon, and who looks asks again then; to stop it could cost the whole worker process.
        if self.asking.is_busy or (self._asked == now and not again):
            return
        self._asked = now
        session, row, head = self._session, self._watch.pinned, self._session.classifier
        table, model = snapshot(session.table), self._model()

        def run(progress: Progress) -> Why:
            if model is None:
                raise ModelError(
                    "The model was adapted to this section and is not kept, so it cannot be asked.",
                    mend="Embed without Adapt, or with a model folder that was adapted before (stplm adapt).",
                )
            with tempfile.TemporaryDirectory(prefix="stplm-") as folder:
                return explain_in_worker(table, row, head, model, Path(folder), self._workspace.worker, progress)

        def put(why: Why) -> bool:
            if now != self._now():
                return False
            self._found = now, why
            self.changed.emit()
            return True

        jobs = self._workspace.jobs
        self.asking.take(jobs.start("Asking which genes were used", run, put, can_cancel=False, quiet=True))

    # --- inside ---

    def _now(self) -> tuple[int, ...]:
        """What an answer belongs to."""
        revision = self._session.revision
        return revision.section, revision.embedding, self._predictions, self._watch.pinned

    def _model(self) -> str | None:
        """The model to ask; None where it was not kept."""
        session = self._session
        if isinstance(session.classifier, KeptModel):
            return str(session.classifier.folder)
        return vectors_model(session)

    def _on_opened(self) -> None:
        self._found, self._asked = None, ()
        self.asking.clear()

    def _on_predicted(self) -> None:
        self._predictions += 1
