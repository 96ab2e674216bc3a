"""The Perturb dock: ask the model what a gene does, in which cells, and see what answers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from magicgui.widgets import CheckBox, ComboBox, Container, SpinBox
from qtpy.QtWidgets import QComboBox, QFileDialog, QHBoxLayout, QVBoxLayout, QWidget

from stplm.errors import StplmError
from stplm_napari.colourings import Numbers
from stplm_napari.perturb_tasks import ALL, CLASS, REGION, SELECTED
from stplm_napari.perturbing import RESPONSE, SHIFT
from stplm_napari.scenario import MEASURES, Scenario
from stplm_napari.widgets.common import Dock, EmptyState, More, compact, keep_choices
from stplm_napari.widgets.genechips import GeneChips
from stplm_napari.widgets.panels import ErrorPanel, JobPanel
from stplm_napari.widgets.perturbtable import GeneTable, save_table
from stplm_napari.widgets.range import RangeBar
from stplm_napari.widgets.scale import ColourScale
from stplm_napari.widgets.short import ShortBox
from stplm_napari.widgets.style import button, text

if TYPE_CHECKING:
    from napari.viewer import Viewer

_MODES = [("Delete", "delete"), ("Overexpress", "overexpress"), ("Inhibit", "inhibit"), ("Activate", "activate")]
_CLAIM = "The model's response, not a causal claim."
_NO_GOAL = ("No goal", "")
_NEIGHBOURS = "Response of the cells around"


class PerturbWidget(Dock):
    """Genes, cells and a goal; then a map, a ranked table, and a second scenario beside the first."""

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(napari_viewer)
        self._perturbing = self.workspace.perturbing
        self.empty = EmptyState("No section is open.", "Open a section", lambda: self.open_dock("Section"))
        self.unembedded = EmptyState("No cells embedded yet.", "Embed cells", lambda: self.open_dock("Embed"))
        self.claim = text(_CLAIM, "hint")
        kept = self.workspace.choices.setdefault("perturb genes", {"genes": []})
        self.every_gene = CheckBox(
            name="screen",
            text="Every gene, one at a time (screen)",
            tooltip="Perturbs each gene of the panel in the cells that express it, and ranks them.",
        )
        self.mode = ComboBox(
            name="mode",
            label="Mode",
            choices=_MODES,
            tooltip="Delete: the gene is gone. Overexpress: among the highest. Inhibit, activate: a quarter of the "
            "ranking down, up.",
        )
        self.cells = ComboBox(name="cells", label="In", choices=[("All cells", (ALL, ""))], tooltip="Which cells")
        self.goal = ComboBox(
            name="goal",
            label="Goal",
            choices=[_NO_GOAL],
            tooltip="A class: genes are ranked by how far cells move towards its mean vector.",
        )
        every = Container(widgets=[self.every_gene], labels=False)
        self.form = Container(widgets=[self.mode, self.cells, self.goal], labels=True)
        self.combine = ComboBox(
            name="combine",
            label="Genes",
            choices=[("Each alone", "each"), ("All together", "together"), ("All pairs", "pairs")],
            tooltip="Several genes: one scenario row for each, for all at once, or for each pair.",
        )
        self.nulls = SpinBox(
            name="nulls",
            label="Compared with",
            value=20,
            min=0,
            max=100,
            tooltip="Genes of like expression that each is tested against; 0 leaves the test out.",
        )
        self.top = SpinBox(
            name="top",
            label="Only the best",
            value=0,
            min=0,
            max=1000,
            tooltip="Of a deletion screen: find about so many genes that move cells the most, run only these in all "
            "cells. 0 runs all: quick for the default model; gene-token models save time in thousands of cells.",
        )
        self.max_cells = SpinBox(
            name="max_cells",
            label="Cells at most",
            value=0,
            min=0,
            max=10_000_000,
            step=1000,
            tooltip="Of more cells, so many are taken at random: quicker, and a mean over some thousand cells is as "
            "good as one over all. 0 takes all.",
        )
        self.seed = SpinBox(
            name="seed", label="Seed", value=0, min=0, max=9999, tooltip="Of the samples for tests and noise."
        )
        advanced = Container(widgets=[self.combine, self.nulls, self.top, self.max_cells, self.seed], labels=True)
        for form in (every, self.form, advanced):
            form.margins = (0, 0, 0, 0)
        compact(self.mode, self.cells, self.goal, self.combine)
        self.run = button("Perturb", self._run, "primary")
        self.genes = GeneChips(self, kept["genes"], self._allow)
        self.hint = text(kind="hint")
        self.progress = JobPanel(self._perturbing.running, self)
        self.error = ErrorPanel()
        self.results = self._build_results()
        self.content = QWidget()
        layout = QVBoxLayout(self.content)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(10)
        parts = (self.claim, self.genes, every.native, self.form.native, More(advanced.native), self.hint, self.run)
        for part in (*parts, self.progress, self.error, self.results):
            layout.addWidget(part)
        for part in (self.empty, self.unembedded, self.content):
            self.body.addWidget(part)
        self.body.addStretch(1)
        self._offer()
        keep_choices(self.workspace, "perturb", every, self.form, advanced)
        session = self.session
        for signal in (session.section_opened, session.embedded, session.predicted, session.selection_changed):
            self.listen(signal, self.refresh)
        for signal in (session.regions_changed, self._perturbing.changed, self._perturbing.running.changed):
            self.listen(signal, self.refresh)
        self.listen(session.colouring_changed, self._show_scale)
        self.every_gene.changed.connect(self._allow)
        session.failed.connect(self.error.show_error)
        self._connections.append(lambda: session.failed.disconnect(self.error.show_error))
        self.refresh()

    def refresh(self) -> None:
        """Make what is shown equal to the state."""
        session = self.session
        self.empty.setVisible(not session.is_open)
        self.unembedded.setVisible(session.is_open and not session.is_embedded)
        self.content.setVisible(session.is_open and session.is_embedded)
        if not session.is_open or not session.is_embedded:
            return
        self._offer()
        self.hint.setText(self._perturbing.without_probabilities)
        self.hint.setVisible(bool(self.hint.text()))
        self._allow()
        self._show_results()

    # --- the form ---

    def _offer(self) -> None:
        session = self.session
        if not session.is_open:
            return
        classes = self._perturbing.class_names
        many = len(session.selected)
        cells = [("All cells", (ALL, ""))]
        cells += [(f"Selected cells ({many:,})", (SELECTED, ""))] if many else []
        cells += [(f"Class {name}", (CLASS, name)) for name in classes]
        cells += [(f"Region {region.name}", (REGION, region.name)) for region in session.annotations.regions]
        _set_choices(self.cells, cells)
        _set_choices(self.goal, [_NO_GOAL, *((name, name) for name in classes)])

    def _allow(self, *_: object) -> None:
        if not hasattr(self, "genes"):  # the chips report while the dock is being built
            return
        every = bool(self.every_gene.value)
        self.genes.setEnabled(not every)
        self.run.setEnabled((every or bool(self.genes.genes)) and not self._perturbing.running.is_busy)

    def _run(self) -> None:
        self.error.clear()
        cells, name = self.cells.value
        genes = self.genes.genes
        every = bool(self.every_gene.value)
        deletes = every and self.mode.value == "delete"
        self._perturbing.run(
            ALL if every else genes,
            mode=self.mode.value,
            cells=cells,
            cells_name=name,
            combine="each" if every or len(genes) < 2 else self.combine.value,
            goal=self.goal.value or "",
            nulls=self.nulls.value,
            top=self.top.value if deletes else 0,
            max_cells=self.max_cells.value,
            seed=self.seed.value,
        )

    # --- the results ---

    def _build_results(self) -> QWidget:
        made = QWidget()
        layout = QVBoxLayout(made)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(8)
        self.scenario, self.beside = (ShortBox(12, tip) for tip in ("In the table", "Beside it"))
        self.by = ShortBox(12, "The tissue is coloured, for the chosen gene, by")
        self.scenario.activated.connect(self._choose)
        self.beside.activated.connect(self._choose)
        self.by.activated.connect(lambda _: self._colour(self._perturbing.gene))
        self.scale, self.range = ColourScale(), RangeBar(self.session)
        self.table = GeneTable(self._colour, self._save)
        self.switch = button("Colour by the other scenario", self._colour_other)
        self.rings = text(kind="hint")
        self.old = text("The cells were embedded anew since; run it again.", "warn")
        for words, box in (("Scenario", self.scenario), ("Beside", self.beside), ("Tissue", self.by)):
            row = QHBoxLayout()
            name = text(words, "name", wrap=False)
            name.setMinimumWidth(70)
            row.addWidget(name)
            row.addWidget(box, 1)
            layout.addLayout(row)
        for part in (self.scale, self.range, self.old, self.switch, self.rings, self.table):
            layout.addWidget(part)
        return made

    def _show_results(self) -> None:
        state = self._perturbing
        self.results.setVisible(state.shown is not None)
        if state.shown is None:
            return
        _fill(self.scenario, [(s.words, s.name) for s in state.scenarios], state.shown.name)
        others = [(s.words, s.name) for s in state.scenarios if s is not state.shown]
        _fill(self.beside, [("None", ""), *others], state.compared.name if state.compared else "")
        self.beside.setEnabled(bool(others))
        by = [(MEASURES[name], name) for name in state.shown.measures()]
        by += [(_NEIGHBOURS, RESPONSE)] if state.shown.result.response else []
        _fill(self.by, by, self.by.currentData() or state.shown.effect)
        self.switch.setVisible(state.compared is not None)
        self.old.setVisible(state.shown.model_has_changed())
        self.table.show_scenario(state.shown, state.compared)
        self.rings.setText(state.shown.ring_words(state.gene))
        self.rings.setVisible(bool(self.rings.text()))
        self._show_scale()

    def _show_scale(self) -> None:
        """The colours on the tissue, where they are a scenario's."""
        session = self.session
        key = session.colouring.by
        shown = session.sources.of(key) if key.partition(":")[0] in (SHIFT, RESPONSE) else None
        for part in (self.scale, self.range):
            part.setVisible(isinstance(shown, Numbers))
        if isinstance(shown, Numbers):
            lo, hi = session.sources.range_of(key, shown)
            self.scale.show_map(shown.cmap, shown.low, shown.high, lo=lo, hi=hi)
            self.range.refresh(shown)

    def _choose(self, *_: object) -> None:
        name, beside = self.scenario.currentData(), self.beside.currentData()
        self._perturbing.show(name, "" if beside == name else beside or "")

    def _colour(self, gene: str) -> None:
        if self._perturbing.shown is not None:
            self._colour_in(self._perturbing.shown, gene)

    def _colour_other(self) -> None:
        """The same gene in the scenario beside, and back."""
        state = self._perturbing
        if state.compared is None or state.shown is None:
            return
        now = self.session.colouring.by.rpartition(":")[2]
        self._colour_in(state.shown if now == state.compared.name else state.compared, state.gene)

    def _colour_in(self, scenario: Scenario, gene: str) -> None:
        by = self.by.currentData() or "shift"
        kind = RESPONSE if by == RESPONSE and scenario.result.response else SHIFT
        measure = by if by in scenario.measures() else ""
        if gene in set(scenario.result.genes["genes"]):
            self._perturbing.colour_by(scenario, gene, measure, kind)

    def _save(self) -> None:
        shown = self._perturbing.shown
        if shown is None:
            return
        start = str(self.workspace.exporter.folder() / f"perturbation-{shown.name}.csv")
        path, _ = QFileDialog.getSaveFileName(self, "Save the table", start, "CSV (*.csv);;Parquet (*.parquet)")
        if path:
            try:
                save_table(shown.result.genes, Path(path))
            except StplmError as error:
                self.error.show_error(error)


def _set_choices(box: ComboBox, choices: list[tuple[str, Any]]) -> None:
    value = box.value
    box.choices = choices
    if value in [data for _, data in choices]:
        box.value = value


def _fill(box: QComboBox, entries: list[tuple[str, str]], chosen: str) -> None:
    box.blockSignals(True)
    box.clear()
    for words, data in entries:
        box.addItem(words, data)
    box.setCurrentIndex(max(box.findData(chosen), 0))
    box.blockSignals(False)
