"""Scenarios of a viewer: perturbations that were run, which of them is seen, and the tissue in their colours."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal

from stplm import keys
from stplm.errors import SectionError, StplmError
from stplm_napari.colourings import Numbers, Source, numbers
from stplm_napari.jobs import Job, Slot
from stplm_napari.perturb_tasks import ADAPTED, ALL, CLASS, REGION, SELECTED, TUNED, perturb_in_worker
from stplm_napari.results import snapshot
from stplm_napari.runs import KeptModel, is_adapted, vectors_model
from stplm_napari.scenario import MEASURES, Scenario
from stplm_napari.steps import Step

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stplm.progress import Progress
    from stplm.tasks.perturb_result import Perturbation
    from stplm_napari.workspace import Workspace

SHIFT, RESPONSE = "shift", "response"
"""Kinds of colours, before the scenario's name in a source's key."""
GROUP = "Perturbation"
_DIVERGING, _RISING = "RdBu_r", "magma"


class Perturbing:
    """Runs perturbations of one viewer's section in the worker and keeps them until another section is opened."""

    changed = Signal()

    def __init__(self, workspace: Workspace) -> None:
        self._workspace, self._session = workspace, workspace.session
        self.running, self.colouring = Slot(), Slot()
        self.scenarios: list[Scenario] = []
        self.shown: Scenario | None = None
        self.compared: Scenario | None = None
        """Beside the shown one, in the table."""
        self.gene = ""
        """The row that the tissue is coloured by."""
        self._home: tempfile.TemporaryDirectory[str] | None = None
        self._number = 0
        self._session.section_opened.connect(self._clear)

    def run(
        self,
        genes: Sequence[str] | str,
        *,
        mode: str = "delete",
        cells: str = ALL,
        cells_name: str = "",
        combine: str = "each",
        goal: str = "",
        nulls: int = 20,
        top: int = 0,
        max_cells: int = 0,
        dtype: str = "float32",
        seed: int = 0,
    ) -> Job | None:
        """Start a scenario; None, and an error in the docks, where there is nothing to perturb."""
        session = self._session
        try:
            rows, region = self._rows(cells, cells_name)
        except StplmError as error:
            session.failed.emit(error)
            return None
        table, classifier, opened = snapshot(session.table), self._classifier(), session.revision
        picker = self._workspace.canvas.layers.picker if self._workspace.canvas is not None else None
        self._number += 1
        name = _letter(self._number)
        params: dict[str, Any] = {
            "name": name,
            "genes": genes if isinstance(genes, str) else list(genes),
            "mode": mode,
            "combine": combine,
            "goal": goal,
            **self._model(),
            "nulls": nulls,
            "top": top or None,
            "max_cells": max_cells or None,
            "dtype": dtype,
            "seed": seed,
            "classifier": classifier is not None,
            "cells": {"from": cells, "name": cells_name},
        }
        folder = self._folder(name)

        def work(progress: Progress) -> Perturbation:
            chosen = rows
            if region is not None and picker is not None:
                chosen = region.cells(picker)
            if cells in (SELECTED, REGION) and chosen is not None:
                params["cells"]["ids"] = [str(i) for i in table.obs_names[chosen]]
            return perturb_in_worker(table, chosen, classifier, params, folder, self._workspace.worker, progress)

        def put(result: Perturbation) -> bool:
            if session.revision.section != opened.section:
                return False
            made = Scenario(
                name,
                params,
                result,
                datetime.now().strftime("%H:%M"),
                folder,
                lambda: session.revision.embedding != opened.embedding,
            )
            self.scenarios.append(made)
            if self.shown is not None and self.compared is None:
                self.compared = self.shown
            self.shown = made
            session.record(Step("perturb", params))
            self.colour_by(made, first_row(made))
            self.changed.emit()
            return True

        return self.running.take(self._workspace.jobs.start("Perturbing", work, put, unit="edits"))

    def show(self, name: str, compared: str = "") -> None:
        """Bring a scenario into the table, and another beside it ("" for none)."""
        found = {s.name: s for s in self.scenarios}
        self.shown, self.compared = found.get(name, self.shown), found.get(compared)
        if self.shown is not None:
            self.colour_by(self.shown, first_row(self.shown))
        self.changed.emit()

    def colour_by(self, scenario: Scenario, gene: str, measure: str = "", kind: str = SHIFT) -> Job | None:
        """Colour the tissue by how the cells answer to one row of a scenario; ``kind``: perturbed or cells around."""
        if not gene:
            return None
        session, opened = self._session, self._session.revision.section
        measure = measure or (scenario.effect if scenario.effect in MEASURES else "shift")
        self.gene = gene

        def read(_: Progress) -> NDArray[np.float32]:
            found = scenario.result
            return found.response_per_cell(gene) if kind == RESPONSE else found.per_cell(gene, measure)

        def put(values: NDArray[np.float32]) -> bool:
            if session.revision.section != opened or self.gene != gene:
                return False
            key = f"{kind}:{scenario.name}"
            what = "Neighbours' response" if kind == RESPONSE else MEASURES[measure]
            source = Source(key, f"{scenario.name}: {what}, {gene}", GROUP)
            session.sources.put(source, _scaled(values, measure if kind == SHIFT else "shift", scenario))
            self._workspace.viewing.colour_by(key)
            self.changed.emit()
            return True

        return self.colouring.take(self._workspace.jobs.start(f"Colouring by {gene}", read, put, quiet=True))

    @property
    def class_names(self) -> list[str]:
        """Classes that cells were predicted to be of, for cells and goals."""
        session = self._session
        if not session.is_open or keys.CLASS not in session.table.obs:
            return []
        return [str(c) for c in session.table.obs[keys.CLASS].cat.categories]

    @property
    def without_probabilities(self) -> str:
        """Why class probabilities will not be measured; "" where they will."""
        if self._session.classifier is None:
            return "Classify the cells first to see how class and tumour probabilities change."
        if self._classifier() is None and not isinstance(self._session.classifier, KeptModel):
            return "The cells were embedded with an adapted model, which is not kept: class probabilities are left out."
        return ""

    def close(self) -> None:
        """Let go of the files. Nobody is told: the docks may be gone already."""
        for slot in (self.running, self.colouring):
            if slot.job is not None:
                slot.job.cancel()
        self._drop_files()

    # --- inside ---

    def _rows(self, cells: str, name: str) -> tuple[NDArray[np.int64] | None, Any]:
        session = self._session
        if cells == SELECTED:
            if not len(session.selected):
                raise SectionError("No cell is selected.", mend="Select some with the lasso, or choose a class.")
            return session.selected.copy(), None
        if cells == CLASS:
            rows = np.flatnonzero((session.table.obs[keys.CLASS] == name).to_numpy())
            if not len(rows):
                raise SectionError(f"No cell was called {name}.", mend="Choose another class.")
            return rows, None
        if cells == REGION:
            return None, session.annotations.region(name)
        return None, None

    def _classifier(self) -> Any:
        """The few-shot head; None where a fine-tuned model's own heads judge, or nothing does."""
        classifier = self._session.classifier
        if vectors_model(self._session) is None:
            return None
        return classifier if hasattr(classifier, "outputs") else None

    def _model(self) -> dict[str, str]:
        """The model to ask: the one that was fine-tuned and called the cells, or was adapted and embedded them."""
        session = self._session
        if isinstance(session.classifier, KeptModel):
            return {"model": TUNED, "folder": str(session.classifier.folder)}
        model = vectors_model(session)
        return {"model": ADAPTED, "folder": model} if model and is_adapted(session) else {"model": model or "default"}

    def _folder(self, name: str) -> Path:
        if self._home is None:
            self._home = tempfile.TemporaryDirectory(prefix="stplm-perturb-", ignore_cleanup_errors=True)
        folder = Path(self._home.name) / name
        folder.mkdir()
        return folder

    def _clear(self) -> None:
        for slot in (self.running, self.colouring):
            slot.clear()
        self.scenarios, self.shown, self.compared, self.gene, self._number = [], None, None, "", 0
        self._drop_files()
        self.changed.emit()

    def _drop_files(self) -> None:
        if self._home is not None:
            self._home.cleanup()
            self._home = None


def first_row(scenario: Scenario) -> str:
    """Name of the row that the tissue is coloured by at first; "" where nothing was perturbed."""
    order = scenario.result.ranked()
    return str(scenario.result.genes["genes"].iloc[order[0]]) if len(order) else ""


def _scaled(values: NDArray[np.float32], measure: str, scenario: Scenario) -> Numbers:
    words = f"{scenario.words}. The model's response, not a causal claim."
    known = np.abs(values[np.isfinite(values)])
    high = float(np.percentile(known, 99)) if len(known) else 1.0
    if measure == "shift":
        return numbers(values, 0.0, high or 1.0, cmap=_RISING, low="none", high="far", words=words)
    return numbers(values, -(high or 1.0), high or 1.0, cmap=_DIVERGING, low="less", high="more", words=words)


def _letter(number: int) -> str:
    """A, B, ..., Z, A2, ..."""
    turn, place = divmod(number - 1, 26)
    return "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[place] + (str(turn + 1) if turn else "")
