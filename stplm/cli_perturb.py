"""``stplm perturb``: ask a model what genes do, in which cells; the answer is a folder of Parquet files."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stplm import keys
from stplm.cli_common import positive, progress_bar, read_labels, read_table, say
from stplm.errors import SectionError, StplmError
from stplm.io.laid_out import as_table_file
from stplm.io.staged import make_folder
from stplm.io.table_file import TableFile
from stplm.tasks.perturb_edits import MODES

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from stplm.models import Model
    from stplm.tasks.classifier import Classifier
    from stplm.tasks.perturb_result import Perturbation

_PROFILES, _NONE = "profiles", "none"
_SHOWN = 15


def add_perturb(tasks: Any) -> None:
    """Put the task on the parser's ``tasks`` (what ``add_subparsers`` gave)."""
    about = "Delete or raise genes in silico and measure the model's response (no causal claim)"
    sub = tasks.add_parser("perturb", help=about, description=about)
    sub.set_defaults(run=run)
    sub.add_argument("section", help="Xenium folder, SpatialData .zarr, .h5ad, .loom or cell_feature_matrix.h5")
    sub.add_argument("--genes", default="all", help="comma between; 'all' screens each gene that the model knows")
    sub.add_argument("--mode", default="delete", choices=MODES)
    sub.add_argument("--combine", default="each", choices=["each", "together", "pairs"], help="of a list of genes")
    sub.add_argument("--cells", metavar="COLUMN=VALUE", help="cells of an obs column; class=X: predicted class X")
    sub.add_argument("--max-cells", type=positive, help="of more cells, take so many at random")
    sub.add_argument("--goal", help="a class: measure the shift towards it")
    sub.add_argument("--start", help="a class: measure the shift away from it")
    sub.add_argument(
        "--labels",
        help="what classes are learnt from: an obs column, a CSV of cell_id and class, 'profiles', or 'none'; by "
        "default the classes of a model that was fine-tuned, else 'profiles'",
    )
    sub.add_argument("--model", default="default", help="a bundled model or a model folder")
    sub.add_argument("--measure", default="cell", choices=["cell", "genes", "cls"], help="what the shift is of")
    sub.add_argument("--top", type=positive, help="screen: run about so many genes in all cells, the strongest")
    sub.add_argument("--nulls", type=int, default=20, help="genes of like expression to compare with; 0 for none")
    sub.add_argument("--no-neighbours", action="store_true", help="do not ask the cells around")
    sub.add_argument("--out", required=True, help="folder; run again with it to go on after a stop")
    sub.add_argument("--device", default="auto", help="auto, cpu, cuda, ...")
    sub.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"], help="of matrix products")
    sub.add_argument("--seed", type=int, default=0)


def run(arguments: argparse.Namespace) -> None:
    """Classify, perturb and write the folder."""
    import stplm

    genes = arguments.genes if arguments.genes == "all" else [g for g in arguments.genes.split(",") if g.strip()]
    with _section(arguments) as (section, obs, model, classifier):
        found = stplm.perturb(
            section,
            model,
            genes=genes,
            mode=arguments.mode,
            combine=arguments.combine,
            cells=_cells(obs, arguments.cells),
            goal=arguments.goal,
            start=arguments.start,
            classifier=classifier,
            measure=arguments.measure,
            top=arguments.top,
            max_cells=arguments.max_cells,
            nulls=arguments.nulls,
            spatial=False if arguments.no_neighbours else None,
            out=arguments.out,
            device=arguments.device,
            dtype=arguments.dtype,
            seed=arguments.seed,
            progress=progress_bar("variants"),
        )
    for line in summary(found):
        say(line)
    say(f"Wrote {arguments.out}")


def summary(found: Perturbation) -> list[str]:
    """The sets that do the most, as lines; then how many are within noise."""
    genes, effect = found.genes, found.info["effect"]
    ranked = genes.iloc[found.ranked()]
    shown = ["genes", "detections", effect, *(c for c in ("tumour", "effect_size", "fdr") if c in ranked)]
    clear = ranked[~ranked["within_noise"]]
    lines = clear[shown].head(_SHOWN).to_string(index=False, float_format=lambda v: f"{v:.4g}").splitlines()
    within = len(ranked) - len(clear)
    return [
        "The model's response, not a causal claim.",
        *(lines if len(clear) else []),
        f"{len(ranked)} of {len(genes)} detected; {within} of them within noise.",
    ]


@contextmanager
def _section(arguments: argparse.Namespace) -> Iterator[tuple[AnnData | Path, pd.DataFrame, Model, Any]]:
    """The section with its classes: a table, or the path of a table file where it is worked on piece by piece; its obs
    columns, the model, and the head that says the classes, if any."""
    import stplm

    given = arguments.labels
    labels = given if given in (None, _PROFILES, _NONE) else read_labels(given)
    model = stplm.load_model(arguments.model)
    if labels is None and model.heads is not None:
        _, table = read_table(arguments.section, images=False, labels=False)
        stplm.predict(table, model)
        yield table, table.obs, model, None
        return
    if given == _NONE:
        model.heads = None
    labels = _PROFILES if labels is None else labels
    make_folder(Path(arguments.out).expanduser().parent)
    with as_table_file(arguments.section, arguments.out, progress_bar("counts")) as file:
        if file is not None and given == _NONE:
            yield file, _obs(file), model, None
            return
        if file is not None:
            with _classified(file, arguments.out, model, labels) as (work, head):
                yield work, _obs(work), model, head
            return
        _, table = read_table(arguments.section, images=False, labels=False)
        yield table, table.obs, model, None if given == _NONE else _classifier(table, model, labels)


def _classifier(table: AnnData, model: Model, labels: Any) -> Classifier:
    import stplm

    stplm.embed(table, model, adapt=False, clusters=0)
    seeded = isinstance(labels, str) and labels == _PROFILES
    fitted: Classifier = stplm.fit_classifier(table, stplm.seed_labels(table) if seeded else labels, seeded=seeded)
    stplm.predict(table, fitted)
    return fitted


@contextmanager
def _classified(file: Path, beside: str, model: Model, labels: Any) -> Iterator[tuple[Path, Path]]:
    """:func:`_classifier` of a table file: a copy of it with the classes, and the folder of the head, both ``beside``
    the output until the body ends."""
    from stplm.tasks.classify_file import classify_file
    from stplm.tasks.embed_file import embed_file

    out = Path(beside).expanduser()
    work, head = out.with_name(f".{out.name}.stplm-classes.h5ad"), out.with_name(f".{out.name}.stplm-head")
    try:
        embed_file(file, work, model, clusters=0, progress=progress_bar("cells"))
        seeds = isinstance(labels, str) and labels == _PROFILES
        classify_file(work, work, None if seeds else labels, head_out=head, progress=progress_bar("cells"))
        yield work, head
    finally:
        work.unlink(missing_ok=True)
        shutil.rmtree(head, ignore_errors=True)


def _obs(file: Path) -> pd.DataFrame:
    with TableFile(file) as table:
        obs: pd.DataFrame = table.without_counts().obs
        return obs


def _cells(obs: pd.DataFrame, given: str | None) -> Any:
    if given is None:
        return None
    column, equals, value = given.partition("=")
    column = keys.CLASS if column == "class" else column
    if not equals:
        raise StplmError("--cells needs a column and a value.", found=given, expected="such as class=Tumour")
    if column not in obs:
        raise SectionError(f"There is no obs column {column!r}.", expected=", ".join(map(str, obs.columns[:20])))
    mask = (obs[column].astype(str) == value).to_numpy()
    if not mask.any():
        some = ", ".join(map(str, obs[column].astype(str).value_counts().index[:10]))
        raise SectionError(f"No cell has {value!r} there.", where=f"obs column {column!r}", expected=f"one of {some}")
    return mask
