"""Files written from the window for other tools, and the report; what was written last."""

from __future__ import annotations

import tempfile
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stplm.progress import Progress
from stplm_napari import report_tasks, tasks
from stplm_napari.jobs import Job, Slot
from stplm_napari.journal import journal_path
from stplm_napari.perturb_tasks import result_of
from stplm_napari.results import section_snapshot, snapshot
from stplm_napari.steps import Step

if TYPE_CHECKING:
    from stplm_napari.workspace import Workspace


class Exporter:
    """Writes the open section. The workspace has one.

    Attributes
    ----------
    writing
        The latest job's slot.
    written, written_at
        What was written last, None where nothing was, and when (local time, HH:MM).
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace, self._session = workspace, workspace.session
        self.writing = Slot()
        self.written: Path | None = None
        self.written_at = ""
        self._session.section_opened.connect(self._on_opened)

    def export(self, path: str | Path, what: str, *, overwrite: bool = False, **options: Any) -> Job:
        """Write the section or its cells to a file."""
        workspace, session = self._workspace, self._session
        colours = {c.name: c.colour for c in session.classes}
        own: dict[str, Any] = {"labels": session.annotations.by_class(), "colours": colours}
        if what.startswith("regions"):
            own = {"colours": colours, "regions": [r.to_json() for r in session.annotations.regions]}
        step = Step("export", {"path": str(path), "what": what, "overwrite": overwrite, **own, **options})
        table, classifier = snapshot(session.table), session.classifier
        section = section_snapshot(session.section, table)

        def run(progress: Progress) -> Path:
            progress(0, 0)
            workspace.unlike.complete(table, classifier)
            return tasks.export(section, table, **step.params)

        return self._start(step, run)

    def report(self, path: str | Path, *, truth: str | None = None, overwrite: bool = False) -> Job:
        """Write all that was found as one HTML page, with the scenarios of the Perturb dock and the scores of held-out
        labels as they stand; ``truth`` is an obs column to score the prediction against."""
        workspace, session = self._workspace, self._session
        scenarios, scored = list(workspace.perturbing.scenarios), workspace.learning.latest
        params = {
            "path": str(path),
            "section": None if session.path is None else str(session.path),
            "truth": truth,
            "held_out": None if scored is None or workspace.learning.outdated else scored.to_dict(),
            "perturbations": [scenario.name for scenario in scenarios],
            "steps": [step.to_json() for step in session.steps if step.name != "report"],
            "colours": {c.name: c.colour for c in session.classes},
            "overwrite": overwrite,
        }
        table, classifier = snapshot(session.table), session.classifier

        def run(progress: Progress) -> Path:
            workspace.unlike.complete(table, classifier)
            with tempfile.TemporaryDirectory(prefix="stplm-") as folder:
                asked = {**params, "perturbations": [str(result_of(s.folder)) for s in scenarios]}
                return report_tasks.report_in_worker(table, asked, Path(folder), workspace.worker, progress)

        return self._start(Step("report", params), run)

    def folder(self) -> Path:
        """Where to write by default: beside the section, or the home folder where that cannot be."""
        path = self._session.path
        if path is not None and journal_path(path).parent == path.resolve().parent:
            return path.resolve().parent
        return Path.home()

    def _start(self, step: Step, run: Any) -> Job:
        opened = self._session.revision.section

        def note(written: Path) -> None:
            if self._session.revision.section == opened:
                self.written, self.written_at = written, datetime.now().strftime("%H:%M")
                self._session.record(step)

        title = f"Writing {Path(step.params['path']).name}"
        return self.writing.take(self._workspace.jobs.start(title, run, note, can_cancel=False))

    def _on_opened(self) -> None:
        self.written = None
        self.writing.clear()
