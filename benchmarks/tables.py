"""Scores as the documentation shows them, and as sentences about where the default loses."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.scoring import Row, Score

END = "<!-- end of what was measured -->"
MEASURES = {
    "macro_f1": "Macro-F1",
    "balanced_accuracy": "Balanced accuracy",
    "tumour_f1": "F1 of tumour against the rest",
    "calibration_error": "Expected calibration error",
    "seconds": "Processor seconds to learn and to predict every cell",
}
_DIGITS = {"seconds": 1}
_FEW = ("no draw", "one draw", "two draws", "three draws", "four draws")


def table(rows: list[Row], measure: str, shots: list[str], draws: int) -> str:
    """One measure, a method a row: mean ± standard error over draws; the best mean of a column in bold.

    A method that has no score says why in its row.
    """
    scored = [row for row in rows if any(_has(row, measure, k) for k in shots) or (row.reason and not row.scores)]
    best = {k: _best(scored, measure, k) for k in shots}
    lines = ["| labels a class | " + " | ".join(shots) + " |", "|---|" + "---|" * len(shots)]
    for row in scored:
        cells = [_cell(row.scores[k], measure, row.name == best[k]) if _has(row, measure, k) else "–" for k in shots]
        lines.append(f"| {_title(row, draws)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def behind(rows: list[Row], measure: str, shots: list[str]) -> list[str]:
    """Where another method's mean is above the default's (the first row), as sentences, the largest gap first.

    Differences are paired: over the draws that both methods saw. Ablations of the default are left out.
    """
    default, found = rows[0], []
    for row in rows[1:]:
        if row.name.startswith(default.name):
            continue
        for k in shots:
            if not (_has(row, measure, k) and _has(default, measure, k)):
                continue
            gaps = _paired(row.scores[k], default.scores[k], measure)
            if gaps.mean() >= 0.0005:  # less would read as 0.000
                spread = f" ± {gaps.std(ddof=1) / np.sqrt(len(gaps)):.3f}" if len(gaps) > 1 else ""
                labels = "every label" if k == "all" else f"{k} label{'s' if k != '1' else ''} a class"
                found.append((-gaps.mean(), f"{row.name} at {labels}: ahead by {gaps.mean():.3f}{spread}"))
    return [sentence for _, sentence in sorted(found)]


def section(title: str, rows: list[Row], measures: list[str], draws: int) -> str:
    """All tables of one set of classes, the chosen measures one after another, and where the default is behind."""
    shots = list(rows[0].scores)
    parts = [f"### {title}"]
    for measure in measures:
        parts.append(f"#### {MEASURES[measure]}\n\n{table(rows, measure, shots, draws)}")
        if measure in ("macro_f1", "balanced_accuracy", "tumour_f1"):
            losses = behind(rows, measure, shots)
            said = "".join(f"\n- {sentence}" for sentence in losses) or " nowhere."
            parts.append(f"Where the default is behind another method (paired over draws):{said}")
    return "\n\n".join(parts)


def replace_block(page: Path, text: str, by: str = "benchmarks/annotation.py") -> None:
    """Put ``text`` between the two marks of ``page`` that name the script it was measured ``by``."""
    start = f"<!-- measured by {by} -->"
    before, found, rest = page.read_text(encoding="utf-8").partition(start)
    _, closed, after = rest.partition(END)
    if not (found and closed):
        raise SystemExit(f"{page} lacks the marks {start} and {END}.")
    page.write_text(f"{before}{start}\n\n{text}\n\n{END}{after}", encoding="utf-8")


def show(page: str, text: str, by: str = "benchmarks/annotation.py") -> None:
    """:func:`replace_block`, or print where no page is named."""
    if page:
        replace_block(Path(page), text, by)
    else:
        print(text)


def _title(row: Row, draws: int) -> str:
    name = f"**{row.name}**" if row.name == "STPLM" else row.name
    fewest = min((len(found) for k, found in row.scores.items() if k != "all"), default=draws)
    if fewest < draws and row.scores:
        name += f" ({_FEW[fewest] if fewest < len(_FEW) else f'{fewest} draws'})"
    return f"{name}: not run, {row.reason}" if row.reason and not row.scores else _partly(name, row)


def _partly(name: str, row: Row) -> str:
    return f"{name}; not all of it could be run: {row.reason}" if row.reason else name


def _has(row: Row, measure: str, shots: str) -> bool:
    return bool(row.scores.get(shots)) and measure in row.scores[shots][0]


def _best(rows: list[Row], measure: str, shots: str) -> str | None:
    if measure == "seconds":
        return None
    sign = -1 if measure == "calibration_error" else 1
    means = {row.name: sign * _mean(row.scores[shots], measure) for row in rows if _has(row, measure, shots)}
    return max(means, key=lambda name: means[name]) if means else None


def _mean(scores: list[Score], measure: str) -> float:
    return float(np.mean([score[measure] for score in scores]))


def _paired(one: list[Score], other: list[Score], measure: str) -> np.ndarray:
    by_seed = {score["seed"]: score[measure] for score in other}
    return np.array([score[measure] - by_seed[score["seed"]] for score in one if score["seed"] in by_seed])


def _cell(scores: list[Score], measure: str, best: bool) -> str:
    values, digits = np.array([score[measure] for score in scores]), _DIGITS.get(measure, 3)
    mean = f"{values.mean():.{digits}f}"
    mean = f"**{mean}**" if best else mean
    if len(values) == 1 or measure == "seconds":
        return mean
    return f"{mean} ± {values.std(ddof=1) / np.sqrt(len(values)):.{digits}f}"
