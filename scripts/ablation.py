"""Run the experiment "ablation" (posedistill.pipeline.experiments) and write its report; --help lists the options."""

import sys

from posedistill.pipeline.experiments.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["ablation", *sys.argv[1:]]))
