"""Runs of the command `predict` for tests, and what they wrote."""

import argparse
import json

import cv2
import numpy as np
from PIL import Image

from posedistill.commands import predict as predict_cli


def predict(*arguments):
    """The exit code of the command with these arguments."""
    parser = argparse.ArgumentParser()
    predict_cli.add_arguments(parser)
    return predict_cli.run(parser.parse_args([str(argument) for argument in arguments]))


def results(out):
    """The persons in keypoints.json."""
    return json.loads((out / "keypoints.json").read_text())["annotations"]


def images(out):
    """The records of pictures or frames in keypoints.json."""
    return json.loads((out / "keypoints.json").read_text())["images"]


def make_pictures(folder):
    """A folder of three pictures of 80 × 60 pixels, two of them with the same stem."""
    folder.mkdir()
    for i, name in enumerate(("a.jpg", "a.png", "b.jpg")):
        coarse = np.random.default_rng(i).integers(0, 256, (6, 8, 3), np.uint8)
        Image.fromarray(cv2.resize(coarse, (80, 60))).save(folder / name)
    return folder
