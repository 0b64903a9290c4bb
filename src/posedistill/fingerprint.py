"""A hash of the code that decides a training's result, so that only a change of that code trains again."""

import ast
import hashlib
from pathlib import Path

PACKAGE = "posedistill"
_SOURCE = Path(__file__).parent

# Code that trainings use but that cannot change their result: it reads settings, writes files, shows progress.
NEUTRAL = (
    "errors",
    "files",
    "params",
    "params_check",
    "params_sections",
    "project",
    "training.checkpoints",
    "fingerprint",
)

# What looks at the validation set.
VALIDATING = ("evaluation", "training.validation")


def code_hash(*modules: str, without: tuple[str, ...] = ()) -> str:
    """SHA-256 over the syntax trees (comments and docstrings do not count) of `modules`, such as "training.stage1", and
    of all modules of this package that they import, at their top or inside a function; `without` and what is in it
    left out."""
    digest = hashlib.sha256()
    for module in sorted(import_closure(*modules, without=without)):
        if module not in NEUTRAL:
            digest.update(f"{module}\n{_tree(module)}\n".encode())
    return digest.hexdigest()


def import_closure(*modules: str, without: tuple[str, ...] = ()) -> set[str]:
    """The modules of this package (named without it) that `modules` import, directly or not, and themselves."""
    found: set[str] = set()
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        if module in found or _file(module) is None or any(f"{module}.".startswith(f"{name}.") for name in without):
            continue
        found.add(module)
        waiting += _imports(module)
    return found


def _file(module: str) -> Path | None:
    path = _SOURCE.joinpath(*module.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def _imports(module: str) -> list[str]:
    file = _file(module)
    assert file is not None
    names = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    inside = [name.removeprefix(f"{PACKAGE}.") for name in names if name.startswith(f"{PACKAGE}.")]
    # A module's parent packages run too.
    return [".".join(name.split(".")[: i + 1]) for name in inside for i in range(name.count(".") + 1)]


def _tree(module: str) -> str:
    file = _file(module)
    assert file is not None
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return ast.dump(tree)
