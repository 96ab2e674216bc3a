"""The environment that the peers run in: made once beside the project, from pinned versions.

Their packages would not live with the project's own: other versions, and a training framework that it does not use.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
FOLDER = ROOT / ".venv-peers"
REQUIREMENTS = HERE.parent / "requirements-peers.txt"
WITHOUT_DEPENDENCIES = HERE.parent / "requirements-peers-no-deps.txt"
"""Packages that declare what they never import, and what would not install."""


class EnvironmentMissing(RuntimeError):
    """The environment could not be made; the message says why."""


def python(folder: Path = FOLDER) -> Path:
    """The environment's interpreter; makes the environment when it is absent or the pinned versions have changed."""
    stamp, wanted = folder / "requirements.sha256", _digest()
    interpreter = folder / "bin" / "python"
    if interpreter.exists() and stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return interpreter
    print(f"Making {folder.name} for the peers (some minutes, once) ...", flush=True)
    install = [str(interpreter), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _call([sys.executable, "-m", "venv", str(folder)])
    _call([*install, "--requirement", str(REQUIREMENTS)])
    _call([*install, "--no-deps", "--requirement", str(WITHOUT_DEPENDENCIES)])
    stamp.write_text(wanted, encoding="utf-8")
    return interpreter


def pinned(package: str) -> str:
    """The version of ``package`` that is installed for the comparison."""
    for path in (REQUIREMENTS, WITHOUT_DEPENDENCIES):
        for line in path.read_text(encoding="utf-8").splitlines():
            name, _, version = line.partition("==")
            if name == package:
                return version.split()[0]
    raise KeyError(package)


def _digest() -> str:
    return hashlib.sha256(REQUIREMENTS.read_bytes() + WITHOUT_DEPENDENCIES.read_bytes()).hexdigest()


def _call(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise EnvironmentMissing(f"its environment cannot be made: {error}") from error
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()] or ["no reason given"]
        errors = [line for line in said if line.startswith("ERROR")] or said
        raise EnvironmentMissing(f"its environment cannot be made: {errors[-1].removeprefix('ERROR: ')}")
