"""Run the experiment "seeds" (posedistill.pipeline.experiments) and write its report; --help lists the options."""

import sys

from posedistill.pipeline.experiments.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["seeds", *sys.argv[1:]]))
