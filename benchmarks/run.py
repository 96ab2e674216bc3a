"""Speed and scale: every row of benchmarks/speed/, into benchmarks/results.json and docs/benchmarks.md.

    python -m benchmarks.run                                        # all modules, 10,000 to 1,000,000 cells
    python -m benchmarks.run --quick                                # up to 100,000 cells
    python -m benchmarks.run --only graph,tokens --sizes 10000      # some of it

Each module runs in a process of its own. Rows are merged after each: what a killed run has measured is kept, and
``--only`` replaces the rows of the modules it names.
"""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import results, speed, tables
from benchmarks.machine import machine
from benchmarks.rows import Row
from benchmarks.sections import FOLDER, Sections

ROOT = Path(__file__).resolve().parents[1]
SIZES = (10_000, 100_000, 1_000_000)
QUICK = SIZES[:2]
_BY = "benchmarks/run.py"


def modules() -> list[str]:
    """Names of the modules of benchmarks/speed/, in alphabetical order."""
    return sorted(found.name for found in pkgutil.iter_modules(speed.__path__) if not found.name.startswith("_"))


def main(arguments: list[str] | None = None) -> int:
    """Run them; 1 if one of them failed."""
    options = _parser().parse_args(arguments)
    sizes = tuple(options.sizes or (QUICK if options.quick else SIZES))
    if options.module:
        results.save(options.results, measured(options.module, Sections(options.sections), sizes))
        return 0
    chosen = options.only or modules()
    if unknown := set(chosen) - set(modules()):
        raise SystemExit(f"There is no module {', '.join(sorted(unknown))}. There are: {', '.join(modules())}.")
    failed = []
    for name in chosen:
        start = time.monotonic()
        sys.stdout.write(f"{name} ...\n")
        rows = run_apart(name, options.sections, sizes)
        if rows is None:
            failed.append(name)
            continue
        merged = results.merge(results.load(options.results), rows, name, sizes)
        results.save(options.results, merged)
        if options.docs:
            tables.replace_block(Path(options.docs), results.shown(merged), _BY)
        sys.stdout.write(f"{results.shown(rows)}\n\n{name}: {time.monotonic() - start:.0f} s\n\n")
        sys.stdout.flush()
    if failed:
        sys.stderr.write(f"Not measured, as the module failed: {', '.join(failed)}\n")
    return 1 if failed else 0


def measured(name: str, sections: Sections, sizes: tuple[int, ...]) -> list[Row]:
    """Rows of one module, measured in this process; each says on which machine, and its load before and after."""
    where = machine()
    rows: list[Row] = importlib.import_module(f"benchmarks.speed.{name}").measure(sections, sizes)
    where += f" before, {os.getloadavg()[0]:.1f} after"
    for row in rows:
        row.module, row.machine = name, row.machine or where
    return rows


def run_apart(name: str, sections: Path, sizes: tuple[int, ...]) -> list[Row] | None:
    """The same in a process of its own; None when it fails, which it has then told on stderr."""
    with tempfile.TemporaryDirectory() as folder:
        into = Path(folder) / "rows.json"
        given = ["--module", name, "--results", str(into), "--sections", str(sections)]
        given += ["--sizes", ",".join(map(str, sizes))]
        done = subprocess.run([sys.executable, "-m", "benchmarks.run", *given], cwd=ROOT, check=False)
        return results.load(into) if done.returncode == 0 and into.is_file() else None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=_names, help="modules of benchmarks/speed/, comma between")
    parser.add_argument("--sizes", type=_numbers, help="cells, comma between")
    parser.add_argument("--quick", action="store_true", help="sizes up to 100,000")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results.json")
    parser.add_argument("--docs", default=str(ROOT / "docs" / "benchmarks.md"), help='page of the table; "" for none')
    parser.add_argument("--sections", type=Path, default=FOLDER, help="where simulated sections are kept")
    parser.add_argument("--module", help=argparse.SUPPRESS)
    return parser


def _names(words: str) -> list[str]:
    return [name for name in words.split(",") if name]


def _numbers(words: str) -> list[int]:
    return sorted(int(word.replace("_", "")) for word in words.split(",") if word)


if __name__ == "__main__":
    sys.exit(main())
