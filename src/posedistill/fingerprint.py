"""Fingerprints of code: which functions and classes of this package an entry point uses, and a hash of each.

Reruns follow these hashes, so they must change with anything that can change a result, and with nothing else. The unit
is a top-level definition (function, class, constant): an edit in `logit_loss` concerns the stages that distil, although
the teacher's training reads `label_loss` from the same file. Hashes are taken over syntax trees without docstrings, so
comments and formatting do not count.

References are found statically, and generously: a name counts as used wherever it is read. What the analysis cannot
see are names made at run time (`getattr(module, text)`, `importlib`), which the package therefore avoids in stages.
"""

import ast
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

PACKAGE = "posedistill"
_SOURCE = Path(__file__).parent

# Code that trainings use but that cannot change their result: it reads settings, writes files, shows progress.
NEUTRAL = (
    "errors",
    "files",
    "fingerprint",
    "params",
    "params_sections",
    "parent",
    "progress",
    "project",
    "training.checkpoints",
)

# Code that looks at the validation set during training.
VALIDATING = ("evaluation", "training.validation")

Node = tuple[str, str]  # module without the package's name ("" is the package itself), definition


@dataclass
class _Module:
    """A parsed module. `always` are the statements that run at import without defining a name."""

    definitions: dict[str, list[ast.stmt]] = field(default_factory=dict)
    imports: dict[str, Node | str] = field(default_factory=dict)  # bound name → definition, or module
    always: list[ast.stmt] = field(default_factory=list)


def code_hash(*entries: str, without: tuple[str, ...] = ()) -> str:
    """SHA-256 over the definitions that `entries` use.

    An entry is "training.stage1:distill_stage1", or "training.stage1" for all of a module. The modules `without`, with
    those below them, and NEUTRAL are left out.
    """
    lines = used_code(*entries, without=(*without, *NEUTRAL))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def used_code(*entries: str, notebook: str = "", without: tuple[str, ...] = ()) -> list[str]:
    """Sorted lines "module:definition hash" of all that `entries` and the source text `notebook` use."""
    found = _reachable(entries, notebook, without)
    return sorted(f"{module or PACKAGE}:{name or '(import)'} {_hash(module, name)}" for module, name in found)


def _reachable(entries: Iterable[str], notebook: str, without: tuple[str, ...]) -> set[Node]:
    waiting: list[Node | str] = []
    for entry in entries:
        module, _, name = entry.partition(":")
        if _file(module) is None or (name and name not in _parsed(module).definitions):
            raise ValueError(f"{entry}: no such code in {PACKAGE}")
        waiting.append((module, name) if name else module)
    if notebook:
        waiting += _references(_collected(ast.parse(notebook), "", package=True), "", ast.parse(notebook).body)
    found: set[Node] = set()
    imported: set[str] = set()
    while waiting:
        target = waiting.pop()
        if isinstance(target, str):  # a whole module
            waiting += [(target, name) for name in _parsed(target).definitions]
            target = (target, "")
        module, name = target
        if any(f"{module}.".startswith(f"{one}.") for one in without):
            continue
        if module not in imported:
            imported.add(module)
            waiting += _run_at_import(module)
        if target in found or not _statements(module, name):
            if name:
                waiting += _followed(module, name)
            continue
        found.add(target)
        waiting += _references(_parsed(module), module, _statements(module, name))
    return found


def _run_at_import(module: str) -> list[Node | str]:
    """What importing a module runs besides its definitions: its parent packages and the modules that it imports."""
    parts = module.split(".") if module else []
    parents = [".".join(parts[:i]) for i in range(len(parts))]
    targets = [target if isinstance(target, str) else target[0] for target in _parsed(module).imports.values()]
    return [(one, "") for one in (module, *parents, *targets)]


def _statements(module: str, name: str) -> list[ast.stmt]:
    parsed = _parsed(module)
    return parsed.definitions.get(name, []) if name else parsed.always


def _followed(module: str, name: str) -> list[Node | str]:
    """Where a name leads that a module does not define itself: an import, or the module's own __getattr__."""
    parsed = _parsed(module)
    if name in parsed.definitions:
        return []
    if name in parsed.imports:
        return [parsed.imports[name]]
    return [(module, "__getattr__")] if "__getattr__" in parsed.definitions else []


def _file(module: str) -> Path | None:
    path = _SOURCE.joinpath(*module.split(".")) if module else _SOURCE
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file() and not (module == "" and candidate.name != "__init__.py"):
            return candidate
    return None


def _parsed(module: str) -> _Module:
    file = _file(module)
    if file is None:
        raise ImportError(f"{PACKAGE}.{module} is imported, but there is no such module")
    stat = file.stat()
    return _read(module, file, stat.st_mtime_ns, stat.st_size)


@cache
def _read(module: str, file: Path, mtime: int, size: int) -> _Module:
    return _collected(ast.parse(file.read_text(encoding="utf-8")), module, package=file.name == "__init__.py")


def _collected(tree: ast.Module, module: str, package: bool) -> _Module:
    """The top level of a module, with docstrings removed everywhere."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    found = _Module()
    for statement in tree.body:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            found.imports |= _bound(statement, module, package)
        elif isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.definitions.setdefault(statement.name, []).append(statement)
        elif isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.unparse(statement.test):
            continue
        else:
            names = set(_assigned(statement))
            for name in names:
                found.definitions.setdefault(name, []).append(statement)
            if not names or not isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
                found.always.append(statement)
    return found


def _assigned(statement: ast.stmt) -> Iterator[str]:
    for node in _walked(statement):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def _bound(statement: ast.Import | ast.ImportFrom, module: str, package: bool) -> dict[str, Node | str]:
    """Names that an import binds to code of this package."""
    bound: dict[str, Node | str] = {}
    if isinstance(statement, ast.Import):
        for alias in statement.names:
            if alias.name.split(".")[0] == PACKAGE:
                inside = alias.name.partition(".")[2]
                bound[alias.asname or alias.name] = inside  # a dotted name is never looked up, but it runs at import
                if not alias.asname:
                    bound[PACKAGE] = ""
        return bound
    if statement.level:
        parts = module.split(".")[: len(module.split(".")) - statement.level + package]
        base = ".".join([*parts, *([statement.module] if statement.module else [])])
    elif statement.module and statement.module.split(".")[0] == PACKAGE:
        base = statement.module.partition(".")[2]
    else:
        return bound
    for alias in statement.names:
        inside = f"{base}.{alias.name}" if base else alias.name
        bound[alias.asname or alias.name] = inside if _file(inside) else (base, alias.name)
    return bound


def _walked(node: ast.AST) -> Iterator[ast.AST]:
    """As ast.walk, but without the annotations of functions and local variables: they run nothing."""
    yield node
    for name, value in ast.iter_fields(node):
        annotation = name == "returns" or (name == "annotation" and isinstance(node, ast.arg))
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not annotation:
                yield from _walked(child)


def _references(parsed: _Module, module: str, statements: list[ast.stmt]) -> list[Node | str]:
    """Definitions and modules of this package that some statements of a module name."""
    nodes = [node for statement in statements for node in _walked(statement)]
    imports = dict(parsed.imports)
    package = _file(module) is not None and _file(module).name == "__init__.py"  # type: ignore[union-attr]
    found: list[Node | str] = []
    for node in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            local = _bound(node, module, package)
            imports |= local
            found += [(target, "") for target in local.values() if isinstance(target, str)]
    inner = {id(node.value) for node in nodes if isinstance(node, ast.Attribute)}
    for node in nodes:
        if id(node) in inner or not isinstance(node, ast.Attribute | ast.Name):
            continue
        tail: list[str] = []
        while isinstance(node, ast.Attribute):
            tail.insert(0, node.attr)
            node = node.value
        if isinstance(node, ast.Name):
            found += _resolved(parsed, imports, module, node.id, tail)
    return found


def _resolved(
    parsed: _Module, imports: dict[str, Node | str], module: str, name: str, tail: list[str]
) -> list[Node | str]:
    target = imports.get(name)
    if target is None:
        return [(module, name)] if name in parsed.definitions else []
    while isinstance(target, str):  # a module: go along the attributes to a definition in it
        if not tail:
            return [target]
        attribute, inside = tail.pop(0), _parsed(target)
        below = f"{target}.{attribute}" if target else attribute
        if attribute not in inside.definitions and attribute not in inside.imports and _file(below):
            target = below
        else:
            target = (target, attribute)
    return [target]


def _hash(module: str, name: str) -> str:
    # Unparsed: a tree's dump differs between versions of Python.
    text = "\n".join(ast.unparse(statement) for statement in _statements(module, name))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
