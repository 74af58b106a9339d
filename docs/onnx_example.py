"""Translate an image with an exported generator: python onnx_example.py MODEL.onnx IN OUT."""

import json
import os
import sys

import numpy as np
from PIL import Image, ImageOps

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # it reports to its maker otherwise
import onnxruntime

model, source, target = sys.argv[1:]
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
facts = json.loads(session.get_modelmeta().custom_metadata_map["gancompress"])
mode = {"grey": "L", "rgba": "RGBA"}.get(facts.get("inputs", {}).get("image"), "RGB")
pixels = np.atleast_3d(ImageOps.exif_transpose(Image.open(source)).convert(mode))
height, width, _ = pixels.shape
below, right = -height % facts["stride"], -width % facts["stride"]
x = np.pad(pixels, ((0, below), (0, right), (0, 0)), mode="reflect")[None]
if facts.get("type") != "uint8":  # a file exported without --uint8 takes (N, C, H, W) in [-1, 1]
    x = x.transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1
(y,) = session.run(None, {session.get_inputs()[0].name: x})
if facts.get("type") != "uint8":
    y = ((y.transpose(0, 2, 3, 1) + 1) * 127.5).round().clip(0, 255).astype(np.uint8)
Image.fromarray(y[0, :height, :width, ... if y.shape[3] > 1 else 0]).save(target)
