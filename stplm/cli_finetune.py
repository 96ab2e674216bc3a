"""``stplm finetune``: from a YAML file that says all, or from sections and labels on the command line."""

from __future__ import annotations

import argparse
import shutil
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stplm.cli_common import is_recipe, progress_bar, read_labels, say
from stplm.errors import StplmError
from stplm.tasks.finetune_config import FinetuneConfig, settings

if TYPE_CHECKING:
    from stplm.models import Model


_FLAGS = ("method", "epochs", "minutes", "seed")
"""Settings that have an option of their own; a .yaml file gives any of them."""


@dataclass(frozen=True)
class FinetuneRecipe(FinetuneConfig):
    """A fine-tuning in one YAML file: what to learn from, where to write it, and any field of ``FinetuneConfig``.

    So the file that ``stplm tune`` writes becomes a recipe by adding ``sections``, ``labels`` and ``out``.
    """

    sections: tuple[Path, ...] = ()
    """Paths of sections, with wildcards; this and all paths are relative to the file's folder."""
    labels: str = ""
    """An obs column of every section; of one section also a CSV of cell_id and class."""
    out: Path | None = None
    """The model folder to write."""
    model: str = "default"
    """A bundled model or a model folder to start from."""
    tumour_classes: tuple[str, ...] | None = None
    """Which classes are tumour; by default those whose name says so."""
    name: str | None = None
    """Of the new model; by default the folder's."""
    tensorboard: Path | None = None
    """Folder of training curves."""
    device: str = "auto"
    """"auto", "cpu", "cuda", ..."""

    def settings(self) -> FinetuneConfig:
        """The hyperparameters alone."""
        return FinetuneConfig(**{f.name: getattr(self, f.name) for f in fields(FinetuneConfig)})


def add_finetune(tasks: Any) -> None:
    """Put the task on the parser's ``tasks`` (what ``add_subparsers`` gave)."""
    about = "Fine-tune a model on labelled sections"
    sub = tasks.add_parser("finetune", help=about, description=about)
    sub.set_defaults(run=run)
    sub.add_argument("inputs", nargs="+", metavar="section", help="sections with labels; or one .yaml file for all")
    sub.add_argument("--labels", help="an obs column; of one section also a CSV of cell_id and class")
    sub.add_argument("--out", type=Path, help="model folder")
    sub.add_argument("--config", help="settings from a .yaml file, such as stplm tune writes")
    sub.add_argument("--model", help="a bundled model or a model folder to start from")
    for name, setting in settings().items():
        if name in _FLAGS:
            choices = list(setting.choices) if setting.choices else None
            about = f"{setting.help} ({setting.unit})" if setting.unit else setting.help
            sub.add_argument(f"--{name}", type=setting.kind, choices=choices, help=about)
    sub.add_argument("--no-neighbours", action="store_true", help="leave out what surrounds a cell")
    sub.add_argument("--tumour-classes", nargs="*", help="classes that are tumour; by default those whose name says so")
    sub.add_argument("--name", help="of the new model")
    sub.add_argument("--tensorboard", type=Path, help="folder of training curves")
    sub.add_argument("--resume", action="store_true", help="go on from the checkpoint of a run that was stopped")
    sub.add_argument("--device", help="auto, cpu, cuda, ...")


def run(arguments: argparse.Namespace) -> None:
    """Fine-tune and write the model folder; the checkpoint beside it goes when that is done."""
    from stplm.io.staged import check_target
    from stplm.tasks.finetune import finetune
    from stplm.tasks.processes import is_main_process
    from stplm.tasks.recipes import expand

    recipe = _recipe(arguments)
    assert recipe.out is not None
    check_target(recipe.out, overwrite=False)
    checkpoint = recipe.out.with_name(f"{recipe.out.name}.checkpoint")
    main = is_main_process()
    tuned = finetune(
        recipe.model,
        list(expand(recipe.sections)),
        read_labels(recipe.labels),
        recipe.settings(),
        tumour_classes=recipe.tumour_classes,
        checkpoint=checkpoint,
        resume=arguments.resume,
        name=recipe.name or recipe.out.name,
        curves=recipe.tensorboard,
        device=recipe.device,
        progress=progress_bar("labelled cells") if main else lambda done, total: None,
        on_epoch=lambda epoch, scores: say(_line(epoch, scores)) if main else None,
    )
    if main:
        say(_summary(tuned))
        say(f"Wrote {tuned.save(recipe.out)}")
        shutil.rmtree(checkpoint, ignore_errors=True)


def _recipe(arguments: argparse.Namespace) -> FinetuneRecipe:
    """The YAML file's recipe, and what the command line says over it."""
    from stplm.tasks.recipes import read_recipe

    inputs, changes = list(arguments.inputs), dict[str, Any]()
    whole = len(inputs) == 1 and is_recipe(inputs[0])
    given = inputs[0] if whole else arguments.config
    base = read_recipe(given, FinetuneRecipe) if given else FinetuneRecipe()
    for name in (
        "labels",
        "out",
        "model",
        *_FLAGS,
        "tumour_classes",
        "name",
        "tensorboard",
        "device",
    ):
        if (value := getattr(arguments, name)) is not None:
            changes[name] = value
    if not whole:
        changes["sections"] = tuple(map(Path, inputs))
    elif base.labels.lower().endswith(".csv"):
        changes.setdefault("labels", str(Path(given).parent / base.labels))
    if arguments.no_neighbours:
        changes["neighbours"] = False
    try:
        recipe = FinetuneRecipe(**{**{f.name: getattr(base, f.name) for f in fields(base)}, **changes})
    except ValueError as error:
        raise StplmError("The settings make no sense.", found=str(error)) from error
    if missing := [n for n in ("sections", "labels", "out") if not getattr(recipe, n)]:
        raise StplmError(
            "Something is missing for fine-tuning.",
            found=f"no {', no '.join(missing)}",
            mend=f"Give it in the .yaml file, or as {', '.join('--' + n for n in missing)}.",
        )
    return recipe


def _line(epoch: int, scores: dict[str, float]) -> str:
    return f"epoch {epoch}: " + ", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in scores.items())


def _summary(model: Model) -> str:
    note = model.provenance["finetune"]
    if not note["scores"]:
        return f"Not scored: held out {note['holdout']}. Confidence is not calibrated."
    scores = ", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in note["scores"].items())
    return f"On {note['held_out_cells']:,} held-out cells ({note['holdout']}): {scores}."
