"""The package as it is installed: light to import, whole in wheel and sdist, importable by one name only."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from contextlib import redirect_stdout
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("data", "pde", "solvers")


def python(program: str) -> str:
    """Run a program in a fresh interpreter and return what it prints."""
    return subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.strip()


def sources() -> set[str]:
    """Every file that an installed deepcd must have, relative to the package."""
    face = {path.name for path in (ROOT / "src/deepcd").iterdir() if path.is_file()}
    code = {str(path.relative_to(ROOT)) for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")}
    kept = {
        str(path.relative_to(ROOT)) for name in ("weights", "scenes") for path in (ROOT / "data" / name).glob("[!.]*")
    }
    return face | code | kept


def test_the_version_is_that_of_the_project() -> None:
    import deepcd

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    installed = any(metadata.distributions(name="deepcd"))
    assert deepcd.__version__ == (project["version"] if installed else "0+unknown")


def test_importing_loads_neither_compiler_nor_torch() -> None:
    heavy = "{'numba', 'torch', 'pyamg', 'matplotlib', 'zuko'}"
    assert python(f"import sys, deepcd; print(sorted({heavy} & set(sys.modules)))") == "[]"


def test_importing_everything_but_the_cuda_side_leaves_numba_cuda_alone() -> None:
    program = (
        "import pkgutil, sys, deepcd\n"
        "for module in pkgutil.walk_packages(deepcd.__path__, 'deepcd.'):\n"
        "    name = module.name.rsplit('.', 1)[1]\n"
        "    if 'cuda' not in module.name.split('.') and name != '__main__': __import__(module.name)\n"
        "print([name for name in ('numba_cuda', 'numba.cuda') if name in sys.modules])"
    )
    assert python(program).splitlines()[-1] == "[]"


def test_help_needs_not_even_numpy() -> None:
    program = (
        "import sys\n"
        "from deepcd.cli import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: print(sorted({'numpy', 'scipy', 'numba', 'torch'} & set(sys.modules)))"
    )
    assert python(program).splitlines()[-1] == "[]"


def test_every_module_has_one_name_and_comes_through_the_face() -> None:
    program = (
        "import pkgutil, sys, deepcd\n"
        "for module in pkgutil.walk_packages(deepcd.__path__, 'deepcd.'):\n"
        "    if not module.name.endswith('__main__'): __import__(module.name)\n"
        f"print(sorted(set({FOLDERS}) & set(sys.modules)))"
    )
    assert python(program).splitlines()[-1] == "[]"


def test_types_are_announced() -> None:
    assert resources.files("deepcd").joinpath("py.typed").is_file()


@pytest.mark.parametrize("folder", FOLDERS)
def test_links_lead_to_the_folders(folder: str) -> None:
    link = ROOT / "src/deepcd" / folder
    assert link.is_symlink()
    assert link.readlink() == Path("../..") / folder
    assert (link / "__init__.py").is_file()


@pytest.mark.compiled
def test_the_examples_of_the_readme_run_as_pasted_and_print_what_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # some write files
    names: dict[str, Any] = {}
    shown = 0
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for example, output in re.findall(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```)?", readme, re.DOTALL):
        with redirect_stdout(io.StringIO()) as printed:
            exec(example, names)
        if output:
            assert printed.getvalue() == output
            shown += 1
    assert shown >= 1
    assert names["info"] == 0
    assert names["solution"].info == 0
    assert names["M"].shape == names["system"].A.shape


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a wheel and an sdist made now."""
    folder = tmp_path_factory.mktemp("dist")
    build(ROOT, folder)
    return folder


def build(project: Path, folder: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    subprocess.run(command, cwd=project, check=True, capture_output=True)


def wheel_content(folder: Path) -> dict[str, int]:
    """Checksum by name of what the wheel in a folder holds."""
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        return {member.filename: member.CRC for member in wheel.infolist()}


def test_the_wheel_has_every_source_once(built: Path) -> None:
    names = [name for name in wheel_content(built) if ".dist-info/" not in name]
    assert sorted(names) == sorted(f"deepcd/{name}" for name in sources())


def test_the_sdist_makes_the_same_wheel(built: Path, tmp_path: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as sdist:
        sdist.extractall(tmp_path, filter="data")
    build(next(tmp_path.iterdir()), tmp_path / "again")
    assert wheel_content(tmp_path / "again") == wheel_content(built)
