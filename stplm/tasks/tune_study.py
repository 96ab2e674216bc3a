"""The search's memory: an Optuna study, in memory or as a journal of JSON lines in a folder. Nothing is pickled.

Source: Akiba et al., "Optuna" (KDD 2019); the sampler is TPE (Bergstra et al., 2011), trials are stopped early by the
median rule (Golovin et al., 2017).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stplm.errors import StplmError

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial

    from stplm.tasks.finetune_config import FinetuneConfig
    from stplm.tasks.tune_space import Space

KIND, SEARCH = "kind", "search"
TUNED, BEST, DEFAULTS, ALONE, HEAD = "tuned", "best trial", "defaults", "no neighbours", "few-shot head"
SECONDS, REASON = "seconds", "reason"
_JOURNAL = "journal.jsonl"
_NAME, _ABOUT = "tune", "about"
_RANDOM_TRIALS = 8
_UNPRUNED_TRIALS = 4


@contextmanager
def quiet_optuna() -> Iterator[Any]:
    """Optuna, silent meanwhile. Raises StplmError where it is not installed."""
    try:
        import optuna
    except ImportError as error:
        raise StplmError(
            "The search needs the package optuna.", found=str(error), mend='pip install "stplm-napari[train]"'
        ) from error
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield optuna
    finally:
        optuna.logging.set_verbosity(before)


def open_study(folder: Path | None, about: dict[str, Any], space: Space, config: FinetuneConfig, seed: int) -> Study:
    """The study in ``folder``, new or to go on with; in memory without one. A new one starts from ``config``, with and
    without neighbours.

    Parameters
    ----------
    about
        What the search is of, as plain values: a study of anything else is refused.
    seed
        Of the sampler. A study that goes on draws from another place than it began, or it would repeat itself.

    Raises
    ------
    StplmError
        The folder cannot be made or read, or holds another search.
    """
    import optuna
    from optuna.storages import InMemoryStorage, JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    about = {**about, "space": {name: str(given) for name, given in space.items()}}
    about = {"sha256": hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest(), **about}
    try:
        storage: Any = InMemoryStorage()
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            path = str(folder / _JOURNAL)
            storage = JournalStorage(JournalFileBackend(path, lock_obj=JournalFileOpenLock(path)))
        study = optuna.create_study(storage=storage, study_name=_NAME, direction="maximize", load_if_exists=True)
    except (OSError, ValueError, KeyError) as error:
        raise StplmError(
            "The search's folder cannot be used.", where=folder, found=str(error), mend="Choose another folder."
        ) from error
    known = study.user_attrs.get(_ABOUT)
    if known is None:
        study.set_user_attr(_ABOUT, about)
        defaults = {name: getattr(config, name) for name in space}
        study.enqueue_trial(defaults, user_attrs={KIND: DEFAULTS})
        if config.neighbours:
            alone = {"neighbours": False} if "neighbours" in space else {}
            study.enqueue_trial({**defaults, **alone}, user_attrs={KIND: ALONE})
    elif known["sha256"] != about["sha256"]:
        differs = [k for k in about if k != "sha256" and json.dumps(known.get(k)) != json.dumps(about[k])]
        raise StplmError(
            "The folder holds the search for another task.",
            where=folder,
            found=f"another {', '.join(differs)}",
            mend="Choose another folder, or search with the same sections, labels, model and settings.",
        )
    for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        # A process was killed here: the trial is taken up anew.
        again(study, trial)
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    begun = len(study.get_trials(deepcopy=False, states=_finished()))
    drawn = int(np.random.SeedSequence([seed, begun]).generate_state(1)[0])
    study.sampler = optuna.samplers.TPESampler(seed=drawn, n_startup_trials=_RANDOM_TRIALS)
    # The first epochs, while the learning rate rises, say little.
    study.pruner = optuna.pruners.MedianPruner(_UNPRUNED_TRIALS, n_warmup_steps=max(config.epochs // 4, 1) + 1)
    return study


def again(study: Study, trial: FrozenTrial) -> None:
    """Put a trial that was cut short back into the queue, for whoever goes on with the study."""
    if values := trial.params or trial.system_attrs.get("fixed_params"):
        study.enqueue_trial(dict(values), user_attrs={KIND: trial.user_attrs.get(KIND, SEARCH)})


def finished_trials(study: Study) -> list[FrozenTrial]:
    """Trials that ended, by themselves or by pruning, in their order; not those that were cut short."""
    return [t for t in study.get_trials(deepcopy=False, states=_finished()) if not _cut_short(t)]


def _cut_short(trial: FrozenTrial) -> bool:
    """By the budget or a kill: what fails by itself has a reason."""
    from optuna.trial import TrialState

    return trial.state == TrialState.FAIL and REASON not in trial.user_attrs


def _finished() -> tuple[Any, ...]:
    from optuna.trial import TrialState

    return TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL


def complete_trials(study: Study) -> list[FrozenTrial]:
    """Trials with a score, in their order."""
    from optuna.trial import TrialState

    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def trial_config(config: FinetuneConfig, values: dict[str, Any], kind: str) -> FinetuneConfig:
    """A trial's settings. It never trains twice: the search needs the held-out score only."""
    values = {**values, "neighbours": False} if kind == ALONE else values
    return replace(config, **values, refit=False)


def is_alone(kind: str, neighbours: bool) -> bool:
    """Whether a trial leaves neighbours out."""
    return kind == ALONE or not neighbours


def best_by_role(study: Study, config: FinetuneConfig) -> dict[str, FrozenTrial | None]:
    """The first of the best trials of all, of the defaults, and of those without neighbours; None where none ended."""
    ended = [(t, t.user_attrs.get(KIND, SEARCH)) for t in complete_trials(study)]

    def best(trials: list[FrozenTrial]) -> FrozenTrial | None:
        return max(trials, key=lambda t: (t.value or 0.0, -t.number), default=None)

    return {
        BEST: best([t for t, _ in ended]),
        DEFAULTS: best([t for t, kind in ended if kind == DEFAULTS]),
        ALONE: best([t for t, kind in ended if is_alone(kind, t.params.get("neighbours", config.neighbours))]),
    }


def chosen_trial(best: dict[str, FrozenTrial | None], cells: int) -> tuple[FrozenTrial | None, str]:
    """The trial whose settings to take, and why, in a sentence.

    The best of many trials is partly the luckiest. So the defaults stay, unless a trial beats them by more than one
    standard error of a score on that many ``cells`` (the rule of Breiman et al., 1984, for pruning trees).
    """
    winner, defaults = best[BEST], best[DEFAULTS]
    if winner is None:
        return None, "No trial ended within the budget, so these are the settings that it began with."
    if defaults is None or defaults.value is None or winner.value is None or winner.number == defaults.number:
        return winner, "No trial did better than the defaults." if defaults else "The best trial's settings."
    error = float(np.sqrt(max(defaults.value * (1 - defaults.value), 0.0) / max(cells, 1)))
    compared = f"{winner.value:.3f} against {defaults.value:.3f}, standard error {error:.3f} on {cells} cells"
    if winner.value > defaults.value + error:
        return winner, f"The best trial beats the defaults by more than chance: {compared}."
    return defaults, f"The best trial is not clearly better than the defaults, so they stay: {compared}."


def trial_row(trial: FrozenTrial, space: Space) -> dict[str, Any]:
    """A trial as a row of the table; its score so far where it was cut short."""
    from optuna.trial import TrialState

    kind = trial.user_attrs.get(KIND, SEARCH)
    state = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned"}.get(trial.state, "failed")
    seen, values = trial.intermediate_values, {name: trial.params.get(name) for name in space}
    if kind == ALONE:
        values["neighbours"] = False
    return {
        "trial": trial.number + 1,
        KIND: kind,
        "state": "stopped" if _cut_short(trial) else state,
        "score": trial.value if state == "complete" else max(seen.values(), default=None),
        "epochs": len(seen),
        SECONDS: trial.user_attrs.get(SECONDS),
        REASON: trial.user_attrs.get(REASON, ""),
        **values,
    }
