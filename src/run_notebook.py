"""Run the notebook of one pipeline stage and write its report:  python src/run_notebook.py STAGE

STAGE is a stage of dvc.yaml, evaluate@stage1 for one of a matrix. The notebook gets only the settings that the stage
lists there.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # the code beside this file, installed or not

from posedistill.pipeline.stage import main

if __name__ == "__main__":
    sys.exit(main())
