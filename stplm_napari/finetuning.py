"""Fine-tuning from the window: runs in a process of their own, the decision between two classifiers, the search.

The workspace has one; the Fine-tune dock shows it. A run lives in a folder (``runs.py``) that is found again.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal

from stplm.errors import Cancelled
from stplm.progress import Progress
from stplm.tasks.finetune_config import FinetuneConfig, settings
from stplm_napari import tasks
from stplm_napari.finetune_worker import TRIALS
from stplm_napari.handover import hand_over
from stplm_napari.jobs import Job, Slot
from stplm_napari.process import WorkerProcess
from stplm_napari.results import Result, snapshot
from stplm_napari.runs import OUTCOME, STOP, TABLE, KeptModel, Run
from stplm_napari.script import pretty, writes
from stplm_napari.session import Prediction, Revision
from stplm_napari.steps import Step

if TYPE_CHECKING:
    from stplm_napari.script import Beside
    from stplm_napari.workspace import Workspace

_WORKER = "stplm_napari.finetune_worker:"


@writes("finetune", "A fine-tuned model, and what it says of every cell")
def _finetune(params: Mapping[str, Any], beside: Beside) -> list[str]:
    rows = {key: pretty(value, 4) for key, value in params.items()}
    rows["labels"] = beside.labels_of(params["labels"])
    given = [f"    {key!r}: {value}," for key, value in rows.items()]
    return ["given = {", *given, "}", "tuned = tasks.finetune(table, given)", "stplm.predict(table, tuned)"]


class Finetuning:
    """Starts, stops and takes up runs; keeps the fine-tuned model or the few-shot head. No state of the form is here.

    Attributes
    ----------
    training, searching
        The jobs' slots.
    run
        The run that is shown: going on, stopped, or ended and undecided; None where there is none.
    found
        What the last search ended in, see ``finetune_worker.search_in_folder``; None where there was none.
    verdict
        What was said when the few-shot head was kept.
    """

    changed = Signal()

    def __init__(self, workspace: Workspace) -> None:
        self._workspace, self.session = workspace, workspace.session
        self.worker = WorkerProcess()
        self.training, self.searching = Slot(), Slot()
        self.run: Run | None = None
        self.found: dict[str, Any] | None = None
        self.verdict = ""
        self._made_from: Revision | None = None
        self._search_folder: Path | None = None
        self.session.section_opened.connect(self._on_opened)

    # --- what there is to learn from ---

    def counts(self, source: str, column: str | None = None) -> dict[str, int]:
        """Labels of each class that a run would learn from."""
        own = self.session.annotations
        counts = {str(name): int(n) for name, n in own.counts().items() if n}
        if source == tasks.FROM_LABELS or column not in self.session.table.obs:
            return counts
        # At every click, so without a look at each cell's name: the column's counts, less those labelled otherwise.
        of_column = self.session.table.obs[column].astype("category").cat
        codes = of_column.codes.to_numpy()
        overruled = codes[own.labels.rows]
        n_classes = len(of_column.categories)
        n = np.bincount(codes[codes >= 0], minlength=n_classes)
        n -= np.bincount(overruled[overruled >= 0], minlength=n_classes)
        for name, more in zip(map(str, of_column.categories), n.tolist(), strict=True):
            if more and name.strip():
                counts[name] = counts.get(name, 0) + more
        return counts

    # --- runs ---

    def start(
        self,
        config: FinetuneConfig,
        source: str = tasks.FROM_LABELS,
        *,
        model: str = "default",
        device: str = "auto",
        column: str | None = None,
    ) -> Job:
        """Fine-tune on the labels that there are now. An undecided run before it is let go."""
        if self.run is not None and not self.training.is_busy:
            self.run.decide("none")
        params = self._params(config, source, model, device, column)
        run = Run.new(self.session.path, params)
        self._made_from = self.session.revision
        return self._go(run, snapshot(self.session.table))

    def resume(self) -> Job:
        """Go on with a run that was stopped or killed."""
        assert self.run is not None
        self.run.go_on()
        return self._go(self.run)

    def finish(self) -> Job:
        """End a run that was killed with the best that its checkpoint holds."""
        assert self.run is not None
        self.run.ask_to_stop()
        return self._go(self.run)

    def discard(self) -> None:
        """Let the run go."""
        if self.run is not None and not self.training.is_busy:
            self.run.decide("none")
            self.run, self.verdict = None, ""
            self.changed.emit()

    def _go(self, run: Run, table: Any = None) -> Job:
        self.run, self.verdict = run, ""

        def work(progress: Progress) -> None:
            if table is not None:
                progress(0, 0)
                run.prepare(table)

            def until_stopped(done: int, total: int) -> None:
                try:
                    progress(done, total)
                except Cancelled:
                    run.ask_to_stop()

            self.worker.call(f"{_WORKER}finetune_in_folder", run.folder, run.params, until_stopped)

        def ended() -> None:
            if run is self.run and run.outcome is None and not run.can_resume:
                self.run = None  # it came to nothing: the job says why
                run.decide("none")
            self.changed.emit()

        job = self._workspace.jobs.start("Fine-tuning", work, lambda _: None, unit="labelled cells")
        job.ended.connect(ended)
        self.training.take(job)
        self.changed.emit()
        return job

    def _params(
        self, config: FinetuneConfig, source: str, model: str, device: str, column: str | None
    ) -> dict[str, Any]:
        changed = {n: v for n, v in config.to_dict().items() if v != settings()[n].default}
        return {
            "source": source,
            **({"column": column} if source == tasks.FROM_COLUMN else {}),
            "labels": self.session.annotations.by_class(),
            "tumour": {c.name: c.tumour for c in self.session.classes},
            "model": model,
            "device": device,
            "config": changed,
            "stop_after": None,
        }

    # --- the decision ---

    def keep_tuned(self) -> Job:
        """Put the model's predictions on the tissue. Live is switched off: it would refit the few-shot head."""
        run, workspace, session = self.run, self._workspace, self.session
        assert run is not None
        outcome, opened = run.outcome, session.revision.section
        assert outcome is not None
        note = outcome["note"]
        n_labels = int(sum(note["labels"].values()))
        # The same model again, without its clock: where it ended early, it ends at the same step.
        config = {**run.params["config"], "refit": note["refit"]}
        config.pop("minutes", None)
        step = Step("finetune", {**run.params, "config": config, "stop_after": outcome["stopped_at"]})

        def load(progress: Progress) -> Result:
            progress(0, 0)
            return run.result()

        def put(result: Result) -> bool:
            if session.revision.section != opened:
                return False
            labels = session.revision.labels if self._made_from is None else self._made_from.labels
            made_from = replace(session.revision, labels=labels)
            words = f"the fine-tuned model, {n_labels:,} labels"
            made = Prediction(words, n_labels, run.params["model"], datetime.now().strftime("%H:%M"), made_from)
            workspace.live = False
            kept = session.put_prediction(result, KeptModel(run.model), made, step)
            if kept:
                run.decide("tuned")
                self._decided("")
            return kept

        return workspace.classifying.take(workspace.jobs.start("Keeping the model", load, put, quiet=True))

    def keep_few_shot(self) -> None:
        """Let the fine-tuned model go; the few-shot head calls the cells where nothing does yet."""
        assert self.run is not None
        params = self.run.params
        self.run.decide("few-shot")
        session = self.session
        if session.is_embedded and not session.is_predicted:
            given = {"column": params["column"]} if params["source"] == tasks.FROM_COLUMN else {}
            self._workspace.classify(params["source"], **given)
        self._decided("The few-shot head stays. Labels go on changing the tissue while Live is on.")

    def go_live(self) -> None:
        """Back to the few-shot head: every label changes the tissue again."""
        self.verdict = ""
        self._workspace.live = True
        self.changed.emit()

    @property
    def is_kept(self) -> bool:
        """Whether the classes on the tissue are a fine-tuned model's."""
        return isinstance(self.session.classifier, KeptModel)

    def save_model(self, folder: Path) -> Job:
        """Copy the model to a folder of the user's, for the command line and other sections."""
        source = self.session.classifier.folder if self.is_kept or self.run is None else self.run.model

        def copy(progress: Progress) -> Path:
            from stplm.models import load_model

            progress(0, 0)
            return load_model(source).save(folder)

        job = self._workspace.jobs.start("Saving the model", copy, lambda _: None, can_cancel=False)
        return self.training.take(job)

    def _decided(self, words: str) -> None:
        self.run, self.verdict = None, words
        self.changed.emit()

    # --- search ---

    def search(
        self,
        config: FinetuneConfig,
        minutes: float,
        source: str = tasks.FROM_LABELS,
        *,
        model: str = "default",
        device: str = "auto",
        column: str | None = None,
    ) -> Job:
        """Look for better settings, starting from ``config``, for so many minutes; :attr:`found` is what came out."""
        params = {**self._params(config, source, model, device, column), "seconds": 60 * minutes}
        table = snapshot(self.session.table)

        def work(progress: Progress) -> None:
            with tempfile.TemporaryDirectory(prefix="stplm-") as name:
                folder = self._search_folder = Path(name)
                hand_over(table, folder / TABLE)

                def until_stopped(done: int, total: int) -> None:
                    try:
                        progress(done, total)
                    except Cancelled:
                        (folder / STOP).touch()

                self.worker.call(f"{_WORKER}search_in_folder", folder, params, until_stopped)
                self.found = json.loads((folder / OUTCOME).read_text(encoding="utf-8"))

        self.found = None
        job = self._workspace.jobs.start("Searching settings", work, lambda _: None, unit="s")
        job.ended.connect(self.changed.emit)
        self.searching.take(job)
        self.changed.emit()
        return job

    def trials(self) -> list[dict[str, Any]]:
        """Rows of the trials that ended so far, of a search that is running."""
        try:
            assert self._search_folder is not None
            lines = (self._search_folder / TRIALS).read_text(encoding="utf-8").splitlines()
            return [json.loads(line) for line in lines]
        except (OSError, ValueError, AssertionError):
            return []

    # --- inside ---

    def _on_opened(self) -> None:
        """Another section: its own last run, if nobody decided on it. A run of the last section ends with its best."""
        for slot in (self.training, self.searching):
            slot.clear()
        self.found, self.verdict, self._made_from = None, "", None
        self.run = Run.latest(self.session.path)
        self.changed.emit()

    def close(self) -> None:
        """End the process."""
        self.worker.stop()
