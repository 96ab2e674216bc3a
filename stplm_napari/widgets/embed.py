"""The Embed dock: which model, progress, and what came out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from magicgui.types import FileDialogMode
from magicgui.widgets import CheckBox, ComboBox, Container, FileEdit, SpinBox
from qtpy.QtWidgets import QVBoxLayout, QWidget

from stplm.errors import StplmError
from stplm_napari.colourings import CLUSTER
from stplm_napari.facts import genes_known, will_adapt
from stplm_napari.widgets.common import Dock, EmptyState, More, compact, keep_choices
from stplm_napari.widgets.panels import JobPanel
from stplm_napari.widgets.style import button, text

if TYPE_CHECKING:
    from napari.viewer import Viewer


class EmbedWidget(Dock):
    """Gives every cell a vector by a cell-token transformer."""

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(napari_viewer)
        self.empty = EmptyState("No section is open.", "Open a section", lambda: self.open_dock("Section"))
        self.about = text(kind="hint")
        models = model_choices()
        self.model = ComboBox(
            name="model",
            label="Model",
            choices=[(words, name) for name, words, _ in models],
            tooltip="\n".join(f"{name}: {tip}" for name, _, tip in models if tip) or "The bundled model",
        )
        self.device = device_choice()
        self.folder = FileEdit(
            name="folder",
            label="Model folder",
            mode=FileDialogMode.EXISTING_DIRECTORY,
            nullable=True,
            tooltip="A model that you trained (stplm pretrain, adapt or finetune); goes before the choice above",
        )
        self.neighbours = CheckBox(
            name="neighbours",
            text="Use neighbouring cells",
            value=True,
            tooltip="Off: a cell's vector comes from its own counts alone, for comparison.",
        )
        self.adapt = ComboBox(
            name="adapt",
            label="Adapt",
            choices=[("Where it knows few genes", "auto"), ("Always", True), ("Never", False)],
            tooltip="Trains on first, without labels, on this section's own cells: for a panel or tissue that the "
            "model has not seen. One to two minutes on a processor. By itself where it knows under 60 % of the genes "
            "of 5,000 cells or more.",
        )
        self.seed = SpinBox(
            name="seed",
            label="Seed",
            min=0,
            max=9999,
            value=0,
            tooltip="Start of the random numbers of adapting and clustering.",
        )
        self.form = Container(widgets=[self.model], labels=True)
        advanced = Container(widgets=[self.folder, self.device, self.adapt, self.neighbours, self.seed], labels=True)
        for form in (self.form, advanced):
            form.margins = (0, 0, 0, 0)
        compact(self.model, self.device, self.adapt)
        keep_choices(self.workspace, "embed", self.form, advanced)
        self.more = More(advanced.native)
        self.run = button("Embed cells", self._run, "primary")
        self.progress = JobPanel(self.workspace.embedding, self)
        self.result = text()
        self.colour = button(
            "Colour by clusters",
            lambda: self.session.colour(by=CLUSTER),
            tip="Colours each cell by the cluster of its vector; cells alike have one colour.",
        )
        self.content = QWidget()
        layout = QVBoxLayout(self.content)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(10)
        for part in (self.about, self.form.native, self.more, self.run, self.progress, self.result, self.colour):
            layout.addWidget(part)
        self.body.addWidget(self.empty)
        self.body.addWidget(self.content)
        self.body.addStretch(1)
        for signal in (self.session.section_opened, self.session.embedded):
            self.listen(signal, self.refresh)
        self.listen(self.session.colouring_changed, self._offer_colours)
        self.listen(self.workspace.embedding.changed, self.refresh)
        for field in (self.model, self.folder, self.adapt):
            field.changed.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Make what is shown equal to the state."""
        session = self.session
        self.empty.setVisible(not session.is_open)
        self.content.setVisible(session.is_open)
        if not session.is_open:
            return
        genes = genes_known(session.table, session.qc, self.chosen_model)
        words = f"{session.table.n_obs:,} cells, {genes.replace('known', 'genes known to the model')}."
        if self.adapt.value is True or (self.adapt.value == "auto" and will_adapt(session.table, self.chosen_model)):
            words += " It is adapted to this section first, without labels: a minute or two."
        self.about.setText(words)
        self.run.setText("Embed again" if session.is_embedded else "Embed cells")
        self.run.setEnabled(not self.workspace.embedding.is_busy)
        self.result.setText(self._result_words())
        self.result.setVisible(session.is_embedded)
        self._offer_colours()

    def _offer_colours(self) -> None:
        session = self.session
        self.colour.setVisible(session.is_open and session.is_embedded and session.colouring.by != CLUSTER)

    def _result_words(self) -> str:
        made = self.session.embedding
        if made is None:
            return "The section came with an embedding."
        n = self.session.table.n_obs
        return f"{n:,} cells embedded with {made.model} at {made.at}, in {made.seconds:.0f} s."

    @property
    def chosen_model(self) -> str:
        """The folder where one is given, else the bundled model."""
        folder = self.folder.value
        # magicgui gives a path of "." for a line that was emptied by hand
        if folder is not None and str(folder) not in ("", "."):
            return str(folder)
        return self.model.value or "default"

    def _run(self) -> None:
        self.workspace.embed(
            model=self.chosen_model,
            device=self.device.value,
            adapt=self.adapt.value,
            neighbours=self.neighbours.value,
            seed=self.seed.value,
        )


def device_choice() -> ComboBox:
    """Where a model runs."""
    return ComboBox(
        name="device",
        label="Device",
        choices=[("Automatic", "auto"), ("Processor (CPU)", "cpu"), ("NVIDIA GPU", "cuda")],
        tooltip="Where the model runs. Automatic takes an NVIDIA GPU where there is one, else the processor.",
    )


def model_choices() -> list[tuple[str, str, str]]:
    """Name, words and description of each bundled model, the default first."""
    from stplm.models import list_models

    try:
        models = list_models()
    except StplmError:
        models = []
    found = [(m.name, m.name + ("  (default)" if i == 0 else ""), m.description) for i, m in enumerate(models)]
    return found or [("default", "default", "")]
