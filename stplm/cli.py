"""``stplm <task>``: every task of the engine from a shell. ``stplm <task> --help`` says what each takes."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

from stplm import __version__, keys
from stplm.cli_classify import FROM_PROFILES, classify
from stplm.cli_common import check_out, progress_bar, read_table, say
from stplm.cli_embed import add_model, embed, tokenize
from stplm.cli_finetune import add_finetune
from stplm.cli_impute import add_impute
from stplm.cli_perturb import add_perturb
from stplm.cli_plot import add_plot
from stplm.cli_report import add_report
from stplm.cli_run import add_run
from stplm.cli_sections import add_sections
from stplm.cli_simulate import add_simulate
from stplm.cli_training import add_adapt, add_pretrain, run_adapt, run_pretrain
from stplm.cli_tune import add_tune
from stplm.errors import StplmError
from stplm.io.staged import check_target


def main(argv: Sequence[str] | None = None) -> int:
    """Run one task. Returns 0, or 1 after an error of ours or of the system, which is printed without a traceback."""
    arguments = _parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except (StplmError, OSError) as error:
        sys.stderr.write(f"stplm: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("stplm: stopped.\n")
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="stplm", description="Cell types and tumour calls on Xenium sections.")
    parser.add_argument("--version", action="version", version=__version__)
    tasks = parser.add_subparsers(required=True, metavar="task")

    def task(name: str, run: Any, about: str, section: bool = True, many: bool = False) -> argparse.ArgumentParser:
        sub = tasks.add_parser(name, help=about, description=about)
        sub.set_defaults(run=run)
        if section:
            sub.add_argument(
                "section",
                nargs="?" if many else None,
                help="Xenium folder, SpatialData .zarr, .h5ad, .loom or cell_feature_matrix.h5",
            )
        if many:
            add_sections(sub)
        return sub

    task("info", _info, "What is in a section")

    sub = task("tokenize", tokenize, "Rank value encoding, as flat arrays in a folder", many=True)
    sub.add_argument("--out", required=True, help="folder of the tokens; of --sections, with a folder for each")
    sub.add_argument("--mode", default="stplm", choices=["stplm", "reference", "geneformer", "geneformer-v2"])
    sub.add_argument("--medians", help="a shipped table (breast, colon, lung) or a CSV; by default chosen by panel")

    sub = task("medians", _medians, "Gene medians of a corpus of sections", section=False)
    sub.add_argument("sections", nargs="+")
    sub.add_argument("--out", required=True, help="CSV file")

    sub = task("embed", embed, "Embed every cell", many=True)
    add_model(sub)
    sub.add_argument("--out", required=True, help=".h5ad, or .zarr for the whole section; a folder for --sections")

    sub = task("classify", classify, "Predict class and tumour probability of every cell from a few labels")
    add_model(sub)
    sub.add_argument(
        "--labels",
        default=FROM_PROFILES,
        help="an obs column, a CSV of cell_id and class, or 'profiles': seeds from reference profiles (default; a "
        "fine-tuned --model needs neither)",
    )
    sub.add_argument("--tumour-classes", nargs="*", help="classes that are tumour; by default those whose name says so")
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--out", required=True, help=".h5ad, .zarr, .csv (Xenium Explorer groups) or .geojson")
    sub.add_argument("--summary", help="also write this one-page HTML summary")

    sub = task("evaluate", _evaluate, "Score the predictions of a classified section")
    sub.add_argument("--truth", required=True, help="obs column with the true class")

    sub = task("export", _export, "Write a section in another format")
    sub.add_argument("--out", required=True, help=".h5ad, .zarr, .csv (Xenium Explorer groups) or .geojson")
    sub.add_argument("--overwrite", action="store_true")

    add_pretrain(task("pretrain", run_pretrain, "Pretrain a new encoder on sections", section=False))
    add_adapt(task("adapt", run_adapt, "Continue a model's training on a section, without labels"))
    add_finetune(tasks)
    add_tune(tasks)
    add_run(tasks)
    add_impute(tasks)
    add_report(tasks)
    add_perturb(tasks)
    add_plot(tasks)

    add_simulate(tasks)

    sub = task("demo", _demo, "Run the main job on the shipped demo section, then open it in napari", section=False)
    sub.add_argument("--out", default="demo_output")
    sub.add_argument("--no-gui", action="store_true", help="do not open napari afterwards")

    sub = task("gui", _gui, "Open napari with the STPLM docks", section=False)
    sub.add_argument("section", nargs="?")
    return parser


def _info(arguments: argparse.Namespace) -> None:
    _, table = read_table(arguments.section, images=False, labels=False)
    uns = table.uns[keys.UNS]
    for title, part in (("Source", uns.get(keys.UNS_SOURCE, {})), ("Quality", uns.get(keys.UNS_QC, {}))):
        say(title)
        for name, value in part.items():
            say(f"  {name}: {value}")
    if keys.UNS_EMBEDDING in uns:
        say(f"Embedded with: {uns[keys.UNS_EMBEDDING].get('model')}")
    if keys.UNS_PREDICTION in uns:
        made = uns[keys.UNS_PREDICTION]
        source = "labels seeded from reference profiles" if made.get("seeded") else "labels"
        say(f"Classified from {made.get('n_labels')} {source}: {', '.join(made.get('classes', ()))}")


def _medians(arguments: argparse.Namespace) -> None:
    from stplm.tokens.medians import compute_medians, write_medians

    check_target(arguments.out)
    tables = (read_table(path, images=False, labels=False)[1] for path in arguments.sections)
    medians = compute_medians(tables)
    write_medians(medians, arguments.out)
    say(f"Medians of {len(medians)} genes in {arguments.out}")


def _evaluate(arguments: argparse.Namespace) -> None:
    import json

    import stplm

    _, table = read_table(arguments.section, images=False, labels=False)
    say(json.dumps(stplm.evaluate(table, truth=arguments.truth), indent=1, default=str))


def _export(arguments: argparse.Namespace) -> None:
    import stplm
    from stplm.io.laid_out import export_stored

    kind = check_out(arguments.out, overwrite=arguments.overwrite)
    if path := export_stored(arguments.section, arguments.out, kind, overwrite=arguments.overwrite):
        say(f"Wrote {path}")
        return
    section, _ = read_table(arguments.section, polygons=kind == "geojson")
    say(f"Wrote {stplm.export(section, arguments.out, overwrite=arguments.overwrite)}")


def _demo(arguments: argparse.Namespace) -> None:
    from stplm.demo import SECTION, run_demo
    from stplm.paths import resource

    run_demo(arguments.out, say=say, progress=progress_bar("cells"))
    if arguments.no_gui:
        return
    if not _has_display():
        say("No display here, so napari is not opened. Where there is one: stplm gui")
        return
    _open_window(str(resource(SECTION)))


def _gui(arguments: argparse.Namespace) -> None:
    _open_window(arguments.section)


def _has_display() -> bool:
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _open_window(section: str | None) -> None:
    try:
        from stplm_napari.window import open_window
    except ImportError as error:
        raise StplmError(
            "napari is not installed.", found=str(error), mend='pip install "stplm-napari[gui]"'
        ) from error
    open_window(section)


if __name__ == "__main__":
    sys.exit(main())
