"""The stage `code`: which code does each notebook use?  python -m posedistill.pipeline.code

Writes code/<notebook>.txt: a line for each function, class and constant that the notebook and the runner use, with a
hash of its syntax tree. Each stage depends on the file of its notebook, so a changed function reruns the stages that
use it, and a changed comment reruns none.
"""

import json
from pathlib import Path

from posedistill import project
from posedistill.errors import UserError, exits_with_line
from posedistill.files import write_atomic
from posedistill.fingerprint import used_code
from posedistill.params import load_params

FOLDER = Path("code")
RUNNER = "pipeline.stage:run"


def notebook_source(path: Path) -> str:
    """The code cells of a notebook as one text. UserError if it cannot be read."""
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not a notebook that can be read ({error})") from error


def write_code_files() -> None:
    """Write code/<notebook>.txt for every notebook in notebooks/."""
    for notebook in sorted(Path("notebooks").glob("*.ipynb")):
        try:
            lines = used_code(RUNNER, notebook=notebook_source(notebook))
        except SyntaxError as error:
            raise UserError(f"{error.filename or notebook}, line {error.lineno}: {error.msg}") from error
        except ImportError as error:
            raise UserError(f"{notebook}: {error}") from error
        write_atomic(FOLDER / f"{notebook.stem}.txt", "\n".join(lines) + "\n")


@exits_with_line
def main() -> int:
    project.enter()
    load_params("params.yaml")  # bad settings fail before anything is trained
    write_code_files()
    return 0
