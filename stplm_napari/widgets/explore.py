"""The Explore dock: marker genes and neighbours of groups of cells, niches, imputed genes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from magicgui.types import FileDialogMode
from magicgui.widgets import ComboBox, Container, FileEdit, FloatSpinBox, SpinBox
from qtpy.QtWidgets import QLineEdit, QVBoxLayout, QWidget

from stplm import keys
from stplm.errors import GeneError
from stplm_napari.colourings import Categories
from stplm_napari.exploring import NICHE, imputed, imputed_words
from stplm_napari.widgets.common import Dock, EmptyState, More, compact, keep_choices
from stplm_napari.widgets.groupgrid import GroupGrid
from stplm_napari.widgets.markergenes import MarkerGenes
from stplm_napari.widgets.panels import ErrorPanel, JobPanel
from stplm_napari.widgets.style import button, text

if TYPE_CHECKING:
    from napari.viewer import Viewer

_SOURCES = {keys.CLASS: "class", keys.CLUSTER: "cluster", keys.NICHE: NICHE}
"""Colouring sources of our own columns; others are "obs:column"."""


class ExploreWidget(Dock):
    """Asks what is in the tissue; changes no label and no class."""

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(napari_viewer)
        exploring = self.workspace.exploring
        self.empty = EmptyState("No section is open.", "Open a section", lambda: self.open_dock("Section"))
        self.error = ErrorPanel()
        # --- groups ---
        self.by = ComboBox(
            name="by", label="Groups", tooltip="The cells' classes, clusters, or a column of the section"
        )
        self.radius = FloatSpinBox(
            name="radius", label="Radius (µm)", value=30.0, min=5.0, max=200.0, step=5.0,
            tooltip="Cells at most this far apart are neighbours, in µm",
        )  # fmt: skip
        self.run = button("Compare groups", self._compare, "primary")
        self.nothing = text("Nothing divides these cells into groups yet: embed or classify them first.", "hint")
        self.old = text("Out of date: the groups changed since.", "warn")
        self.markers = MarkerGenes(lambda gene: self.workspace.viewing.colour_by(f"gene:{gene}"))
        self.enrichment = GroupGrid("{row} beside {column}: {value} standard deviations more often than by chance")
        self.interactions = GroupGrid("{value} % of {row}'s neighbours are {column}")
        self.missing = text(kind="hint")
        # --- niches ---
        self.n = SpinBox(name="n", label="Niches", value=8, min=2, max=40, tooltip="How many kinds of surroundings")
        self.find_niches = button("Find niches", self._find_niches, tip="Groups the cells by what surrounds them")
        self.no_tissue = text("Niches need an embedding with neighbours.", "hint")
        # --- imputed genes ---
        self.genes = QLineEdit()
        self.genes.setPlaceholderText("Genes, e.g. EPCAM, CD3E")
        self.genes.setToolTip("Symbols or Ensembl ids, a comma between; genes outside the panel need a reference")
        self.genes.returnPressed.connect(self._impute)
        self.reference = FileEdit(
            name="reference",
            label="Reference",
            mode=FileDialogMode.EXISTING_FILE,
            nullable=True,
            filter="Counts (*.h5ad *.loom *.h5)",
            tooltip="Single-cell counts of the same tissue, for genes that the panel does not have",
        )
        self.impute = button("Impute", self._impute, tip="Expected counts of these genes, from all others")
        self.imputed = text(kind="hint")
        self._build()
        session = self.session
        for signal in (session.section_opened, session.embedded, session.predicted, session.sources_changed):
            self.listen(signal, self.refresh)
        for signal in (session.classes_changed, exploring.changed):
            self.listen(signal, self.refresh)
        for slot in (exploring.comparing, exploring.niching, exploring.imputing):
            self.listen(slot.changed, self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Make what is shown equal to the state."""
        session, exploring = self.session, self.workspace.exploring
        self.empty.setVisible(not session.is_open)
        self.content.setVisible(session.is_open)
        if not session.is_open:
            return
        columns = self._columns()
        if list(self.by.choices) != [key for key, _ in columns]:
            chosen = self.by.value
            self.by.choices = [(words, key) for key, words in columns]
            if chosen in dict(columns):
                self.by.value = chosen
        for part, shown in ((self.form.native, bool(columns)), (self.run, bool(columns)), (self.nothing, not columns)):
            part.setVisible(shown)
        self.run.setEnabled(not exploring.comparing.is_busy)
        about = session.table.uns.get(keys.UNS, {}).get(keys.UNS_EMBEDDING, {})
        self.find_niches.setEnabled(bool(about.get("tissue")) and not exploring.niching.is_busy)
        self.no_tissue.setVisible(not about.get("tissue"))
        self.impute.setEnabled(not exploring.imputing.is_busy)
        found = imputed(session)
        self.imputed.setText("\n".join(f"{gene}: {imputed_words(how, r)}" for gene, (_, how, r) in found.items()))
        self.imputed.setVisible(bool(found))
        self._refresh_comparison()

    def _refresh_comparison(self) -> None:
        exploring = self.workspace.exploring
        found = exploring.comparison
        self.old.setVisible(exploring.is_outdated)
        self.markers.setVisible(found is not None)
        near = found is not None and found.enrichment is not None
        for part in (*self.grids, self.enrichment, self.interactions):
            part.setVisible(near)
        self.missing.setVisible(found is not None and not near)
        if found is None:
            return
        colours = self._colours(exploring.compared_by)
        self.markers.show_markers(found.markers, colours)
        self.missing.setText(found.missing)
        if found.enrichment is not None and found.interactions is not None:
            sizes = np.abs(found.enrichment.to_numpy())
            self.enrichment.show_grid(found.enrichment, colours, float(np.percentile(sizes, 90)))
            self.interactions.show_grid(100 * found.interactions, colours, 100.0)

    def _build(self) -> None:
        workspace = self.workspace
        self.form = Container(widgets=[self.by], labels=True)
        near = Container(widgets=[self.radius], labels=True)
        niches = Container(widgets=[self.n], labels=True)
        more = Container(widgets=[self.reference], labels=True)
        for form in (self.form, near, niches, more):
            form.margins = (0, 0, 0, 0)
        compact(self.by)
        keep_choices(workspace, "explore", near, niches, more)
        self.grids = (
            text("Who lies beside whom, against chance", "name"),
            text("Of a group's neighbours, how many are which, in %", "name"),
        )
        self.content = QWidget()
        layout = QVBoxLayout(self.content)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(8)
        for part in (
            self.error,
            text("Groups of cells", "title", wrap=False),
            self.nothing,
            self.form.native,
            More(near.native),
            self.run,
            JobPanel(workspace.exploring.comparing, self),
            self.old,
            self.markers,
            self.grids[0],
            self.enrichment,
            self.grids[1],
            self.interactions,
            self.missing,
            text("Niches", "title", wrap=False),
            niches.native,
            self.no_tissue,
            self.find_niches,
            JobPanel(workspace.exploring.niching, self),
            text("Imputed genes", "title", wrap=False),
            self.genes,
            More(more.native, "Genes outside the panel"),
            self.impute,
            JobPanel(workspace.exploring.imputing, self),
            self.imputed,
        ):
            layout.addWidget(part)
        for part in (self.empty, self.content):
            self.body.addWidget(part)
        self.body.addStretch(1)

    def _columns(self) -> list[tuple[str, str]]:
        """(column, name on the screen) of what can be compared: categories, not numbers."""
        session = self.session
        ours = [(keys.CLASS, "Class"), (keys.CLUSTER, "Embedding cluster"), (keys.NICHE, "Niche")]
        found = [(column, words) for column, words in ours if column in session.table.obs]
        for source in session.sources.offered():
            kind, _, column = source.key.partition(":")
            if kind == "obs" and session.table.obs[column].dtype == "category":
                found.append((column, source.words))
        return found

    def _colours(self, column: str) -> dict[str, str]:
        shown = self.session.sources.of(_SOURCES.get(column, f"obs:{column}"))
        return dict(zip(shown.names, shown.colours, strict=True)) if isinstance(shown, Categories) else {}

    def _compare(self) -> None:
        self.workspace.exploring.compare(self.by.value, self.radius.value)

    def _find_niches(self) -> None:
        self.workspace.exploring.find_niches(self.n.value)

    def _impute(self) -> None:
        genes = [name for name in self.genes.text().replace(",", " ").split() if name]
        self.error.clear()
        if not genes:
            self.error.show_error(GeneError("No gene is named.", mend="Type one or more, e.g. EPCAM, CD3E."))
            return
        reference = self.reference.value
        given = None if reference is None or str(reference) in ("", ".") else str(reference)
        self.workspace.exploring.impute(list(dict.fromkeys(genes)), given)
