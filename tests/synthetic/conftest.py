from pathlib import Path

import pytest

from posedistill.synthetic.scene import Studio

ASSET_DIR = Path(__file__).parents[2] / "assets" / "body"


@pytest.fixture(scope="session")
def asset_dir() -> Path:
    return ASSET_DIR


@pytest.fixture(scope="session")
def studio(asset_dir) -> Studio:
    return Studio(asset_dir)
