"""Frames drawn from labels, for tests of what is done to frames and labels together."""

from dataclasses import asdict

import numpy as np
from PIL import Image
from traffic_vlm.processing.bdd100k.families import ask_all
from traffic_vlm.training.moving import scene_of

GREY, BLUE = (120, 120, 120), (0, 0, 255)


def thing(category, *box, truncated=False):
    return {"category": category, "box": list(box), "occluded": False, "truncated": truncated, "light": None}


def row(*objects, timeofday="daytime"):
    """A grey frame in which buses are blue and everything else is white, and what is asked about it."""
    pixels = np.full((180, 320, 3), GREY, np.uint8)
    for one in objects:
        x1, y1, x2, y2 = corners(one["box"])
        pixels[y1:y2, x1:x2] = BLUE if one["category"] == "bus" else 255
    labels = {"image_id": "f", "split": "train", "source": "bdd100k", "weather": "clear", "scene": "highway"}
    labels |= {"timeofday": timeofday, "objects": list(objects), "drivable": np.zeros((90, 160), np.uint8)}
    questions = [asdict(question) for question in ask_all(scene_of(labels), seed=0).rows]
    return {**labels, "image": Image.fromarray(pixels), "questions": questions}


def corners(box):
    """A box in pixels of such a frame."""
    return [round(value * side) for value, side in zip(box, (320, 180) * 2, strict=True)]
