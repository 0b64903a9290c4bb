from pathlib import Path

import pytest

from posedistill.stress.sitters import Sitter, make_sitter
from posedistill.synthetic.scene import Studio

BODY = Path(__file__).parents[2] / "assets" / "body"


@pytest.fixture(scope="session")
def body() -> Path:
    return BODY


@pytest.fixture(scope="session")
def sitters() -> list[Sitter]:
    """Four persons: one for each side from which the frame cuts."""
    studio = Studio(BODY)
    return [make_sitter(studio, 3, index) for index in range(4)]
