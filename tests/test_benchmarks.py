"""The benchmarks are one package: modules import under their full names, and documents name commands that exist."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py") if path.stem != "__init__")
DOCUMENTS = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", *(f"benchmarks/{name}.py" for name in MODULES))


@pytest.mark.parametrize("name", MODULES)
def test_a_module_of_the_benchmarks_has_one_name(name: str) -> None:
    module = importlib.import_module(f"benchmarks.{name}")
    assert module.__file__ == str(ROOT / "benchmarks" / f"{name}.py")
    assert not any(getattr(sys.modules.get(other), "__file__", None) == module.__file__ for other in MODULES)


def test_commands_in_the_documents_exist() -> None:
    text = "\n".join((ROOT / name).read_text(encoding="utf-8") for name in DOCUMENTS)
    named = set(re.findall(r"python -m benchmarks\.(\w+)", text))
    assert named <= set(MODULES)
    assert len(named) > 15
    assert not re.findall(r"python benchmarks/\w+", text)
