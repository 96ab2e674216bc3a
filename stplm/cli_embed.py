"""``stplm embed`` and ``stplm tokenize``: of a section, which may be larger than memory, or of many, by workers of a
Dask scheduler where one is given."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stplm import keys
from stplm.cli_common import check_out, progress_bar, read_table, say
from stplm.cli_sections import chosen_sections, find_and_tell, tell_sums, teller
from stplm.errors import ExportError
from stplm.io.laid_out import as_table_file
from stplm.io.staged import check_target
from stplm.io.table_file import TableFile

if TYPE_CHECKING:
    from anndata import AnnData


def add_model(sub: argparse.ArgumentParser) -> None:
    """Put the options of an embedding on a task's parser."""
    sub.add_argument("--model", default="default", help="a bundled model or a model folder")
    sub.add_argument(
        "--adapt",
        action=argparse.BooleanOptionalAction,
        help="first continue its training on this section (1-2 minutes); by default where it knows too few of the "
        "genes, but not with --sections",
    )
    sub.add_argument("--keep-adapted", metavar="FOLDER", help="keep the model if it is adapted, for --model elsewhere")
    sub.add_argument("--no-neighbours", action="store_true", help="leave out what surrounds a cell: the ablation")
    sub.add_argument("--device", default="auto", help="auto, cpu, cuda, ...")
    sub.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"], help="of matrix products")


def embed(arguments: argparse.Namespace) -> None:
    """Embed a section, or ``--sections``, each into a folder in ``--out``; failures are told at the end."""
    if chosen_sections(arguments):
        _embed_cohort(arguments)
        return
    if (kind := check_out(arguments.out)) not in ("h5ad", "zarr"):
        raise ExportError("Cell vectors go into .h5ad or .zarr only.", where=arguments.out, expected=".h5ad or .zarr")
    if kind == "h5ad" and not arguments.adapt:
        with as_table_file(arguments.section, arguments.out, progress_bar("counts")) as file:
            if file is not None and not will_adapt(file, arguments):
                say(f"Wrote {embed_stored(file, arguments.out, arguments)}")
                return
    _embed_whole(arguments)


def will_adapt(file: Path, arguments: argparse.Namespace) -> bool:
    """Whether the model is adapted to a table file, which takes its counts into memory."""
    from stplm.models import load_model
    from stplm.tasks.adapt import knows_too_little

    if arguments.adapt is not None:
        return bool(arguments.adapt)
    with TableFile(file) as table:
        return knows_too_little(load_model(arguments.model).encoder.genes, table)


def embed_stored(file: Path, out: str | Path, arguments: argparse.Namespace) -> Path:
    """Embed a table file as :func:`add_model` was asked to; gives the path of the result."""
    from stplm.tasks.embed_file import embed_file

    path = embed_file(file, out, **model_options(arguments), progress=progress_bar("cells"))
    with TableFile(path) as found:
        say_embedded(found.n_obs, found.notes[keys.UNS_EMBEDDING])
    return path


def _embed_whole(arguments: argparse.Namespace) -> None:
    import stplm

    section, table = read_table(arguments.section)
    run_embedding(table, arguments)
    say(f"Wrote {stplm.export(section, arguments.out, overwrite=True)}")


def model_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """What :func:`add_model` asked for, as ``stplm.embed`` takes it."""
    return {
        "model": arguments.model,
        "neighbours": not arguments.no_neighbours,
        "device": arguments.device,
        "dtype": arguments.dtype,
    }


def run_embedding(table: AnnData, arguments: argparse.Namespace) -> None:
    """Embed a table in memory as :func:`add_model` was asked to."""
    import stplm

    adapt = "auto" if arguments.adapt is None else arguments.adapt
    unit = "cells" if adapt is False else "steps and cells"
    options = {**model_options(arguments), "keep_adapted": arguments.keep_adapted}
    stplm.embed(table, adapt=adapt, **options, progress=progress_bar(unit))
    say_embedded(table.n_obs, table.uns[keys.UNS][keys.UNS_EMBEDDING])


def say_embedded(cells: int, about: Mapping[str, Any]) -> None:
    """Tell how many cells were embedded, and by what."""
    from stplm.tasks.adapt import ENOUGH

    known, total = about["genes_known"], about["genes_total"]
    few = known < ENOUGH * total and not about["adapted"]
    advice = " Few of them: --adapt learns the others from this section." if few else ""
    say(f"Embedded {cells:,} cells with {about['model']}, which knows {known} of {total} genes.{advice}")


def _embed_cohort(arguments: argparse.Namespace) -> None:
    from stplm.tasks.embed_sections import embed_sections

    if arguments.keep_adapted:
        raise ExportError(
            "Several sections are not embedded by one adapted model.",
            found="--keep-adapted with --sections",
            mend="Adapt to one of them (stplm adapt), and give that model for all: --model FOLDER.",
        )
    sections, where = _cohort(arguments)
    tell_sums(
        embed_sections(sections, Path(arguments.out), **model_options(arguments), adapt=bool(arguments.adapt), **where)
    )


def tokenize(arguments: argparse.Namespace) -> None:
    """Tokens of a section, or of ``--sections``, each into a folder in ``--out``; failures are told at the end."""
    import stplm
    from stplm.tokens.rank_file import rank_encode_file

    if chosen_sections(arguments):
        _tokenize_cohort(arguments)
        return
    check_target(arguments.out)
    how = {"medians": arguments.medians, "mode": arguments.mode, "progress": progress_bar("cells")}
    with as_table_file(arguments.section, arguments.out, progress_bar("counts")) as file:
        if file is not None:
            tokens = rank_encode_file(file, arguments.out, **how)
        else:
            _, table = read_table(arguments.section, images=False, labels=False)
            tokens = stplm.rank_encode(table, **how)
            tokens.save(arguments.out)
    say(f"{len(tokens):,} cells, {len(tokens.ids):,} tokens in {arguments.out}")


def _tokenize_cohort(arguments: argparse.Namespace) -> None:
    from stplm.tasks.tokenize_sections import tokenize_sections

    sections, where = _cohort(arguments)
    tell_sums(tokenize_sections(sections, Path(arguments.out), mode=arguments.mode, medians=arguments.medians, **where))


def _cohort(arguments: argparse.Namespace) -> tuple[list[Path], dict[str, Any]]:
    """The sections of ``--sections``, and where and how their work is done."""
    sections = find_and_tell(arguments.sections, Path(arguments.out))
    return sections, {
        "scheduler": arguments.scheduler,
        "workers": arguments.workers,
        "resume": not arguments.again,
        "on_change": teller(len(sections)),
        "progress": progress_bar("hundredths of a section"),
    }
