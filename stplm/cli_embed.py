"""``stplm embed`` and ``stplm tokenize`` of many sections, by workers of a Dask scheduler where one is given."""

from __future__ import annotations

import argparse
from pathlib import Path

from stplm.cli_common import progress_bar, read_table, say
from stplm.cli_sections import chosen_sections, find_and_tell, tell_sums, teller
from stplm.io.staged import check_target
from stplm.io.table_file import is_table_file

_UNIT = "hundredths of a section"


def embed_cohort(arguments: argparse.Namespace) -> None:
    """Embed ``--sections``, each into a folder in ``--out``. Raises StplmError at the end when one failed."""
    from stplm.tasks.embed_sections import embed_sections

    out = Path(arguments.out)
    sections = find_and_tell(arguments.sections, out)
    runs = embed_sections(
        sections,
        out,
        arguments.model,
        adapt=arguments.adapt,
        neighbours=not arguments.no_neighbours,
        device=arguments.device,
        dtype=arguments.dtype,
        scheduler=arguments.scheduler,
        workers=arguments.workers,
        resume=not arguments.again,
        on_change=teller(len(sections)),
        progress=progress_bar(_UNIT),
    )
    tell_sums(runs)


def tokenize(arguments: argparse.Namespace) -> None:
    """Tokens of a section, or of ``--sections``, each into a folder in ``--out``; failures are told at the end."""
    import stplm
    from stplm.tokens.rank_file import rank_encode_file

    if chosen_sections(arguments):
        _tokenize_cohort(arguments)
        return
    check_target(arguments.out)
    how = {"medians": arguments.medians, "mode": arguments.mode, "progress": progress_bar("cells")}
    if is_table_file(arguments.section):
        tokens = rank_encode_file(arguments.section, arguments.out, **how)
    else:
        _, table = read_table(arguments.section, images=False, labels=False)
        tokens = stplm.rank_encode(table, **how)
        tokens.save(arguments.out)
    say(f"{len(tokens):,} cells, {len(tokens.ids):,} tokens in {arguments.out}")


def _tokenize_cohort(arguments: argparse.Namespace) -> None:
    from stplm.tasks.tokenize_sections import tokenize_sections

    out = Path(arguments.out)
    sections = find_and_tell(arguments.sections, out)
    runs = tokenize_sections(
        sections,
        out,
        mode=arguments.mode,
        medians=arguments.medians,
        scheduler=arguments.scheduler,
        workers=arguments.workers,
        resume=not arguments.again,
        on_change=teller(len(sections)),
        progress=progress_bar(_UNIT),
    )
    tell_sums(runs)
