"""``stplm tune``: search the settings of fine-tuning for a task."""

from __future__ import annotations

import argparse
import re
from typing import Any

from stplm.cli_common import positive, progress_bar, read_labels, say

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


def add_tune(tasks: Any) -> None:
    """Put the task on the parser's ``tasks`` (what ``add_subparsers`` gave)."""

    about = "Search the settings of fine-tuning for a task, within a time budget"
    sub = tasks.add_parser("tune", help=about, description=about)
    sub.set_defaults(run=run)
    sub.add_argument("sections", nargs="+", metavar="section", help="a section with labels, or several")
    sub.add_argument("--labels", required=True, help="an obs column; of one section also a CSV of cell_id and class")
    sub.add_argument("--out", required=True, help="the settings as a .yaml file for stplm finetune")
    sub.add_argument("--model", default="default", help="a bundled model or a model folder")
    sub.add_argument("--budget", type=_seconds, default=600.0, help="how long, such as 90s, 10m (default) or 2h")
    sub.add_argument("--trials", type=positive, help="stop after so many trials, if the budget lasts")
    sub.add_argument("--folds", type=positive, default=1, help="compare trials by cross-validation over so many parts")
    sub.add_argument("--config", help="settings to start from, as a .yaml file for stplm finetune")
    sub.add_argument("--storage", help="a folder that remembers trials; run again with it to go on")
    sub.add_argument("--tumour-classes", nargs="*", help="classes that are tumour; by default those whose name says so")
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--device", default="auto", help="auto, cpu, cuda, ...")


def run(arguments: argparse.Namespace) -> None:
    """Run the search and write the settings."""
    import stplm
    from stplm.io.staged import check_target
    from stplm.tasks.tune import scores_in_words, tune, write_config
    from stplm.tasks.tune_study import HEAD, TUNED

    check_target(arguments.out)
    config = None
    if arguments.config:
        from stplm.cli_finetune import FinetuneRecipe
        from stplm.tasks.recipes import read_recipe

        config = read_recipe(arguments.config, FinetuneRecipe).settings()
    labels = read_labels(arguments.labels)
    tables = [stplm.cell_table(stplm.read_section(s, images=False, labels=False)) for s in arguments.sections]
    tuned = tune(
        arguments.model,
        tables,
        labels,
        budget=arguments.budget,
        trials=arguments.trials,
        config=config,
        folds=arguments.folds,
        tumour_classes=arguments.tumour_classes,
        seed=arguments.seed,
        storage=arguments.storage,
        device=arguments.device,
        progress=progress_bar("s"),
        on_trial=lambda row: say(_line(row)),
    )
    scores = tuned.scores or tuned.search_scores
    where = "on cells that the search never saw" if tuned.scores else "where trials were compared (too few labels)"
    say(f"Macro-F1 {where}: {scores_in_words(scores)}")
    say(tuned.reason)
    if scores[HEAD] >= scores.get(TUNED, 1.0):
        say("The few-shot head does as well: stplm classify is all this task needs.")
    # What the settings were found for goes with them, where it is not what finetune takes anyway.
    more = {name: getattr(arguments, name) for name in ("model", "tumour_classes")}
    more = {name: value for name, value in more.items() if value not in (None, "default")}
    say(f"Wrote {write_config(tuned, arguments.out, more)}")


def _line(row: dict[str, Any]) -> str:
    score = "-" if row["score"] is None else f"{row['score']:.3f}"
    values = {
        k: v for k, v in row.items() if k not in ("trial", "kind", "state", "score", "seconds", "epochs", "reason")
    }
    settings = " ".join(f"{k}={v:.2g}" if isinstance(v, float) else f"{k}={v}" for k, v in values.items())
    tail = " ".join(filter(None, [settings, row.get("reason", "")]))
    what = f"{row['trial']:>3}  {row['kind']:<13}  {row['state']:<8}"
    return f"{what}  macro-F1 {score}  {row['seconds']:>5.1f} s  {tail}".rstrip()


def _seconds(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    if not found or float(found[1]) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time such as 90s, 10m or 2h")
    return float(found[1]) * _UNITS[found[2]]
