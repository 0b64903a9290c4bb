"""Reports outside the pipeline: the same runner as for the stages, without an entry in dvc.yaml."""

import importlib.util
import sys
import tempfile
from pathlib import Path
from types import ModuleType

from posedistill.errors import UserError


def make_report(root: Path, name: str) -> Path:
    """Run notebooks/<name>.ipynb and write reports/<name>.ipynb, cleaned as the pipeline's reports are."""
    runner = _runner(root)
    report = Path("reports") / f"{name}.ipynb"
    job = runner.Job(name, Path("notebooks") / f"{name}.ipynb", report, {}, ())
    with tempfile.TemporaryDirectory(prefix="kernel-") as runtime:
        runner.prepare_environment(runtime)
        running = runner.checkpoint_folder() / "running" / report.name
        if not runner.execute(job, {}, running, running):
            raise UserError(f"the report {report} was not made; what there is of it: {running}")
    return report


def _runner(root: Path) -> ModuleType:
    """src/run_notebook.py, which is a script of the project and no part of the package."""
    path = root / "src" / "run_notebook.py"
    spec = importlib.util.spec_from_file_location("run_notebook", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise UserError(f"{path}: not there, so reports cannot be made")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module
