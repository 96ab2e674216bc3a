"""Few-shot cell typing on a labelled Xenium section: the default classifier beside peers, baselines and ablations.

    python benchmarks/annotation.py                        # all of it; writes docs/benchmarks.md
    python benchmarks/annotation.py --shots 5,10 --seeds 2 --only logistic --json scores.json --docs ""

The peers run in an environment of their own, ``.venv-peers``, which the first run makes. What is slow (the peers'
predictions, our models' vectors) is kept in ``build/benchmarks`` by what it depends on, so a second run is quick and a
killed one goes on where it was. ``stplm_default`` is a predictor for the protocol file as well:

    PYTHONPATH=. python ../shared/protocols/fewshot.py --predictor benchmarks.annotation:stplm_default
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # run as a file, Python looks beside it only
    sys.path.insert(0, str(ROOT))

import pandas as pd  # noqa: E402
from sklearn.exceptions import ConvergenceWarning  # noqa: E402

import stplm  # noqa: E402
from benchmarks import ours, protocol, scoring, tables  # noqa: E402
from benchmarks.methods import all_methods  # noqa: E402
from benchmarks.ours import default as stplm_default  # noqa: E402
from benchmarks.peers import environment  # noqa: E402
from stplm import keys  # noqa: E402

__all__ = ["stplm_default"]

DOCS = ROOT / "docs" / "benchmarks.md"
PROFILE_NAMES = {"T cell": "T", "B cell": "B", "Plasma": "B"}
"""The reference profiles' classes in the protocol's names, where they differ and there is one."""
SHOWN = {
    "coarse": ["macro_f1", "balanced_accuracy", "tumour_f1", "calibration_error", "seconds"],
    "fine": ["macro_f1", "balanced_accuracy", "calibration_error"],
}


def without_a_click(class_set: protocol.ClassSet) -> dict[str, float]:
    """Scores on the same cells where the labels are seeds from the reference profiles."""
    table = class_set.table.copy()
    ours.embed_once(table)
    stplm.predict(table, stplm.fit_classifier(table, stplm.seed_labels(table), seeded=True))
    table.obs[keys.CLASS] = table.obs[keys.CLASS].astype(object).replace(PROFILE_NAMES)
    score = stplm.evaluate(table, pd.Series(class_set.truth, index=table.obs_names), cells=class_set.right)
    chosen = {name: score[name] for name in ("accuracy", "balanced_accuracy", "calibration_error")}
    return {**chosen, "tumour_f1": score["tumour"]["f1"], "tumour_auroc": score["tumour"]["auroc"]}


def only_kept() -> Path:
    """In place of the peers' interpreter: what is not kept is left out, with this reason."""
    raise environment.EnvironmentMissing("only what earlier runs kept is shown")


def page(found: dict[protocol.ClassSet, list[scoring.Row]], seeded: dict[str, float], seeds: int) -> str:
    """What the page shows between its marks."""
    parts = []
    for class_set, rows in found.items():
        title = f"{len(class_set.classes)} {class_set.name} classes: {', '.join(class_set.classes)}"
        parts.append(tables.section(title, rows, SHOWN[class_set.name], seeds))
        once = [f"{row.name} {row.once:.0f} s" for row in rows if row.once >= 1]
        if "seconds" in SHOWN[class_set.name] and once:
            parts.append(f"Once for the section before that: {'; '.join(once)}.")
    words = ", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in seeded.items())
    words = words.replace("auroc", "AUROC").replace("tumour f1", "tumour F1")
    parts.append(f"### Without a click\n\nSeeds from the reference profiles instead of labels: {words}.")
    return "\n\n".join(parts)


def main() -> None:
    """Run the comparison; write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    protocol.add_options(parser, DOCS)
    parser.add_argument("--classes", default="coarse,fine", help="sets of classes, comma between")
    parser.add_argument("--only", help="methods whose name contains this (the default is always run)")
    parser.add_argument("--kept", action="store_true", help="run no peer: show what is kept of earlier runs")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", category=ConvergenceWarning)
    rules = protocol.load_protocol(arguments.protocol)
    shots = protocol.shots_of(arguments)
    methods = all_methods(rules)
    if arguments.only:
        methods = [methods[0], *(m for m in methods[1:] if arguments.only.lower() in m.name.lower())]
    sets = {"coarse": protocol.coarse, "fine": protocol.fine}
    python = only_kept if arguments.kept else environment.python
    found = {}
    for name in arguments.classes.split(","):
        class_set = sets[name](rules)
        found[class_set] = scoring.compare(methods, class_set, shots, arguments.seeds, python=python)
    seeded = without_a_click(protocol.coarse(rules))
    if arguments.json:
        plain = {class_set.name: [row.to_dict() for row in rows] for class_set, rows in found.items()}
        text = json.dumps({"scores": plain, "without_a_click": seeded}, indent=1)
        arguments.json.write_text(text, encoding="utf-8")
    text = page(found, seeded, arguments.seeds)
    tables.show(arguments.docs, text)


if __name__ == "__main__":
    main()
