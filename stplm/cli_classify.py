"""``stplm classify``: embedding, a head from a few labels, and what it says of every cell."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stplm import keys
from stplm.cli_common import check_out, progress_bar, read_labels, read_table, say
from stplm.cli_embed import embed_stored, run_embedding, will_adapt
from stplm.io.laid_out import as_table_file
from stplm.io.table_file import TableFile

if TYPE_CHECKING:
    from anndata import AnnData

FROM_PROFILES = "profiles"


def classify(arguments: argparse.Namespace) -> None:
    """Classify a section; one that is larger than memory from and into files."""
    import stplm
    from stplm.report.summary import check_summary

    kind = check_out(arguments.out)
    if arguments.summary:
        check_summary(arguments.summary)
    seeded = arguments.labels == FROM_PROFILES
    labels = None if seeded else read_labels(arguments.labels)
    tuned = stplm.load_model(arguments.model)
    in_memory = kind != "h5ad" or arguments.summary or arguments.adapt or tuned.heads is not None
    if not in_memory:
        with as_table_file(arguments.section, arguments.out, progress_bar("counts")) as file:
            if file is not None and not _will_adapt(file, arguments):
                _classify_file(file, arguments, labels)
                return
    section, table = read_table(arguments.section, polygons=kind == "geojson")
    if seeded and tuned.heads is not None:
        stplm.predict(table, tuned)
        _write_classified(section, arguments)
        return
    if not _is_embedded(table, arguments):
        run_embedding(table, arguments)
    if seeded:
        labels = stplm.seed_labels(table, seed=arguments.seed)
    classifier = stplm.fit_classifier(
        table, labels, tumour_classes=arguments.tumour_classes, seeded=seeded, seed=arguments.seed
    )
    stplm.predict(table, classifier)
    _write_classified(section, arguments)


def _is_embedded(table: AnnData | TableFile, arguments: argparse.Namespace) -> bool:
    """Whether a section's own vectors serve: it has some, and no other embedding than the default one was asked for."""
    other = arguments.adapt or arguments.no_neighbours or arguments.model != "default"
    return keys.X_STPLM in table.obsm and not other


def _will_adapt(file: Path, arguments: argparse.Namespace) -> bool:
    with TableFile(file) as table:
        embedded = _is_embedded(table, arguments)
    return not embedded and will_adapt(file, arguments)


def _classify_file(file: Path, arguments: argparse.Namespace, labels: Any) -> None:
    from stplm.tasks.classify_file import classify_file, labelled_rows

    with TableFile(file) as table:
        if labels is not None:
            labelled_rows(table, labels)
        embedded = _is_embedded(table, arguments)
    out = Path(arguments.out)
    source = file if embedded else out.with_name(f".{out.stem}.embedded.h5ad")
    chosen = {"tumour_classes": arguments.tumour_classes, "seed": arguments.seed}
    try:
        if not embedded:
            embed_stored(file, source, arguments)
        say(f"Wrote {classify_file(source, out, labels, **chosen, progress=progress_bar('cells'))}")
    finally:
        if not embedded:
            source.unlink(missing_ok=True)


def _write_classified(section: Any, arguments: argparse.Namespace) -> None:
    import stplm
    from stplm.report.summary import write_summary

    say(f"Wrote {stplm.export(section, arguments.out, overwrite=True)}")
    if arguments.summary:
        say(f"Wrote {write_summary(section, arguments.summary)}")
