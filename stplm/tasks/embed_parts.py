"""The pieces of embedding a section; any process that sees the files can do any of them.

*prepare* reads the section once and lays counts and positions out as flat arrays; *own_part* makes the own vectors of
a block of cells from these, *tissue_part* the cell vectors of a band of tiles from the own vectors around it; *merge*
puts all into the section's table and writes it. Blocks and bands are those of :mod:`stplm.tasks.encode`, so the vectors
are the same bytes as of a section that is embedded in one go.

A piece lies in the folder ``<name>.parts`` beside the section's output, renamed when it is whole: a piece that is there
is not made again, whoever was killed since. The folder is of one section, model and setting (``plan.json``).
"""

from __future__ import annotations

import json
import shutil
import threading
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from itertools import islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from stplm.errors import ModelError, SectionError
from stplm.io.staged import make_folder, restore_interrupted, staged_file, staged_folder
from stplm.models import Model, load_model
from stplm.progress import Progress
from stplm.tasks.batch import process_section
from stplm.tasks.encode import Vectors, bands, encode_band, encode_block, on_device
from stplm.tasks.finished import finished, what_is_wanted
from stplm.tasks.section_runs import SectionRun

if TYPE_CHECKING:
    from anndata import AnnData

    from stplm.nn.encoder import Encoder
    from stplm.tasks.sources import Source

PLAN = "plan.json"
_ONE_AT_A_TIME = threading.Lock()
"""Of the threads of one worker: they share its encoder, and each uses all cores that the worker has."""


@dataclass(frozen=True)
class Embedding:
    """How to embed. ``model``: a bundled name or a folder, of ``sha256``; ``block``, ``band``: cells of a piece, about.

    The others are :func:`stplm.embed`'s; ``what`` is the format of the result.
    """

    model: str
    sha256: str
    block: int
    band: int
    adapt: bool = False
    neighbours: bool = True
    device: str = "auto"
    dtype: str = "float32"
    seed: int = 0
    clusters: int = 12
    what: Literal["h5ad", "zarr"] = "h5ad"

    def about(self) -> dict[str, Any]:
        """What decides on the outcome."""
        return {name: value for name, value in asdict(self).items() if name not in ("model", "device", "what")}

    def wanted(self, section: Path) -> dict[str, Any]:
        """What the marker of a finished section says."""
        return what_is_wanted(section, {"task": "embed", **self.about()}, exports=(self.what,), report=False)


@dataclass(frozen=True)
class Plan:
    """The pieces of a section: numbers of blocks and bands (0 where cells stand alone); and of its cells."""

    parts: Path
    cells: int
    blocks: int
    bands: int
    model: str
    sha256: str


def prepare(section: Path, folder: Path, how: Embedding, resume: bool) -> Plan | SectionRun:
    """Lay out a section for its pieces; or its outcome, where that is there already.

    Raises StplmError for whatever is wrong with the section, the model or the place.
    """
    import stplm
    from stplm.tasks.adapt import adapt
    from stplm.tasks.cells import Cells
    from stplm.tasks.sources import Source
    from stplm.tasks.stored import write_cells

    about, parts = how.wanted(section), folder.with_name(f"{folder.name}.parts")
    if resume and (found := finished(folder, about)) is not None:
        shutil.rmtree(parts, ignore_errors=True)
        return replace(found, section=section, folder=folder, state="skipped")
    restore_interrupted(parts)
    if resume and (plan := _read_plan(parts, about)) is not None:
        return plan
    table = stplm.cell_table(stplm.read_section(section, images=False, labels=False))
    model, name = _model(how.model, how.sha256), how.model
    if how.adapt:
        model, name = adapt(table, model, seed=how.seed, device=how.device), str(parts / "model")
    source = Source.of_table(table, model.encoder.genes)
    alone = source.xy is None or not how.neighbours
    number = 0 if alone or source.xy is None else sum(1 for _ in bands(source.xy, model.encoder.config, how.band))
    plan = Plan(parts, len(source), -(-len(source) // how.block), number, name, model.fingerprint())
    make_folder(parts.parent)
    with staged_folder(parts, mark=PLAN) as stage:
        stage.mkdir()
        counts: Any = source.counts
        write_cells(Cells(counts[:, source.columns], source.rows, source.xy, None, None, None), stage)
        np.save(stage / "rows.npy", source.rows)
        if how.adapt:
            model.save(stage / "model")
        text = json.dumps({"wanted": about, "plan": {**asdict(plan), "parts": ""}}, indent=1)
        (stage / PLAN).write_text(text + "\n", encoding="utf-8")
    return plan


def own_part(plan: Plan, number: int, how: Embedding) -> None:
    """Make the own vectors of a block of cells, if they are not there."""
    path = _own(plan, number)
    if path.exists():
        return
    source, encoder = _source(plan), _encoder(plan)
    block = source.read(number * how.block, min((number + 1) * how.block, plan.cells))
    with _ONE_AT_A_TIME, on_device(encoder, _device(how), how.dtype) as team:
        own = np.empty((block.stop - block.start, encoder.config.own_width), dtype=np.float32)
        for cells, vectors in encode_block(encoder, block, source.rows, team):
            own[cells] = vectors
    _save(path, own)


def tissue_part(plan: Plan, number: int, how: Embedding) -> None:
    """Make the cell vectors of a band, if they are not there: what is not in the own vectors, in the order of cells."""
    path = _tissue(plan, number)
    if path.exists():
        return
    source, encoder = _source(plan), _encoder(plan)
    assert source.xy is not None
    band = next(islice(bands(source.xy, encoder.config, how.band), number, None))
    made = np.empty((len(band.cells), encoder.config.dim - _kept(encoder)), dtype=np.float32)
    with _ONE_AT_A_TIME, on_device(encoder, _device(how), how.dtype) as team:
        around = _own_of(plan, band.around, how.block)
        for cells, vectors in encode_band(encoder, source.xy, band, around, team):
            made[np.searchsorted(band.cells, cells)] = vectors[:, _kept(encoder) :]
    _save(path, made)


def merge(section: Path, folder: Path, plan: Plan, how: Embedding) -> SectionRun:
    """Write the section with its vectors, clusters and their origin, as :func:`stplm.embed` and an export would."""
    about = how.wanted(section)
    if not plan.parts.exists() and (found := finished(folder, about)) is not None:
        # Whoever merged it was lost before it could say so.
        return replace(found, section=section, folder=folder, state="done")
    if _read_plan(plan.parts, about) != plan:
        raise SectionError(
            "The section was changed while it was embedded.", where=section, mend="Run it again: it is begun anew."
        )

    def work(table: AnnData, progress: Progress) -> None:
        from stplm.tasks.embed import put_vectors

        put_vectors(
            table,
            _vectors(plan, how),
            Model(_encoder(plan), _model(plan.model, plan.sha256).name),
            genes_known=len(_source(plan).rows),
            adapted=how.adapt,
            seed=how.seed,
            tissue=plan.bands > 0,
            dtype=how.dtype,
            clusters=how.clusters,
        )

    outcome = process_section(
        section, folder, work, about["about"], exports=(how.what,), report=False, whole=True, resume=False
    )
    shutil.rmtree(plan.parts, ignore_errors=True)
    return outcome


def _vectors(plan: Plan, how: Embedding) -> Vectors:
    encoder, source = _encoder(plan), _source(plan)
    vectors = np.zeros((plan.cells, encoder.config.dim), dtype=np.float32)
    if encoder.keeps_own or not plan.bands:
        own = vectors[:, : encoder.config.own_width]
        for number in range(plan.blocks):
            own[number * how.block : (number + 1) * how.block] = np.load(_own(plan, number))
    if plan.bands:
        assert source.xy is not None
        for number, band in enumerate(bands(source.xy, encoder.config, how.band)):
            vectors[band.cells, _kept(encoder) :] = np.load(_tissue(plan, number))
    return vectors


def _own_of(plan: Plan, cells: NDArray[np.int64], block: int) -> Vectors:
    """Own vectors of some ``cells``, in ascending order, from the parts that hold them."""
    ends = np.searchsorted(cells, np.arange(0, (plan.blocks + 1) * block, block))
    found = [
        np.load(_own(plan, number), mmap_mode="r")[cells[start:stop] - number * block]
        for number, (start, stop) in enumerate(pairwise(ends))
        if stop > start
    ]
    return np.concatenate(found)


def _read_plan(parts: Path, about: dict[str, Any]) -> Plan | None:
    """The plan in a folder of parts, if it is of this section, model and setting."""
    try:
        found = json.loads((parts / PLAN).read_text(encoding="utf-8"))
        return Plan(**{**found["plan"], "parts": parts}) if found["wanted"] == about else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _source(plan: Plan) -> Source:
    from stplm.tasks.sources import Source
    from stplm.tasks.stored import read_cells

    return Source.of_cells(read_cells(plan.parts, np.load(plan.parts / "rows.npy")))


@lru_cache(maxsize=2)
def _model(name: str, sha256: str) -> Model:
    model = load_model(name)
    if (found := model.fingerprint()) != sha256:
        raise ModelError(
            "The model of this name is another one where the work is done.",
            where=name,
            found=found[:12],
            expected=sha256[:12],
            mend="Give every worker the same model folder and the same version of stplm.",
        )
    return model


def _encoder(plan: Plan) -> Encoder:
    return _model(plan.model, plan.sha256).encoder


def _kept(encoder: Encoder) -> int:
    """How many columns of a cell vector are its own vector."""
    return encoder.config.own_width if encoder.keeps_own else 0


def _device(how: Embedding) -> Any:
    from stplm.tasks.device import choose_device

    return choose_device(how.device)


def _own(plan: Plan, number: int) -> Path:
    return plan.parts / f"own-{number:05}.npy"


def _tissue(plan: Plan, number: int) -> Path:
    return plan.parts / f"tissue-{number:05}.npy"


def _save(path: Path, vectors: Vectors) -> None:
    with staged_file(path) as stage:
        np.save(stage, vectors)
