"""The classifier of the open section on other sections: a list, each with its state, in a process of its own."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from stplm.errors import ModelError
from stplm.progress import Progress
from stplm.tasks.section_runs import DONE, FAILED, RUNNING, SKIPPED, WAITING, SectionRun, run_sections, sections_in
from stplm_napari.apply_worker import HEAD, OUTCOME
from stplm_napari.jobs import Job, Slot
from stplm_napari.process import WorkerProcess
from stplm_napari.reader import is_section
from stplm_napari.runs import KeptModel, is_adapted, vectors_model, vectors_settings
from stplm_napari.script import pretty, writes
from stplm_napari.steps import Step
from stplm_napari.tasks import ADAPTED

if TYPE_CHECKING:
    from stplm_napari.script import Beside
    from stplm_napari.workspace import Workspace

_WORKER = "stplm_napari.apply_worker:"


@writes("apply", "The same on other sections")
def _apply(params: Mapping[str, Any], beside: Beside) -> list[str]:
    head, out = "tuned" if params["tuned"] else "classifier", f"OUT / {Path(params['out']).name!r}"
    own = {"model": f"OUT / {ADAPTED!r}"} if params.get("adapted") else {}
    options = [f"    {key}={own.get(key) or pretty(value, 4)}," for key, value in params["options"].items()]
    sections = f"sections = {pretty(list(params['sections']))}"
    return [sections, "OUT.mkdir(exist_ok=True)", f"stplm.apply_to_sections(sections, {out}, {head},", *options, ")"]


class Applying:
    """The list of sections and the job that works through it.

    Attributes
    ----------
    job
        The job's slot.
    runs
        Sections and their states, in the order of the list.
    shares_done
        Of each section of the list, which part is done (0 to 1).
    """

    changed = Signal()

    def __init__(self, workspace: Workspace) -> None:
        self._workspace, self.session = workspace, workspace.session
        self.worker = WorkerProcess()
        self.job = Slot()
        self.runs: list[SectionRun] = []
        self.shares_done: list[float] = []

    # --- the list ---

    def add(self, paths: Iterable[str | Path]) -> int:
        """Put sections on the list; of a folder that is none, the sections in it. Returns how many were new.

        Not while the list is worked through.
        """
        if self.job.is_busy:
            return 0
        found: list[Path] = []
        for path in map(Path, paths):
            inside = sorted(p for p in path.iterdir() if is_section(p)) if path.is_dir() else []
            found += inside if inside and not is_section(path) else [path]
        listed = {run.section.resolve() for run in self.runs}
        new = [p for p in dict.fromkeys(found) if p.resolve() not in listed]
        self._set([*self.runs, *(SectionRun(p, Path()) for p in new)])
        return len(new)

    def remove(self, place: int) -> None:
        """Take a section off the list; not while the list is worked through."""
        if not self.job.is_busy:
            self._set([run for i, run in enumerate(self.runs) if i != place])

    def clear(self) -> None:
        """Empty the list."""
        if not self.job.is_busy:
            self._set([])

    def _set(self, runs: list[SectionRun]) -> None:
        self.runs = runs
        self.shares_done = [float(run.state in (DONE, SKIPPED)) for run in runs]
        self.changed.emit()

    # --- the classifier ---

    def missing(self) -> str:
        """Why there is nothing to apply yet; "" when there is."""
        if self.session.classifier is not None:
            return ""
        return "No classifier yet: classify the cells of the open section first, or fine-tune a model."

    def in_words(self) -> str:
        """Which classifier would be applied."""
        made = self.session.prediction
        kind = "The fine-tuned model" if isinstance(self.session.classifier, KeptModel) else "The few-shot classifier"
        return f"{kind} of the open section" + (f", from {made.source}, at {made.at}." if made is not None else ".")

    # --- the work ---

    def start(
        self,
        out: str | Path,
        *,
        exports: Sequence[str] = ("h5ad",),
        report: bool = True,
        shares: str = "section",
        device: str = "auto",
        again: bool = False,
    ) -> Job:
        """Work through the list; sections that are done already, with the same classifier and settings, are passed
        over unless ``again``."""
        session = self.session
        classifier, opened = session.classifier, session.revision.section
        if classifier is None:
            raise ModelError("There is no classifier yet.", mend="Classify the cells of the open section first.")
        tuned, model = isinstance(classifier, KeptModel), vectors_model(session)
        if model is None and not tuned:
            raise ModelError(
                "The model that was adapted to the open section is not kept, so it can embed no other.",
                mend="Embed the open section again and classify; or fine-tune: that model brings its own vectors.",
            )
        options: dict[str, Any] = {
            "model": model or "default",
            "embedding": vectors_settings(session),
            "shares": shares,
            "device": device,
            "exports": list(exports),
            "report": report,
            "colours": {c.name: c.colour for c in session.classes},
            "resume": not again,
        }
        paths = [str(run.section) for run in self.runs]
        about = {"tuned": tuned, "adapted": is_adapted(session) and not tuned}
        step = Step("apply", {"sections": paths, "out": str(out), **about, "options": options})
        runs = sections_in(paths, out)
        self._set(list(runs))

        def on_change(place: int, run: SectionRun) -> None:
            self.runs[place] = run
            self.shares_done[place] = 0.0 if run.state in (WAITING, RUNNING) else 1.0

        def work(progress: Progress) -> None:
            with tempfile.TemporaryDirectory(prefix="stplm-") as name:
                scratch = Path(name)
                head = classifier.folder if tuned else classifier.save(scratch / HEAD)
                params = {"classifier": str(head), "options": options}
                self.worker.call(f"{_WORKER}check_in_folder", scratch, params, progress)

                def one(run: SectionRun, tell: Progress) -> SectionRun:
                    place = runs.index(run)

                    def follow(done: int, total: int) -> None:
                        self.shares_done[place] = done / total if total else 0.0
                        tell(done, total)

                    where = {"section": str(run.section), "folder": str(run.folder)}
                    self.worker.call(f"{_WORKER}apply_in_folder", scratch, {**params, **where}, follow)
                    return SectionRun.from_json(json.loads((scratch / OUTCOME).read_text(encoding="utf-8")))

                run_sections(runs, one, on_change=on_change, progress=progress)

        def put(_: None) -> None:
            if session.revision.section == opened:
                session.record(step)

        job = self._workspace.jobs.start("Applying to sections", work, put)
        job.ended.connect(self._on_ended)
        self.job.take(job)
        self.changed.emit()
        return job

    def summary(self) -> str:
        """How the list stands, in words."""
        states: list[str] = [run.state for run in self.runs]
        done = states.count(DONE) + states.count(SKIPPED)
        words = f"{done} of {len(states)} sections done"
        if n := states.count(SKIPPED):
            words += f", {n} of them before"
        if n := states.count(FAILED):
            words += f", {n} failed"
        return f"{words}."

    def close(self) -> None:
        """End the process."""
        self.worker.stop()

    def _on_ended(self) -> None:
        # Whatever was begun when the job ended otherwise than by itself waits again.
        self.runs = [replace(run, state="waiting") if run.state == RUNNING else run for run in self.runs]
        self.changed.emit()
