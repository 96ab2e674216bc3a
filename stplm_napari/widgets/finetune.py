"""The Fine-tune dock: settings, a run with its curves, and which classifier to keep."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from magicgui.widgets import ComboBox, Container, FloatSpinBox
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QFileDialog

from stplm.errors import StplmError
from stplm.tasks.finetune_config import MIN_LABELS, MIN_TO_HOLD_OUT, labels_missing
from stplm.tasks.finetune_watch import REFIT, SELECT
from stplm_napari.tasks import FROM_COLUMN, FROM_LABELS, label_columns
from stplm_napari.widgets.common import Dock, EmptyState, More, compact, keep_choices, stack
from stplm_napari.widgets.comparison import ComparisonPanel
from stplm_napari.widgets.curve import Curve, Line
from stplm_napari.widgets.embed import device_choice, model_choices
from stplm_napari.widgets.panels import ErrorPanel, JobPanel
from stplm_napari.widgets.settings_form import SettingsForm
from stplm_napari.widgets.style import button, text

if TYPE_CHECKING:
    from napari.viewer import Viewer

_SOURCES = (("My labels", FROM_LABELS), ("A column of the section", FROM_COLUMN))
_LOOK_MS = 400
"""How often a run's history is looked at."""
_LINES = (
    ("macro_f1", "macro-F1", "#56B4E9"),
    ("balanced_accuracy", "balanced accuracy", "#E69F00"),
    ("tumour_f1", "tumour F1", "#D55E00"),
)


class FinetuneWidget(Dock):
    """Trains a copy of the model on the labels, compares, and asks which classifier to keep."""

    title = "Fine-tune"

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(napari_viewer)
        self.finetuning = self.workspace.finetuning
        self.empty = EmptyState("No section is open.", "Open a section", lambda: self.open_dock("Section"))
        words = (
            "No labels of two classes yet. Fine-tuning wants hundreds of each; it begins to be worth a try at fifty."
        )
        self.no_labels = EmptyState(words, "Label cells", lambda: self.open_dock("Annotate"))
        tip = "What it learns from. Your labels always count, and go first."
        self.source = ComboBox(name="source", label="Labels from", choices=list(_SOURCES), tooltip=tip)
        tip = "A column of text or categories that came with the cells"
        self.column = ComboBox(name="column", label="Column", choices=[], tooltip=tip)
        self.labels = Container(widgets=[self.source, self.column], labels=True)
        self.settings = SettingsForm()
        self.model = ComboBox(
            name="model",
            label="Start from",
            choices=[(words, name) for name, words, _ in model_choices()],
            tooltip="The model of which a copy is trained; it stays as it is",
        )
        self.device = device_choice()
        self.where = Container(widgets=[self.model, self.device], labels=True)
        self.minutes = FloatSpinBox(
            name="search_minutes",
            label="Search for (minutes)",
            min=0.1,
            max=10_000,
            step=0.5,
            value=10,
            tooltip="How long to search. Each trial is a whole fine-tuning, compared on held-out squares of tissue; "
            "the defaults are the first, and stay unless a trial is better by more than chance.\n"
            "Unit: minutes. Default: 10.",
        )
        searching = Container(widgets=[self.minutes], labels=True)
        for form in (self.labels, self.where, searching):
            form.margins = (0, 0, 0, 0)
        self.search = button("Search settings", self._search, tip="Fills this form with the best settings it finds")
        self.search_progress = JobPanel(self.finetuning.searching, self, "Stopped: the best so far was taken.")
        self.search_progress.cancel.setText("Stop")
        self.found = text(kind="hint")
        self.reset = button("Back to the defaults", self.settings.reset, "link")
        self.more = More(
            stack(
                self.where.native,
                self.settings.advanced,
                self.reset,
                searching.native,
                self.search,
                self.search_progress,
                self.found,
                gap=6,
            )
        )
        self.explain, self.short = text(kind="hint"), text(kind="warn")
        self.run = button("Fine-tune", self._run, "primary")
        self.refused = ErrorPanel()
        self.form = stack(
            self.labels.native, self.settings.main.native, self.explain, self.short, self.more, self.run, self.refused
        )
        self.progress = JobPanel(self.finetuning.training, self, "Stopped.")
        self.progress.cancel.setText("Stop")
        self.progress.cancel.setToolTip("Ends the training. The best weights so far are kept and compared.")
        self.at = text(kind="hint")
        tip = "Training loss of each step (dots: of each epoch). It should fall."
        self.loss = Curve("epochs", tip, height=112)
        tip = "Scores of held-out cells after each epoch; 0 is the start, linear heads on the model as it was."
        self.scores = Curve("epochs", tip)
        self.going = stack(self.progress, self.at, self.loss, self.scores, gap=6)
        self.stopped_words = text()
        self.resume = button("Go on training", lambda: self.finetuning.resume(), "primary")
        tip = "Ends the run with the best weights that its checkpoint holds"
        self.take_best = button("Take the best so far", lambda: self.finetuning.finish(), tip=tip)
        self.discard = button("Discard the run", self.finetuning.discard, "link")
        self.stopped = stack(self.stopped_words, self.resume, self.take_best, self.discard, gap=6)
        self.comparison = ComparisonPanel(lambda: self.finetuning.keep_tuned(), self.finetuning.keep_few_shot)
        self.go_on = button("Go on training instead", lambda: self.finetuning.resume(), "link")
        self.verdict = text()
        tip = "The few-shot head calls the cells again, and every label changes the tissue"
        self.live = button("Go back to live labels", self.finetuning.go_live, tip=tip)
        self.apply = button("Apply to other sections", lambda: self.open_dock("Apply"))
        self.save = button("Save the model to a folder…", self._save, "link")
        self.kept = stack(self.verdict, self.apply, self.live, self.save, gap=6)
        for part in (self.empty, self.no_labels, self.kept, self.form, self.comparison, self.go_on, self.going):
            self.body.addWidget(part)
        self.body.addWidget(self.stopped)
        self.body.addStretch(1)
        self._list_columns()
        compact(self.source, self.column, self.model, self.device)
        keep_choices(self.workspace, "finetune", self.labels, self.where, searching, *self.settings.forms)
        self._timer = QTimer(self)
        self._timer.setInterval(_LOOK_MS)
        self._timer.timeout.connect(self._show_history)
        self._filled: Mapping[str, Any] | None = self.finetuning.found
        session = self.session
        self.listen(session.section_opened, self._list_columns)
        for signal in (session.section_opened, session.labels_changed, session.predicted, self.finetuning.changed):
            self.listen(signal, self.refresh)
        for slot in (self.finetuning.training, self.finetuning.searching):
            self.listen(slot.changed, self.refresh)
        self.listen(self.workspace.live_changed, self.refresh)
        self.source.changed.connect(self.refresh)
        self.column.changed.connect(self.refresh)
        self.settings.on_change(self.refused.clear)
        self.refresh()

    def refresh(self) -> None:
        """Make what is shown equal to the state."""
        session, tuning = self.session, self.finetuning
        busy, run = tuning.training.is_busy, tuning.run
        self.empty.setVisible(not session.is_open)
        self.column.visible = self.source.value == FROM_COLUMN
        counts = self._counts()
        ready = session.is_open and (len(counts) > 1 or bool(self.column.choices))
        outcome = None if run is None or busy else run.outcome
        undecided = run is not None and not busy
        self.no_labels.setVisible(session.is_open and not ready and run is None)
        self.form.setVisible(ready and not busy and not undecided)
        self._explain(counts)
        self.run.setEnabled(len(counts) > 1 and not labels_missing(counts, MIN_LABELS) and not tuning.searching.is_busy)
        self.search.setEnabled(self.run.isEnabled())
        self.going.setVisible(session.is_open and (busy or run is not None or tuning.training.job is not None))
        self._timer.start() if busy else self._timer.stop()
        self._show_history()
        self.stopped.setVisible(undecided and outcome is None)
        if run is not None:
            self.stopped_words.setText(
                f"A fine-tuning of this section, begun at {run.about['at']}, was cut off. Its checkpoint is there."
            )
        self.comparison.setVisible(outcome is not None)
        self.go_on.setVisible(outcome is not None and run is not None and run.can_resume)
        if outcome is not None and run is not None:
            self.comparison.show_comparison(run.comparison, _why_not_compared(outcome["note"]), _how_it_ended(outcome))
        self.kept.setVisible(session.is_open and not busy and bool(tuning.verdict or tuning.is_kept))
        off = tuning.is_kept and not self.workspace.live
        on_tissue = "The fine-tuned model is on the tissue. Live is off: your labels no longer change it."
        self.verdict.setText(on_tissue if off else tuning.verdict)
        for part in (self.apply, self.save):
            part.setVisible(tuning.is_kept)
        self.live.setVisible(off)
        self._show_found()

    # --- inside ---

    def _counts(self) -> dict[str, int]:
        if not self.session.is_open or (self.source.value == FROM_COLUMN and not self.column.value):
            return {}
        return self.finetuning.counts(self.source.value, self.column.value)

    def _explain(self, counts: dict[str, int]) -> None:
        self.explain.setText(
            f"Learns from {sum(counts.values()):,} labels in {len(counts)} classes, in a process of its own. A part of "
            "the tissue is held out to compare the result with the few-shot head."
        )
        self.explain.setVisible(len(counts) > 1)
        self.short.setText(_what_is_missing(counts))
        self.short.setVisible(bool(self.short.text()))

    def _list_columns(self) -> None:
        if self.session.is_open:
            self.column.choices = label_columns(self.session.table)

    def _show_history(self) -> None:
        run, job = self.finetuning.run, self.finetuning.training.job
        told = run.history.read() if run is not None else []
        if run is None and (job is None or not job.is_running):
            self.going.setVisible(job is not None and not self.progress.isHidden())
        first = [t for t in told if t["stage"] == SELECT]
        steps = [t for t in first if "loss" in t]
        epochs = [t for t in first if "scores" in t]
        again = [t for t in told if t["stage"] == REFIT and "loss" in t]
        to = float(epochs[-1]["epochs"]) if epochs else None
        lines = [Line("loss", _of(steps, "epoch"), _of(steps, "loss"), "#56B4E9")]
        lines.append(Line("on all labels", _of(again, "epoch"), _of(again, "loss"), "#CC79A7"))
        self.loss.show_lines(lines, x_to=to)
        shown = []
        for key, name, colour in _LINES:
            ys = [t["scores"].get(key, float("nan")) for t in epochs]
            shown.append(Line(name, _of(epochs, "epoch"), ys, colour, dots=True))
        scored = [t for t in epochs if "macro_f1" in t["scores"]]
        best = max(scored, key=lambda t: t["scores"]["macro_f1"], default=None)
        self.scores.show_lines(shown, x_to=to, mark=None if best is None else (best["epoch"], "best so far"))
        self.loss.setVisible(bool(self.loss.names))
        self.scores.setVisible(bool(self.scores.names))
        self.at.setText(_where_it_is(told, best))
        self.at.setVisible(bool(self.at.text()))

    def _show_found(self) -> None:
        tuning = self.finetuning
        if tuning.searching.is_busy:
            n = len(tuning.trials())
            self.found.setText(f"{n} trials ended." if n else "")
        elif tuning.found is not None:
            found = tuning.found
            if found is not self._filled and found["config"] is not None:
                self.settings.show(found["config"])
            self._filled = found
            where = "on cells that the search never saw" if found.get("unseen") else "where trials were compared"
            scores = ", ".join(f"{k} {v:.3f}" for k, v in found.get("scores", {}).items())
            self.found.setText(f"{found['reason']}" + (f" Macro-F1 {where}: {scores}." if scores else ""))
        self.found.setVisible(bool(self.found.text()))

    def _chosen(self) -> dict[str, Any] | None:
        """What to start with; None after saying what makes no sense."""
        try:
            config = self.settings.config()
        except ValueError as error:
            self.refused.show_error(StplmError("The settings make no sense.", mend=f"{error}."))
            return None
        self.refused.clear()
        column = self.column.value if self.source.value == FROM_COLUMN else None
        where = {"model": self.model.value, "device": self.device.value}
        return {"config": config, "source": self.source.value, "column": column, **where}

    def _run(self) -> None:
        if (chosen := self._chosen()) is not None:
            self.finetuning.start(**chosen)

    def _search(self) -> None:
        if (chosen := self._chosen()) is not None:
            self.finetuning.search(minutes=float(self.minutes.value), **chosen)

    def _save(self) -> None:
        folder, _ = QFileDialog.getSaveFileName(self, "Save the model as a folder", "my_model")
        if folder:
            self.finetuning.save_model(Path(folder))


def _what_is_missing(counts: dict[str, int]) -> str:
    """What labels a run, or a comparison, would need; "" where there are enough."""
    if len(counts) < 2:
        return "Labels of at least two classes are needed."
    if few := labels_missing(counts, MIN_LABELS):
        return f"Every class needs {MIN_LABELS} labels. Label {_each(few)}, or take the label away."
    if few := labels_missing(counts):
        return (
            f"Too few labels to hold any out, so the result could not be compared: {MIN_TO_HOLD_OUT} of each class are "
            f"needed. Label {_each(few)}."
        )
    return ""


def _each(few: Mapping[str, int]) -> str:
    return ", ".join(f"{n} more {name}" for name, n in few.items())


def _why_not_compared(note: Mapping[str, Any]) -> str:
    few = _what_is_missing({name: int(n) for name, n in note["labels"].items()})
    how = str(note["holdout"]).removeprefix("none").lstrip(":, ")
    return f"Not compared: nothing was held out{f' ({how})' if how else ''}. {few}".strip()


def _how_it_ended(outcome: Mapping[str, Any]) -> str:
    if outcome["stopped_at"] is None:
        return ""
    best = int(outcome["note"]["best_epoch"])
    kept = f"the weights after epoch {best}" if best else "the start, linear heads on the model as it was"
    return f"Ended early; the best so far is {kept}."


def _where_it_is(told: list[dict[str, Any]], best: dict[str, Any] | None) -> str:
    told = [t for t in told if t["epochs"]]
    if not told:
        return ""
    last = told[-1]
    words = f"Epoch {min(int(last['epoch']) + 1, last['epochs'])} of {last['epochs']}"
    words += " on all labels" if last["stage"] == REFIT else ""
    steps = [t["step"] for t in told if "loss" in t and t["stage"] == last["stage"]]
    words += f", step {steps[-1]:,}" if steps else ""
    return words + (
        f" · best held-out macro-F1 {best['scores']['macro_f1']:.3f} at epoch {best['epoch']}" if best else ""
    )


def _of(told: list[dict[str, Any]], key: str) -> list[float]:
    return [float(t[key]) for t in told]
