"""Whole-body keypoints with onnxruntime alone:  python onnx_predict.py student.onnx picture.jpg [x y width height]"""

import json
import sys

import cv2
import numpy as np
import onnxruntime

model, picture, *box = sys.argv[1:]
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
height, width = session.get_inputs()[0].shape[2:]
image = cv2.cvtColor(cv2.imread(picture), cv2.COLOR_BGR2RGB)
x, y, w, h = map(float, box) if box else (0, 0, image.shape[1], image.shape[0])

# The box, padded as in the training and widened to the input's aspect ratio, becomes the input.
metadata = session.get_modelmeta().custom_metadata_map
padding = float(metadata.get("box_padding", 1.25))
pixel = padding * max(w / width, h / height)  # image pixels per input pixel
corner = np.array([x + w / 2, y + h / 2]) - pixel * np.array([width, height]) / 2
matrix = np.array([[1, 0, -corner[0]], [0, 1, -corner[1]]]) / pixel
crop = cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR)
crop = (crop - np.array([123.675, 116.28, 103.53])) / np.array([58.395, 57.12, 57.375])
tensor = crop.transpose(2, 0, 1)[None].astype(np.float32)
simcc_x, simcc_y = session.run(["simcc_x", "simcc_y"], {"input": tensor})  # [1, 133, 2 × width], [1, 133, 2 × height]
keypoints = np.stack([simcc_x[0].argmax(1), simcc_y[0].argmax(1)], axis=1) / 2 * pixel + corner
scores = np.minimum(simcc_x[0].max(1), simcc_y[0].max(1))

confidence = np.full(133, np.nan)  # the probability that a point is right, from the file's calibration: a curve a part
for part, curve in json.loads(metadata.get("calibration", "{}")).get("plain", {}).items():
    part = {"body": slice(0, 17), "foot": slice(17, 23), "face": slice(23, 91), "hand": slice(91, 133)}[part]
    confidence[part] = np.interp(scores[part], *curve)
for number, ((x, y), score, probability) in enumerate(zip(keypoints, scores, confidence)):
    print(f"{number}\t{x:.1f}\t{y:.1f}\t{score:.3f}\t{probability:.3f}")
