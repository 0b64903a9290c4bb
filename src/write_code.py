"""Write code/<notebook>.txt, the functions that each notebook uses with their hashes:  python src/write_code.py"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # the code beside this file, installed or not

from posedistill.pipeline.code import main

if __name__ == "__main__":
    sys.exit(main())
