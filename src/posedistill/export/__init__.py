"""Handing a model over: ONNX, mmpose-layout checkpoint, model card."""
