"""``stplm pretrain`` and ``stplm adapt``: self-supervised training from a shell."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stplm.cli_common import is_recipe, positive, progress_bar, read_table, say
from stplm.errors import StplmError
from stplm.io.staged import check_target
from stplm.models import PRESETS
from stplm.progress import no_progress
from stplm.tasks.processes import is_main_process

if TYPE_CHECKING:
    from stplm.models import Model
    from stplm.progress import Progress
    from stplm.tasks.recipes import PretrainRecipe


def add_pretrain(sub: argparse.ArgumentParser) -> None:
    """Put the arguments of ``stplm pretrain`` on its parser."""

    sub.add_argument("sections", nargs="+", help="a recipe (.yaml), which says everything else; or sections")
    sub.add_argument("--out", help="model folder")
    sub.add_argument("--preset", choices=PRESETS, default="tissue", help="tissue: cells are tokens; rank: genes are")
    sub.add_argument("--size", choices=["small", "large"], help="of the preset rank")
    sub.add_argument("--base", help="of the preset hybrid: a rank model")
    sub.add_argument("--name", help="by default the preset's")
    sub.add_argument("--steps", type=positive)
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--device", default="auto")
    sub.add_argument("--resume", action="store_true", help="go on from the checkpoint of a run that was stopped")


def add_adapt(sub: argparse.ArgumentParser) -> None:
    """Put the arguments of ``stplm adapt`` on its parser."""

    sub.add_argument("--model", default="default")
    sub.add_argument("--out", required=True, help="model folder")
    sub.add_argument("--steps", type=positive, help="by default as many as take a minute or two on 2 CPU cores")
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--device", default="auto")


def run_pretrain(arguments: argparse.Namespace) -> None:
    """Train what the recipe, or the command line, says, and write the model folder."""

    folder = pretrain_from_recipe(_recipe(arguments), resume=arguments.resume, progress=progress_bar("steps"))
    if is_main_process():
        say(f"Wrote {folder}")


def pretrain_from_recipe(recipe: PretrainRecipe, *, resume: bool = False, progress: Progress = no_progress) -> Path:
    """Run a recipe: the model folder. Of several processes, the first one writes.

    What a killed run goes on from lies in ``<out>.training`` (unless the recipe names other folders) and is removed
    when the model folder is there.

    Raises
    ------
    StplmError
        As :func:`stplm.pretrain`; the output is in the way; a pattern matches nothing.
    """
    import stplm
    from stplm.io.staged import make_folder
    from stplm.tasks.checkpoints import Checkpoints
    from stplm.tasks.corpus import Blocks, HeldOut
    from stplm.tasks.recipes import expand

    check_target(recipe.out, overwrite=False)
    sections, held_out, about = expand(recipe.sections), None, recipe.validation
    if about and about.blocks is not None:
        held_out = HeldOut(
            blocks=Blocks(about.blocks, about.buffer, about.share), every=about.every, batches=about.batches
        )
    elif about:
        others = expand(about.sections, "held-out sections")
        sections = [path for path in sections if path not in others]
        held_out = HeldOut(others, every=about.every, batches=about.batches)
        if not sections:
            raise StplmError("All sections are held out, so there is none to learn from.", where=recipe.sections[0])
    work = make_folder(recipe.out.with_name(f"{recipe.out.name}.training"))
    main, point = is_main_process(), recipe.checkpoint
    model = stplm.pretrain(
        sections,
        recipe.training,
        preset=recipe.preset,
        size=recipe.size,
        architecture=recipe.architecture,
        base=recipe.base,
        train_base=recipe.train_base,
        name=recipe.name,
        provenance=_provenance(recipe, sections),
        device=recipe.device,
        checkpoint=Checkpoints(point.folder or work / "checkpoint", point.every_steps, point.every_minutes),
        resume=resume,
        held_out=held_out,
        curves=recipe.tensorboard,
        cache=recipe.cache or work / "sections",
        progress=progress if main else no_progress,
    )
    if main:
        _finish(model, recipe, work)
    return recipe.out


def _finish(model: Model, recipe: PretrainRecipe, work: Path) -> None:
    model.save(recipe.out)
    if recipe.checkpoint.folder:
        shutil.rmtree(recipe.checkpoint.folder, ignore_errors=True)
    shutil.rmtree(work, ignore_errors=True)


def _provenance(recipe: PretrainRecipe, sections: list[Path]) -> dict[str, Any]:
    told = {"description": recipe.description, "limits": recipe.limits}
    return {"data": [path.name for path in sections], **{key: text for key, text in told.items() if text}}


def _recipe(arguments: argparse.Namespace) -> PretrainRecipe:
    from stplm.tasks.recipes import PretrainRecipe, read_pretrain_recipe
    from stplm.tasks.training import training_defaults

    given = arguments.sections
    if any(is_recipe(path) for path in given):
        named = [f"--{name}" for name in ("out", "size", "base", "name", "steps") if getattr(arguments, name)]
        if len(given) > 1 or named:
            raise StplmError(
                "A recipe says everything, so nothing else can be given but --resume.",
                found=", ".join([*given[1:], *named]),
                mend="Put it into the recipe.",
            )
        return read_pretrain_recipe(given[0])
    if not arguments.out:
        raise StplmError("Where to write the model is missing.", mend="Give --out FOLDER.")
    changes = {"steps": arguments.steps} if arguments.steps else {}
    return PretrainRecipe(
        tuple(map(Path, given)),
        Path(arguments.out),
        preset=arguments.preset,
        size=arguments.size,
        base=arguments.base,
        name=arguments.name,
        training=training_defaults(arguments.preset, seed=arguments.seed, **changes),
        device=arguments.device,
    )


def run_adapt(arguments: argparse.Namespace) -> None:
    """Adapt a model to the section, and write the model folder."""
    import stplm

    check_target(arguments.out, overwrite=False)
    _, table = read_table(arguments.section, images=False, labels=False)
    model = stplm.adapt(
        table,
        arguments.model,
        steps=arguments.steps,
        seed=arguments.seed,
        device=arguments.device,
        progress=progress_bar("steps"),
    )
    say(f"Wrote {model.save(arguments.out)}")
