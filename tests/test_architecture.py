"""The house rules that no reader should check by eye: who imports whom, how long a file may be, what loads where."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "posedistill"

# From the ground up: a room may import itself and what stands before it.
ORDER = (
    (
        "errors",
        "parent",
        "progress",
        "parallel",
        "files",
        "project",
        "params_sections",
        "params",
        "stages",
        "fingerprint",
    ),
    ("keypoints",),
    ("devices",),
    ("synthetic",),
    ("sources",),
    ("data",),
    ("models",),
    ("losses",),
    ("evaluation",),
    ("training",),
    ("export",),
    ("inference",),
    ("reporting",),
    ("analysis",),
    ("audit",),
    ("stress",),
    ("pipeline",),
    ("commands",),
    ("experiments",),
    ("benchmark",),
    ("__main__",),
)
LEVEL = {room: level for level, rooms in enumerate(ORDER) for room in rooms}

# Absent on a bare training machine, so nothing may need them only to be imported.
HEAVY = (
    "dvc",
    "papermill",
    "pycocotools",
    "ruamel",
    "jupyterlab",
    "nbformat",
    "nbconvert",
    "IPython",
    "xtcocotools",
    "orjson",
)

MODULES = sorted(PACKAGE.rglob("*.py"))
LONGEST = 400


def room(path: Path) -> str:
    """`data` for src/posedistill/data/store/arrow.py, `params` for src/posedistill/params.py."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path, top_level_only: bool = False) -> list[str]:
    """Full names of the modules that a file imports, relative imports resolved."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    package = [*path.relative_to(PACKAGE.parent).with_suffix("").parts[:-1]]
    names: list[str] = []
    for node in _outside_functions(tree) if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            names += [f"{module}.{alias.name}" for alias in node.names]
    return names


def _outside_functions(node: ast.AST):
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from _outside_functions(child)


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_every_room_has_its_place():
    assert {room(path) for path in MODULES} - {"__init__"} <= set(LEVEL)


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_rooms_import_only_rooms_above_them(path):
    if room(path) == "__init__":
        return
    own = LEVEL[room(path)]
    for module in imported(path):
        parts = module.split(".")
        if parts[0] == "posedistill" and len(parts) > 1 and parts[1] in LEVEL:
            assert LEVEL[parts[1]] <= own, f"{name(path)} imports {module}, which stands below it"


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_what_a_bare_machine_lacks_is_imported_only_where_it_is_used(path):
    tops = {module.split(".")[0] for module in imported(path, top_level_only=True)}
    assert not tops & set(HEAVY)


def test_everything_imports_without_the_heavy_packages():
    """In a fresh interpreter in which they do not exist."""
    modules = [".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in MODULES]
    modules = [module.removesuffix(".__init__") for module in modules if not module.endswith("__main__")]
    program = (
        "import sys, importlib\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.split('.')[0] in {HEAVY!r}:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        f"for module in {modules!r}:\n"
        "    importlib.import_module(module)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT / "src"
    )
    assert done.returncode == 0, done.stderr


def _own_files(*suffixes: str) -> list[Path]:
    folders = [ROOT / folder for folder in ("src", "tests", "benchmarks", "notebooks", "examples", "recipes", "assets")]
    return sorted(path for folder in folders for path in folder.rglob("*") if path.suffix in suffixes)


@pytest.mark.parametrize("path", _own_files(".py"), ids=name)
def test_files_stay_short(path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= LONGEST, f"{name(path)} has {lines} lines: split it by concern"


def test_nothing_is_left_unfinished():
    words = ["TO" + "DO", "FIX" + "ME", "XX" + "X", "NotImplemented" + "Error", "x" + "fail"]
    found = [
        f"{name(path)}: {word}"
        for path in _own_files(".py", ".md", ".ipynb", ".yaml")
        if ".ipynb_checkpoints" not in path.parts
        for word in words
        if word in path.read_text(encoding="utf-8")
    ]
    assert not found
