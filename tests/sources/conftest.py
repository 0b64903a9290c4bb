from coco_fixtures import annotation, picture, settings, shared, write_coco  # noqa: F401
