"""Keep the code files under `deps` of dvc.yaml in step with what each stage's notebook imports.

    python scripts/pipeline_deps.py          say what is missing or superfluous, exit 1 if anything is
    python scripts/pipeline_deps.py --write  rewrite the lists

A stage depends on the modules that its notebook imports, directly or not, at the top of a module or inside a function,
and on the runner. So a change of the code runs exactly the stages that use it.
"""

import ast
import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from posedistill.fingerprint import import_closure  # noqa: E402
from posedistill.params import read_settings  # noqa: E402

RUNNER = "src/run_notebook.py"


def notebook_modules(notebook: Path) -> list[str]:
    """Modules of the package that a notebook's cells import, without the package's name: training.stage1, params, …"""
    names: list[str] = []
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] != "code":
            continue
        for node in ast.walk(ast.parse("".join(cell["source"]))):
            if isinstance(node, ast.Import):
                names += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    inside = [name.removeprefix("posedistill.") for name in names if name.startswith("posedistill.")]
    return [".".join(name.split(".")[: i + 1]) for name in inside for i in range(name.count(".") + 1)]


def needed(notebook: Path) -> list[str]:
    """The code files of a notebook's stage, sorted."""
    files = {RUNNER, "src/posedistill/__init__.py"}
    for module in import_closure(*notebook_modules(notebook)):
        path = Path("src/posedistill", *module.split("."))
        file = path.with_suffix(".py")
        files.add(str(file if (ROOT / file).is_file() else path / "__init__.py"))
    return sorted(files)


def stages(text: str) -> dict[str, dict]:
    """Name → entry of all stages of a dvc.yaml."""
    return read_settings(text)["stages"]


def notebook_of(entry: dict) -> Path:
    return ROOT / next(dep for dep in entry["deps"] if dep.endswith(".ipynb"))


def is_code(dep: str) -> bool:
    return dep.startswith("src/")


def differences(pipeline: Path = ROOT / "dvc.yaml") -> list[str]:
    """One line for each code file that a stage lacks or has for nothing."""
    found = []
    for name, entry in stages(str(pipeline)).items():
        if not notebook_of(entry).is_file():
            found.append(f"{name}: {notebook_of(entry)} is not there")
            continue
        declared, wanted = {dep for dep in entry["deps"] if is_code(dep)}, set(needed(notebook_of(entry)))
        found += [f"{name}: missing {file}" for file in sorted(wanted - declared)]
        found += [f"{name}: superfluous {file}" for file in sorted(declared - wanted)]
    return found


def rewritten(pipeline: Path = ROOT / "dvc.yaml") -> str:
    """The text of dvc.yaml with the code files of each stage replaced; all else stays as it is, comments too."""
    entries = stages(str(pipeline))
    lines: list[str] = []
    stage = ""
    in_deps = False
    for line in pipeline.read_text(encoding="utf-8").splitlines():
        if match := re.fullmatch(r"  (\w+):", line):
            stage, in_deps = match[1], False
        if in_deps and not line.startswith("      - "):
            notebook = notebook_of(entries[stage])
            if notebook.is_file():
                lines += [f"      - {file}" for file in needed(notebook)]
            in_deps = False
        if in_deps and is_code(line.strip().removeprefix("- ")):
            continue
        lines.append(line)
        in_deps = in_deps or line == "    deps:"
    return "\n".join(lines) + "\n"


def main() -> int:
    if "--write" in sys.argv[1:]:
        (ROOT / "dvc.yaml").write_text(rewritten(), encoding="utf-8")
    for line in differences():
        print(line)
    return 1 if differences() else 0


if __name__ == "__main__":
    sys.exit(main())
