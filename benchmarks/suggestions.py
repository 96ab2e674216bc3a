"""Labels needed to reach a score: cells that are suggested against cells picked at random.

    python benchmarks/suggestions.py                    # writes the table into docs/suggestions.md
    python benchmarks/suggestions.py --seeds 2 --budgets 10,20,40 --docs ""

Both ways ask about cells of the left half of the protocol's section, start from the same labels and teach the same
head; scores are taken on the right half. The true class answers each question; a cell that the annotation leaves
undecided is skipped, which costs a question and no label.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # run as a file, Python looks beside it only
    sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from sklearn.metrics import f1_score  # noqa: E402

import stplm  # noqa: E402
from benchmarks import ours, protocol, tables  # noqa: E402
from stplm import keys  # noqa: E402
from stplm.tasks.features import cell_features  # noqa: E402

DOCS = ROOT / "docs" / "suggestions.md"
BUDGETS = (10, 20, 40, 80, 160, 320)
N_RANDOM, A_FEW_CLICKS, NOTHING = "five random cells", "two tumour and two stromal cells", "no label"
Asker = Callable[["Play"], Iterator[int]]


@dataclass(frozen=True)
class Reached:
    """Macro-F1 after so many labels, which took so many questions."""

    labels: int
    questions: int
    macro_f1: float


class Play:
    """One annotator on the protocol's section: knows the answers, and how well the head does with those given."""

    def __init__(self, classes: protocol.ClassSet) -> None:
        self.table, self.truth = classes.table, classes.truth
        x = self.table.obsm[keys.SPATIAL][:, 0]
        self.left, self.right = np.flatnonzero(x < np.median(x) - 30), np.flatnonzero(classes.right)
        ours.embed_once(self.table)
        self.features = cell_features(self.table)
        self.table.obs[keys.N_COUNTS] = self.features.depth.astype(int)
        self.labels: dict[str, str] = {}
        self.skipped: list[int] = []
        self._taught = 0

    def start(self, how: str, seed: int) -> None:
        """Forget all, and give the labels that both ways start from."""
        self.labels, self.skipped, self._taught = {}, [], 0
        self.table.obs = self.table.obs.drop(columns=[keys.CLASS, keys.UNKNOWN], errors="ignore")
        self.table.obsm.pop(keys.PROBA, None)
        random = np.random.default_rng(seed)
        known = [row for row in random.permutation(self.left) if self.truth[row] is not None]
        if how == N_RANDOM:
            chosen = known[:5]
        elif how == A_FEW_CLICKS:
            chosen = [r for name in ("Tumour", "Stromal") for r in [k for k in known if self.truth[k] == name][:2]]
        else:
            chosen = []
        for row in chosen:
            self.answer(row)

    def answer(self, row: int) -> None:
        """The true class of a cell; skipped where the annotation has none."""
        if self.truth[row] is None:
            self.skipped.append(row)
        else:
            self.labels[self.table.obs_names[row]] = str(self.truth[row])

    def teach(self) -> None:
        """Fit the head to the labels, and call every cell."""
        if len(set(self.labels.values())) > 1 and self._taught != len(self.labels):
            classifier = stplm.fit_classifier(self.table, pd.Series(self.labels, dtype=object), features=self.features)
            stplm.predict(self.table, classifier, features=self.features)
            self._taught = len(self.labels)

    def score(self) -> float:
        """Macro-F1 on the right half; 0 with labels of one class."""
        self.teach()
        if keys.CLASS not in self.table.obs:
            return 0.0
        called = self.table.obs[keys.CLASS].astype(object).fillna(keys.UNASSIGNED).to_numpy(dtype=str)
        return float(f1_score(self.truth[self.right].astype(str), called[self.right], average="macro"))

    def run(self, ask: Asker, budgets: Sequence[int]) -> list[Reached]:
        """Answer what is asked until each number of labels is there."""
        questions, reached = ask(self), []
        for budget in budgets:
            while len(self.labels) < budget:
                self.answer(next(questions))
            reached.append(Reached(budget, budget + len(self.skipped), self.score()))
        return reached


def at_random(seed: int) -> Asker:
    """Cells of the left half in random order."""

    def ask(play: Play) -> Iterator[int]:
        for row in np.random.default_rng([seed, 1]).permutation(play.left):
            if play.table.obs_names[row] not in play.labels:
                yield int(row)

    return ask


def suggested(at_once: int = 1) -> Asker:
    """What ``stplm.suggest`` asks about; the head is fitted again after every ``at_once`` answers."""

    def ask(play: Play) -> Iterator[int]:
        while True:
            play.teach()
            known = pd.Series(play.labels, dtype=object)
            found = stplm.suggest(play.table, labels=known, skip=play.skipped, within=play.left, n=at_once)
            yield from found["row"].astype(int)

    return ask


def labels_for(target: float, curve: NDArray[np.float64], budgets: Sequence[int]) -> float:
    """Labels at which a mean curve first reaches a score, by ratio between budgets; NaN if it does not."""
    for i, value in enumerate(curve):
        if value >= target:
            if i == 0:
                return float(budgets[0])
            share = (target - curve[i - 1]) / (value - curve[i - 1])
            low, high = np.log(budgets[i - 1]), np.log(budgets[i])
            return float(np.exp(low + share * (high - low)))
    return float("nan")


def page(found: dict[str, dict[str, list[list[Reached]]]], budgets: Sequence[int]) -> str:
    """The tables."""
    parts = []
    for start, ways in found.items():
        lines = [f"#### Starting from {start}\n"]
        lines.append("| macro-F1 at labels | " + " | ".join(map(str, budgets)) + " |")
        lines.append("|---|" + "---|" * len(budgets))
        means = {}
        for way, runs in ways.items():
            scores = np.array([[point.macro_f1 for point in run] for run in runs])
            means[way] = scores.mean(0)
            spread = scores.std(0, ddof=1) if len(scores) > 1 else np.zeros(scores.shape[1])
            cells = [f"{m:.3f} ± {s:.3f}" for m, s in zip(means[way], spread, strict=True)]
            title = way if len(runs) == 1 else f"{way} ({len(runs)} seeds)"
            lines.append(f"| {title} | " + " | ".join(cells + ["–"] * (len(budgets) - len(cells))) + " |")
            asked = np.array([[point.questions for point in run] for run in runs]).mean(0)
            shown = [f"{q:.0f}" for q in asked] + ["–"] * (len(budgets) - len(asked))
            lines.append("| questions asked | " + " | ".join(shown) + " |")
        random = next((m for way, m in means.items() if way.startswith("random")), None)
        if random is not None:
            lines.append(
                "\n| random picking, with | reaches macro-F1 | labels by suggestion | share |\n|---|---|---|---|"
            )
            best = next(m for way, m in means.items() if way.startswith("suggested"))
            for budget, target in zip(budgets, random, strict=True):
                if budget >= 40:
                    need = labels_for(target, best, budgets)
                    reached = [f"{need:.0f}", f"{need / budget:.2f}"] if need == need else [f"over {budgets[-2]}", "–"]
                    lines.append(f"| {budget} labels | {target:.3f} | {reached[0]} | {reached[1]} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def main() -> None:
    """Run the comparison; write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--budgets", default=",".join(map(str, BUDGETS)))
    parser.add_argument("--at-once", type=int, default=1, help="answers between two fits")
    parser.add_argument("--starts", default=f"{N_RANDOM};{A_FEW_CLICKS};{NOTHING}", help="semicolon between")
    parser.add_argument("--json", type=Path, help="write every run here")
    parser.add_argument("--docs", default=str(DOCS), help='page whose tables are replaced; "" for none')
    options = parser.parse_args()
    budgets = [int(b) for b in options.budgets.split(",")]
    play = Play(protocol.coarse(protocol.load_protocol()))
    found: dict[str, dict[str, list[list[Reached]]]] = {}
    for start in options.starts.split(";"):
        ways = found.setdefault(start, {"random": [], "suggested": []})
        for seed in range(options.seeds):
            play.start(start, seed)
            ways["random"].append(play.run(at_random(seed), budgets))
            if start != NOTHING or seed == 0:  # nothing is drawn there: every seed would give the same
                play.start(start, seed)
                # Half of the labels is what it has to do with.
                ways["suggested"].append(play.run(suggested(options.at_once), budgets[:-1]))
            print(start, seed, [[round(p.macro_f1, 3) for p in runs[-1]] for runs in ways.values()], flush=True)
    if options.json:
        plain = {s: {w: [[vars(p) for p in r] for r in rs] for w, rs in ways.items()} for s, ways in found.items()}
        options.json.write_text(json.dumps(plain, indent=1), encoding="utf-8")
    text = page(found, budgets)
    if options.docs:
        tables.replace_block(Path(options.docs), text, "benchmarks/suggestions.py")
    else:
        print(text)


if __name__ == "__main__":
    main()
