"""The check of constraints.txt against the public index: contradictions are found, and nothing at hand hides them."""

from __future__ import annotations

import re
import runpy
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
RESOLVE = runpy.run_path(str(ROOT / ".ci/resolve.py"))


def wheel(folder: Path, name: str, version: str, *requirements: str) -> None:
    """Put a package without content into a folder that serves as an index."""
    stem = f"{name.replace('-', '_')}-{version}"
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {one}" for one in requirements]
    (folder / name).mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / name / f"{stem}-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{stem}.dist-info/METADATA", "\n".join([*lines, ""]))
        archive.writestr(f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{stem}.dist-info/RECORD", "")
    links = "".join(f'<a href="{path.name}">{path.name}</a>' for path in sorted((folder / name).glob("*.whl")))
    (folder / name / "index.html").write_text(f"<!DOCTYPE html><html><body>{links}</body></html>", encoding="utf-8")


class TestResolve:
    @pytest.fixture
    def index(self, tmp_path: Path) -> Path:
        folder = tmp_path / "index"
        wheel(folder, "deepcd-a", "1.0", "deepcd-b ==2.0")
        wheel(folder, "deepcd-b", "1.0")
        wheel(folder, "deepcd-b", "2.0")
        return folder

    def resolve(self, tmp_path: Path, constraint: str, index: str) -> dict[str, str]:
        path = tmp_path / "constraints.txt"
        path.write_text(constraint)
        return dict(RESOLVE["resolve"](sys.executable, ["deepcd-a"], path, index))

    def test_what_fits_together_is_found(self, tmp_path: Path, index: Path) -> None:
        assert self.resolve(tmp_path, "deepcd-b==2.0", index.as_uri()) == {"deepcd-a": "1.0", "deepcd-b": "2.0"}

    def test_a_contradiction_is_one_sentence(self, tmp_path: Path, index: Path) -> None:
        with pytest.raises(RESOLVE["ResolutionError"]) as caught:
            self.resolve(tmp_path, "deepcd-b==1.0", index.as_uri())
        said = str(caught.value)
        assert "\n" not in said
        assert said.startswith(f"constraints.txt cannot be installed from {index.as_uri()} alone: ")
        assert "deepcd-a 1.0 depends on deepcd-b==2.0" in said
        assert "The user requested (constraint) deepcd-b==1.0" in said

    def test_wheels_at_hand_hide_nothing(self, tmp_path: Path, index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        hidden = tmp_path / "hidden"
        wheel(hidden, "deepcd-a", "1.1")
        monkeypatch.setenv("PIP_FIND_LINKS", str(hidden / "deepcd-a"))
        monkeypatch.setenv("PIP_EXTRA_INDEX_URL", hidden.as_uri())
        with pytest.raises(RESOLVE["ResolutionError"], match=r"depends on deepcd-b==2\.0"):
            self.resolve(tmp_path, "deepcd-b==1.0", index.as_uri())

    def test_an_index_out_of_reach_is_a_failure(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.setitem(RESOLVE["resolve"].__globals__, "RETRIES", "1")
        with pytest.raises(RESOLVE["ResolutionError"], match=r"alone: the index cannot be reached$"):
            self.resolve(tmp_path, "deepcd-b==1.0", "http://127.0.0.1:9/simple")

    def test_what_is_asked_for_is_all_of_pyproject(self) -> None:
        wanted = RESOLVE["requirements"](ROOT / "pyproject.toml")
        names = {re.split(r"[^\w-]", one)[0] for one in wanted}
        assert names >= {
            "deepxde",
            "hatchling",
            "hypothesis",
            "meshio",
            "mypy",
            "numba-cuda",
            "numpy",
            "torch",
            "typer",
        }
        assert "deepcd" not in names
