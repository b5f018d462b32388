#!/usr/bin/env python3
"""Ask the public package index alone whether everything in pyproject.toml can be installed under constraints.txt.

Nothing is installed. pip runs without this machine's settings, so that a wheel at hand, a further index or a constraint
of the machine cannot hide a contradiction that a fresh machine would meet. Only what leads to the index is kept:
certificates, proxies and timeouts. If the index cannot be reached, that is a failure too.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
import venv
from itertools import chain
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RETRIES = "5"
KEPT = ("CERT", "CLIENT_CERT", "PROXY", "TIMEOUT", "DEFAULT_TIMEOUT")  # settings of pip, as in PIP_CERT
WAYS = re.compile(r"(?i)PATH|HOME|TMPDIR|SYSTEMROOT|LANG|SSL_CERT_\w+|\w+_CA_BUNDLE|\w+_proxy")  # variables kept


class ResolutionError(Exception):
    """The requirements cannot be installed; the message is one sentence."""


def requirements(project: Path) -> list[str]:
    """Return what pyproject.toml asks for, each extra and the build included, references to its own extras left out."""
    content = tomllib.loads(project.read_text(encoding="utf-8"))
    name, groups = content["project"]["name"], content["project"].get("optional-dependencies", {})
    wanted = {*content["project"]["dependencies"], *content["build-system"]["requires"], *chain(*groups.values())}
    return sorted(one for one in wanted if not one.startswith(f"{name}["))


def clean_environment(python: str) -> dict[str, str]:
    """Return an environment in which pip reads no configuration but still finds the way to the index."""
    environment = {name: value for name, value in os.environ.items() if WAYS.fullmatch(name)}
    listed = subprocess.run([python, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True).stdout
    for key, value in re.findall(r"^[^=]*\.([\w-]+)='(.*)'$", listed, re.MULTILINE):
        option = key.upper().replace("-", "_")
        if option in KEPT:
            environment[f"PIP_{option}"] = value
    return environment | {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_INPUT": "1",
        "PIP_RETRIES": RETRIES,
    }


def resolve(python: str, wanted: list[str], constraints: Path, index: str | None = None) -> dict[str, str]:
    """Return the version of each package that pip would install.

    Parameters
    ----------
    python : str
        Interpreter whose pip is asked.
    wanted : list of str
        Requirements.
    constraints : Path
    index : str, optional
        The one index to ask; default: the public one, which pip asks without settings.

    Raises
    ------
    ResolutionError
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [python, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--only-binary", ":all:"]
        command += [
            "--use-feature",
            "fast-deps",
        ]  # where an index offers no metadata apart, only parts of wheels are read
        command += ["--constraint", str(constraints), "--report", str(report), *wanted]
        command += [] if index is None else ["--index-url", index]
        done = subprocess.run(command, env=clean_environment(python), capture_output=True, text=True, check=False)
        if done.returncode:
            raise ResolutionError(
                f"{constraints.name} cannot be installed from {named(index)} alone: {reason(done.stdout + done.stderr)}"
            )
        installed = json.loads(report.read_text(encoding="utf-8"))["install"]
    return {one["metadata"]["name"]: one["metadata"]["version"] for one in installed}


def named(index: str | None) -> str:
    """Return what an index is called in messages."""
    return "the public index" if index is None else index


def reason(said: str) -> str:
    """Return the cause among the many lines that pip has said."""
    if re.search(r"connection broken|Could not fetch URL|Max retries exceeded", said):
        return "the index cannot be reached"
    conflict = re.search(r"The conflict is caused by:\n((?:[ ].*\n)+)", said)
    if conflict:
        return ", but ".join(line.strip() for line in conflict[1].splitlines() if line.strip())
    errors = [line.removeprefix("ERROR: ") for line in said.splitlines() if line.startswith("ERROR: ")]
    return " ".join(errors) or said.strip()[-500:] or "pip said nothing"


def main() -> int:
    """Resolve, and print the number of packages or one sentence; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--constraints", type=Path, default=ROOT / "constraints.txt")
    constraints = parser.parse_args().constraints
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = str(Path(folder) / "bin/python")
        # The pip that comes with Python 3.11 would download every wheel in full to read its metadata.
        command = [python, "-m", "pip", "install", "--quiet", "--upgrade", "pip==26.3"]
        done = subprocess.run(command, env=clean_environment(python), capture_output=True, text=True, check=False)
        try:
            if done.returncode:
                raise ResolutionError(f"pip cannot be installed from {named(None)} alone: {reason(done.stderr)}")
            found = resolve(python, requirements(ROOT / "pyproject.toml"), constraints)
        except ResolutionError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    print(f"{constraints.name}: {len(found)} packages can be installed together from {named(None)} alone")
    return 0


if __name__ == "__main__":
    sys.exit(main())
