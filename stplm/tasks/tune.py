"""Search the hyperparameters of fine-tuning for a task, within a time budget.

Nested, so that the score that is reported is honest: squares of tissue are held out from the search altogether (the
outer split), and from the rest others are held out to compare trials (the inner split). The search starts from the
defaults, with and without neighbours, so either is always among the results, and the few-shot head stands beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stplm.models import Model
from stplm.progress import Progress, no_progress
from stplm.tasks.finetune_config import FinetuneConfig
from stplm.tasks.tune_space import Space, checked_space, default_space
from stplm.tasks.tune_study import (
    ALONE,
    DEFAULTS,
    HEAD,
    KIND,
    SECONDS,
    TUNED,
    best_by_role,
    chosen_trial,
    open_study,
    quiet_optuna,
    trial_config,
    trial_row,
)

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from optuna.trial import FrozenTrial
    from spatialdata import SpatialData

    from stplm.spatial.splits import Split
    from stplm.tasks.tune_search import Search
    from stplm.tasks.tune_task import TuneTask

_RESERVE = 0.25
"""At most this share of the budget is kept back for scoring on the cells that the search never saw."""


@dataclass(frozen=True)
class Tuned:
    """What a search found.

    Attributes
    ----------
    config
        The best trial's settings where it beats the defaults by more than chance; else the settings given.
    search_scores
        Macro-F1 on the cells that trials were compared on: of ``config`` ("tuned"), "defaults", "no neighbours" (the
        best trial without them) and "few-shot head". That of "tuned" may be the best of many and promises too much.
    scores
        The same on cells that the search never saw; empty where there are too few labels to hold any back.
    trials
        A row a trial, the few-shot head first: kind, state ("complete", "pruned", "stopped" by the budget, "failed"),
        score, epochs, seconds, reason of a failure, and the values tried.
    budget, seconds
        Asked for, and taken.
    split, reason
        How cells were held out, and why these settings, in words.
    """

    config: FinetuneConfig
    search_scores: dict[str, float]
    scores: dict[str, float]
    trials: pd.DataFrame
    budget: float
    seconds: float
    split: str
    reason: str

    @property
    def score(self) -> float | None:
        """Macro-F1 of ``config`` on cells that the search never saw, or None."""
        return self.scores.get(TUNED)


def tune(
    model: str | Path | Model,
    tables: AnnData | SpatialData | str | Path | Sequence[AnnData | SpatialData | str | Path],
    labels: Any,
    *,
    budget: float = 600.0,
    trials: int | None = None,
    space: Space | None = None,
    config: FinetuneConfig | None = None,
    folds: int = 1,
    tumour_classes: Sequence[str] | None = None,
    seed: int = 0,
    storage: str | Path | None = None,
    device: str = "auto",
    progress: Progress = no_progress,
    on_trial: Callable[[dict[str, Any]], None] | None = None,
) -> Tuned:
    """Search for the :class:`FinetuneConfig` that suits a task.

    Parameters
    ----------
    model, tables, labels, tumour_classes
        As :func:`stplm.finetune` takes them.
    budget
        Wall-clock seconds. A trial that would overrun is stopped, and the best one so far is the result.
    trials
        At most this many, the defaults with and without neighbours included. The same ``trials`` and ``seed`` give the
        same result, as long as the budget lasts.
    space
        What to search: a :class:`stplm.tasks.tune_space.Range` or a list of choices by field; by default learning rate,
        schedule, warm-up, frozen layers, loss, weight decay, neighbours, and full or LoRA.
    config
        Where to start; it also gives what is not searched, and share, block and buffer of the splits.
    folds
        1: trials are compared on one held-out part; more: by cross-validation over this many, taking as many times
        longer.
    storage
        A folder that remembers trials, to go on later or after a kill.
    progress
        Counts seconds of the budget.
    on_trial
        Told each trial's row when it ends.

    Raises
    ------
    StplmError
        Optuna is not installed; ``storage`` holds another search.
    LabelError
        As :func:`stplm.finetune`; or a class cannot be both learnt and scored in separate places.
    SectionError
        Cells without positions: there is no honest split then.
    ValueError
        A field or value that ``FinetuneConfig`` does not have; ``budget``, ``trials`` or ``folds`` under what they can
        be.
    Cancelled
        When ``progress`` raises it. With ``storage``, the trials so far are kept.
    """
    import pandas as pd

    from stplm.tasks.tune_search import Search, now
    from stplm.tasks.tune_task import TuneTask

    if budget <= 0 or folds < 1 or (trials is not None and trials < 1):
        raise ValueError("budget must be above 0, folds and trials at least 1")
    start, config = now(), config or FinetuneConfig()

    def tell_time(done: int = 0, total: int = 0) -> None:
        progress(min(int(now() - start), int(budget)), int(budget))

    with quiet_optuna():
        tell_time()
        task = TuneTask(
            model, tables, labels, config, folds=folds, tumour_classes=tumour_classes, seed=seed, device=device
        )
        space = checked_space(space or default_space(task.model.encoder, config), config)
        folder = None if storage is None else Path(storage)
        study = open_study(folder, task.about, space, config, seed)
        began = now()
        head, head_held_back = _head_scores(task)
        seconds = now() - began
        tell_time()
        rows = [{"trial": 0, KIND: HEAD, "state": "complete", "score": head, SECONDS: round(seconds, 1)}]
        on_trial = on_trial or _tell_nobody
        on_trial(rows[0])
        search = Search(
            task,
            study,
            space,
            # Scoring the kept models takes about as long as the head's embedding did.
            deadline=start + budget - min(4 * seconds, _RESERVE * budget),
            storage=folder,
            progress=tell_time,
            on_trial=on_trial,
        )
        search.run(trials)
        best = best_by_role(study, config)
        winner, reason = chosen_trial(best, task.n_compared)
        roles = {TUNED: winner, DEFAULTS: best[DEFAULTS], ALONE: best[ALONE]}
        search_scores = {role: t.value for role, t in roles.items() if t is not None and t.value is not None}
        scores = {}
        if head_held_back is not None:
            by_trial = _held_back_scores(
                task, search, best, {t.number for t in roles.values() if t is not None}, tell_time
            )
            scores = {role: by_trial[t.number] for role, t in roles.items() if t is not None and t.number in by_trial}
            scores[HEAD] = head_held_back
        if winner is not None:
            config = replace(trial_config(config, winner.params, winner.user_attrs[KIND]), refit=config.refit)
        rows += [trial_row(t, space) for t in study.trials if t.state.is_finished()]
    progress(int(budget), int(budget))
    search_scores[HEAD] = head
    return Tuned(
        config, search_scores, scores, pd.DataFrame(rows), budget, now() - start, task.split_in_words(), reason
    )


def _tell_nobody(row: dict[str, Any]) -> None:
    """The default of ``on_trial``."""


def _head_scores(task: TuneTask) -> tuple[float, float | None]:
    """Macro-F1 of the few-shot head where trials are compared, and on the cells held back from the search."""
    from stplm.tasks.tune_scores import HeadBaseline, macro_f1

    head = HeadBaseline(task.model, task.tables, task.device)

    def score(split: Split) -> float:
        return macro_f1(task.names, head.calls(task.learnt(split), task.seed), split.test)

    return float(np.mean([score(split) for split in task.inner])), None if task.outer is None else score(task.outer)


def _held_back_scores(
    task: TuneTask, search: Search, best: dict[str, FrozenTrial | None], wanted: set[int], tell_time: Progress
) -> dict[int, float]:
    """Macro-F1 of the wanted trials on the cells that the search never saw, by trial number."""
    from stplm.tasks.tune_scores import macro_f1, model_calls

    assert task.outer is not None
    scores: dict[int, float] = {}
    for role, trial in best.items():
        if trial is None or trial.number not in wanted - set(scores) or (model := search.kept(role)) is None:
            continue
        tell_time(0, 0)
        scores[trial.number] = macro_f1(task.names, model_calls(model, task.tables, task.device), task.outer.test)
    return scores


def write_config(tuned: Tuned, path: str | Path, more: Mapping[str, Any] | None = None) -> Path:
    """Write the settings as the YAML file that ``stplm finetune`` takes, what was found in comments above them.

    ``more``: other keys of such a file, such as ``{"model": "rank-breast"}``, as plain values. The same result gives
    the same bytes; so there is no date. Raises ExportError where ``path`` cannot be written.
    """
    import yaml

    from stplm.io.staged import staged_file

    trials = tuned.trials
    ended = ", ".join(f"{n} {state}" for state, n in trials["state"].iloc[1:].value_counts().sort_index().items())
    held_back = scores_in_words(tuned.scores) if tuned.scores else "not known: too few labels"
    lines = [
        "Settings for stplm finetune, found by stplm tune.",
        f"Macro-F1 on cells that the search never saw: {held_back}.",
        tuned.reason,
        f"Macro-F1 where trials were compared: {scores_in_words(tuned.search_scores)}.",
        f"{len(trials) - 1} trials ({ended or 'none ended'}), budget {tuned.budget:g} s.",
        f"Split: {tuned.split}.",
    ]
    with staged_file(path) as part:
        header = "".join(f"# {line}\n" for line in lines)
        body = yaml.safe_dump({**(more or {}), **tuned.config.to_dict()}, sort_keys=False, allow_unicode=True)
        part.write_text(f"{header}\n{body}", encoding="utf-8")
    return Path(path)


def scores_in_words(scores: dict[str, float]) -> str:
    """``tuned 0.912, defaults 0.904, ...``."""
    return ", ".join(f"{role} {score:.3f}" for role, score in scores.items())
