import json

import pytest
from coco_fixtures import annotation, picture, settings, shared, write_coco  # noqa: F401


@pytest.fixture
def content(tmp_path, write_coco):  # noqa: F811
    """A made-up COCO-WholeBody file's content; its pictures are in tmp_path/images."""
    return write_coco(tmp_path, images=2, persons=3)


@pytest.fixture
def save(tmp_path):
    """save(content) → the annotation file that holds it."""

    def save(content):
        path = tmp_path / "annotations.json"
        path.write_text(json.dumps(content))
        return path

    return save
