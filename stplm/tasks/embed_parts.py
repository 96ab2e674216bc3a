"""The pieces of embedding a section; any process that sees the files can do any of them.

*prepare* reads the section once and lays counts and positions out as flat arrays (an ``.h5ad`` of ours is read piece by
piece as it is, a large bundle is laid out as one, neither is ever loaded whole); *own_part* makes the own vectors of a
block of cells from these, *tissue_part* the cell vectors of a band of tiles from the own vectors around it; *merge*
puts all into the section's table and writes it. Blocks and bands are those of :mod:`stplm.tasks.encode`, so the vectors
are the same bytes as of a section that is embedded in one go.

A piece lies in the folder ``<name>.parts`` beside the section's output, renamed when it is whole: a piece that is there
is not made again, whoever was killed since. The folder is of one section, model and setting (``plan.json``).
"""

from __future__ import annotations

import json
import shutil
import threading
import time
from dataclasses import asdict, replace
from itertools import islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stplm.errors import SectionError
from stplm.io.laid_out import large_bundle, lay_out_bundle
from stplm.io.staged import make_folder, restore_interrupted, staged_file, staged_folder
from stplm.io.table_file import TableFile, is_table_file
from stplm.memory import let_go
from stplm.models import Model
from stplm.progress import Progress
from stplm.tasks.batch import process_section
from stplm.tasks.clusters import cluster
from stplm.tasks.embed import embedding_note, put_vectors
from stplm.tasks.embed_file import Embedded, source_of, write_embedded
from stplm.tasks.embed_plan import LAID_OUT, PLAN, Embedding, Plan, model_of, positions, read_plan, source_in
from stplm.tasks.encode import Vectors, bands, encode_band, encode_block, on_device
from stplm.tasks.finished import MARKER, OUTPUTS, finished, write_marker
from stplm.tasks.section_runs import SectionRun

if TYPE_CHECKING:
    from anndata import AnnData

    from stplm.nn.encoder import Encoder
    from stplm.tasks.sources import Source

_ONE_AT_A_TIME = threading.Lock()
"""Of the threads of one worker: they share its encoder, and each uses all cores that the worker has."""


def prepare(section: Path, folder: Path, how: Embedding, resume: bool) -> Plan | SectionRun:
    """Lay out a section for its pieces; or its outcome, where that is there already.

    Raises StplmError for whatever is wrong with the section, the model or the place.
    """
    about, parts = how.wanted(section), folder.with_name(f"{folder.name}.parts")
    if resume and (found := finished(folder, about)) is not None:
        shutil.rmtree(parts, ignore_errors=True)
        return replace(found, section=section, folder=folder, state="skipped")
    restore_interrupted(parts)
    if resume and (plan := read_plan(section, parts, about)) is not None:
        return plan
    make_folder(parts.parent)
    with staged_folder(parts, mark=PLAN) as stage:
        stage.mkdir()
        plan = _lay_out(section, stage, parts, how)
        text = json.dumps({"wanted": about, "plan": {**asdict(plan), "parts": "", "file": ""}}, indent=1)
        (stage / PLAN).write_text(text + "\n", encoding="utf-8")
    return plan


def _lay_out(section: Path, stage: Path, parts: Path, how: Embedding) -> Plan:
    """Put what the pieces need into the folder ``stage``, which will be called ``parts``."""
    import stplm
    from stplm.tasks.adapt import adapt
    from stplm.tasks.cells import Cells
    from stplm.tasks.sources import Source
    from stplm.tasks.stored import write_cells

    model, name = model_of(how.model, how.sha256), how.model
    if _read_as_it_is(section, how):
        with TableFile(section) as file:
            return _plan(source_of(file, model), parts, section, model, name, how)
    if how.what == "h5ad" and not how.adapt and (bundle := large_bundle(section)) is not None:
        lay_out_bundle(bundle, stage / LAID_OUT)
        with TableFile(stage / LAID_OUT) as file:
            return _plan(source_of(file, model), parts, parts / LAID_OUT, model, name, how)
    table = stplm.cell_table(stplm.read_section(section, images=False, labels=False))
    if how.adapt:
        model, name = adapt(table, model, seed=how.seed, device=how.device), str(parts / "model")
        model.save(stage / "model")
    source = Source.of_table(table, model.encoder.genes)
    counts: Any = source.counts
    write_cells(Cells(counts[:, source.columns], source.rows, source.xy, None, None, None), stage)
    np.save(stage / "rows.npy", source.rows)
    return _plan(source, parts, None, model, name, how)


def _read_as_it_is(section: Path, how: Embedding) -> bool:
    return how.what == "h5ad" and not how.adapt and is_table_file(section)


def _plan(source: Source, parts: Path, file: Path | None, model: Model, name: str, how: Embedding) -> Plan:
    number = 0
    if source.xy is not None and how.neighbours:
        number = sum(1 for _ in bands(source.xy, model.encoder.config, how.band))
    return Plan(parts, file, len(source), -(-len(source) // how.block), number, name, model.fingerprint())


def own_part(plan: Plan, number: int, how: Embedding) -> None:
    """Make the own vectors of a block of cells, if they are not there."""
    path = _own(plan, number)
    if path.exists():
        return
    encoder = _encoder(plan)
    with source_in(plan) as source:
        block, rows = source.read(number * how.block, min((number + 1) * how.block, plan.cells)), source.rows
    with _ONE_AT_A_TIME, on_device(encoder, _device(how), how.dtype) as team:
        own = np.empty((block.stop - block.start, encoder.config.own_width), dtype=np.float32)
        for cells, vectors in encode_block(encoder, block, rows, team):
            own[cells] = vectors
    _save(path, own)


def tissue_part(plan: Plan, number: int, how: Embedding) -> None:
    """Make the cell vectors of a band, if they are not there: what is not in the own vectors, in the order of cells."""
    path = _tissue(plan, number)
    if path.exists():
        return
    encoder, xy = _encoder(plan), positions(plan)
    band = next(islice(bands(xy, encoder.config, how.band), number, None))
    made = np.empty((len(band.cells), encoder.config.dim - _kept(encoder)), dtype=np.float32)
    with _ONE_AT_A_TIME, on_device(encoder, _device(how), how.dtype) as team:
        around = _own_of(plan, band.around, how.block)
        for cells, vectors in encode_band(encoder, xy, band, around, team):
            made[np.searchsorted(band.cells, cells)] = vectors[:, _kept(encoder) :]
    _save(path, made)


def merge(section: Path, folder: Path, plan: Plan, how: Embedding) -> SectionRun:
    """Write the section with its vectors, clusters and their origin, as :func:`stplm.embed` and an export would."""
    about = how.wanted(section)
    if not plan.parts.exists() and (found := finished(folder, about)) is not None:
        # Whoever merged it was lost before it could say so.
        return replace(found, section=section, folder=folder, state="done")
    if read_plan(section, plan.parts, about) != plan:
        raise SectionError(
            "The section was changed while it was embedded.", where=section, mend="Run it again: it is begun anew."
        )

    with source_in(plan) as source:
        known, model = len(source.rows), model_of(plan.model, plan.sha256)
    made: dict[str, Any] = {
        "genes_known": known,
        "adapted": how.adapt,
        "seed": how.seed,
        "tissue": plan.bands > 0,
        "dtype": how.dtype,
    }
    if plan.file is not None:
        outcome = _write_file(section, folder, plan, plan.file, how, about, made)
    else:

        def work(table: AnnData, progress: Progress) -> None:
            put_vectors(table, np.asarray(_vectors(plan, how)), model, **made, clusters=how.clusters)

        outcome = process_section(
            section, folder, work, about["about"], exports=(how.what,), report=False, whole=True, resume=False
        )
    shutil.rmtree(plan.parts, ignore_errors=True)
    return outcome


def _write_file(
    section: Path, folder: Path, plan: Plan, stored: Path, how: Embedding, about: dict[str, Any], made: dict[str, Any]
) -> SectionRun:
    """The outcome of a section that is not loaded: a copy of its table file with what was found."""
    began, vectors = time.monotonic(), _vectors(plan, how)
    labels = cluster(vectors, how.clusters, how.seed) if how.clusters else None
    with TableFile(stored) as file:
        note = embedding_note(model_of(plan.model, plan.sha256), genes_total=file.n_vars, **made)
    with staged_folder(folder, mark=MARKER) as stage:
        stage.mkdir()
        write_embedded(stored, stage / OUTPUTS["h5ad"], Embedded(vectors, labels, note))
        outcome = SectionRun(section, folder, "done", plan.cells, seconds=round(time.monotonic() - began, 1))
        write_marker(stage, about, outcome)
    return outcome


def _vectors(plan: Plan, how: Embedding) -> Vectors:
    """Cell vectors (n, dim) from the pieces, in a file that is mapped into memory."""
    encoder = _encoder(plan)
    shape = (plan.cells, encoder.config.dim)
    vectors: Vectors = np.lib.format.open_memmap(plan.parts / "vectors.npy", mode="w+", dtype=np.float32, shape=shape)
    if encoder.keeps_own or not plan.bands:
        for number in range(plan.blocks):
            rows = slice(number * how.block, (number + 1) * how.block)
            vectors[rows, : encoder.config.own_width] = np.load(_own(plan, number))
            let_go(vectors)
    if plan.bands:
        for number, band in enumerate(bands(positions(plan), encoder.config, how.band)):
            vectors[band.cells, _kept(encoder) :] = np.load(_tissue(plan, number))
            let_go(vectors)
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


def _encoder(plan: Plan) -> Encoder:
    return model_of(plan.model, plan.sha256).encoder


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
