"""The layout of the source: layers without circles, files and functions of readable size, devices named in one place.

What is checked is the text of the files; nothing of the library is imported. A failure lists all offenders at once.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = "deepcd"
LAYERS = ("pde", "data", "solvers", "face")  # each imports those before it, and itself
APPLICATIONS = ("pinn", "training", "simulation", "bench", "fem")  # within solvers, which knows none of them
LONGEST_FILE = 400
LONGEST_FUNCTION = 80
DEVICES = re.compile("cuda|gpu|cupy", re.IGNORECASE)


@cache
def sources() -> dict[str, Path]:
    """Return the files of the library by module name, as they are imported."""
    files = {}
    for folder, prefix in (
        (ROOT / "src" / PACKAGE, PACKAGE),
        *((ROOT / name, f"{PACKAGE}.{name}") for name in LAYERS[:3]),
    ):
        for path in sorted(folder.rglob("*.py")) if folder.name in LAYERS else sorted(folder.glob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            files[".".join([prefix, *(part for part in parts if part != "__init__")])] = path
    return files


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def place(path: Path) -> str:
    return str(path.relative_to(ROOT))


def layer(module: str) -> int:
    """Return the number of the layer that a module belongs to."""
    second = module.split(".")[1] if "." in module else ""
    return LAYERS.index(second) if second in LAYERS else LAYERS.index("face")


@cache
def imports(module: str) -> dict[str, int]:
    """Return the modules of the library that a module names in imports, type-only ones included, with the lines."""
    files = sources()
    found: dict[str, int] = {}
    for node in ast.walk(tree(files[module])):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{place(files[module])}:{node.lineno} imports relatively"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                names.append(inner if inner in files else str(node.module))
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            names = [str(arg.value) for arg in node.args[:1] if isinstance(arg, ast.Constant)]
        for name in names:
            if name in files and name != module:
                found.setdefault(name, getattr(node, "lineno", 0))
    return found


def circles() -> list[list[str]]:
    """Return the groups of modules that import one another, by Tarjan's algorithm."""
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    groups = []

    def visit(module: str) -> None:
        number[module] = lowest[module] = len(number)
        stack.append(module)
        for other in imports(module):
            if other not in number:
                visit(other)
                lowest[module] = min(lowest[module], lowest[other])
            elif other in stack:
                lowest[module] = min(lowest[module], number[other])
        if lowest[module] == number[module]:
            group = [stack.pop()]
            while group[-1] != module:
                group.append(stack.pop())
            if len(group) > 1:
                groups.append(sorted(group))

    for module in sources():
        if module not in number:
            visit(module)
    return groups


def documented(path: Path) -> Iterator[tuple[ast.AST, str, ast.Constant]]:
    """Yield what has a docstring, its name, and the docstring."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            first = node.body[0]
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                yield node, getattr(node, "name", "module"), first.value


def none_of(offenders: list[str]) -> None:
    assert not offenders, "\n" + "\n".join(sorted(offenders))


def test_the_sources_are_found() -> None:
    modules = sources()
    assert {"deepcd", "deepcd.cli", "deepcd.pde", "deepcd.data", "deepcd.solvers.system"} <= modules.keys()
    assert len(modules) > 100
    assert imports("deepcd.solvers.deepcd")["deepcd.solvers.system"] > 0


def test_no_module_imports_itself_by_way_of_others() -> None:
    offenders = []
    for group in circles():
        edges = [
            f"    {place(sources()[module])}:{at} imports {other}"
            for module in group
            for other, at in imports(module).items()
            if other in group
        ]
        offenders.append("\n".join([" <-> ".join(group), *edges]))
    none_of(offenders)


def test_imports_run_downwards() -> None:
    files = sources()
    none_of([
        f"{place(files[module])}:{at} ({LAYERS[layer(module)]}) imports {other} ({LAYERS[layer(other)]})"
        for module in files
        for other, at in imports(module).items()
        if layer(other) > layer(module)
    ])  # fmt: skip


def test_the_linear_solver_knows_no_application() -> None:
    def application(module: str) -> bool:
        parts = module.split(".")
        return len(parts) > 2 and parts[1] == "solvers" and parts[2] in APPLICATIONS

    files = sources()
    none_of([
        f"{place(files[module])}:{at} imports {other}"
        for module in files
        for other, at in imports(module).items()
        if module.startswith("deepcd.solvers") and application(other) and not application(module)
    ])  # fmt: skip


def test_files_are_of_readable_length() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in sources().values()}
    none_of([f"{place(path)}: {n} lines, more than {LONGEST_FILE}" for path, n in lengths.items() if n > LONGEST_FILE])


def test_functions_are_of_readable_length() -> None:
    """In `solvers`, docstrings and decorators included; loops of compiled kernels are as long as they are."""
    offenders = []
    for path in sources().values():
        if path.relative_to(ROOT).parts[0] != "solvers" or "kernels" in path.parts:
            continue
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                start = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
                length = (node.end_lineno or start) - start + 1
                if length > LONGEST_FUNCTION:
                    offenders.append(
                        f"{place(path)}:{start} {node.name} has {length} lines, more than {LONGEST_FUNCTION}"
                    )
    none_of(offenders)


def test_devices_are_named_by_the_back_ends_only() -> None:
    """Neither in names nor in imports nor in messages; docstrings and comments may explain."""
    offenders = []
    for path in sources().values():
        if path.is_relative_to(ROOT / "solvers" / "backends"):
            continue
        texts = {id(text) for _, _, text in documented(path)}
        for node in ast.walk(tree(path)):
            words: list[object] = []
            if isinstance(node, ast.Constant) and id(node) not in texts:
                words = [node.value]
            elif isinstance(node, ast.ImportFrom):
                words = [node.module, *(alias.name for alias in node.names)]
            elif isinstance(node, ast.alias):
                words = [node.name, node.asname]
            else:
                words = [getattr(node, field, None) for field in ("id", "attr", "arg", "name", "module")]
            named = [word for word in words if isinstance(word, str) and DEVICES.search(word)]
            if named and not isinstance(node, ast.alias):
                offenders.append(f"{place(path)}:{getattr(node, 'lineno', 0)} {min(named, key=len)[:70]!r}")
    none_of(list(dict.fromkeys(offenders)))


def indent(row: str) -> int:
    return len(row) - len(row.lstrip())


def test_docstring_entries_are_sentences_of_their_own() -> None:
    """An entry that begins with "Of" can be read only together with the name above it."""
    offenders = []
    for path in sources().values():
        for _, name, text in documented(path):
            rows = str(text.value).split("\n")
            for i, row in enumerate(rows):
                # An entry, not a sentence that goes on: it is indented below its name.
                above = rows[i - 1] if i else ""
                if re.match(r"\s*Of ", row) and above.strip() and indent(row) > indent(above):
                    offenders.append(f"{place(path)}:{text.lineno + i} ({name}) {row.strip()[:60]}")
    none_of(offenders)


def is_public(name: str) -> bool:
    return not name.startswith("_")


def test_public_functions_document_what_they_take() -> None:
    """Every parameter of a public function whose docstring has a section "Parameters" stands in it."""
    offenders = []
    for path in sources().values():
        for node, name, text in documented(path):
            if not isinstance(node, ast.FunctionDef) or not is_public(name):
                continue
            match = re.search(
                r"\n\s*Parameters\n\s*-+\n(.*?)(\n\s*\n\s*[A-Z]\w+\n\s*---|\Z)", str(text.value), re.DOTALL
            )
            if match is None or "{options}" in match[1]:  # which stand in one place and are put in
                continue
            told = {word for row in match[1].split("\n") for word in re.findall(r"\w+", row.split(" : ")[0])}
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            missing = [arg.arg for arg in arguments if arg.arg not in told | {"self", "cls"} and is_public(arg.arg)]
            if missing:
                offenders.append(f"{place(path)}:{node.lineno} {name} leaves out {', '.join(missing)}")
    none_of(offenders)
