"""A tiny release in each of the three label formats, drawn by the tests."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

MINE = [[0, 720], [1280, 720], [720, 360], [560, 360]]
SIDE = [[720, 360], [1280, 720], [1280, 500]]


def picture(value: int = 90, size: tuple[int, int] = (160, 90)) -> bytes:
    noise = np.random.default_rng(value).integers(0, 255, (size[1], size[0], 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "JPEG")
    return buffer.getvalue()


def write_pictures(root: Path, split: str, names: list[str]) -> None:
    folder = root / "images" / "100k" / split
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        (folder / name).write_bytes(picture(number))


def box(category: str, x1: float, y1: float, x2: float, y2: float, **attributes: Any) -> dict[str, Any]:
    return {
        "category": category,
        "box2d": {"x1": x1, "y1": y1, "x2": x2, "y2": y2},
        **({"attributes": attributes} if attributes else {}),
    }


ATTRIBUTES = {"weather": "rainy", "timeofday": "night", "scene": "highway"}


def write_2020(root: Path, split: str, frames: list[dict[str, Any]]) -> None:
    folder = root / "labels" / "det_20"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"det_{split}.json").write_text(json.dumps(frames), encoding="utf-8")


def frame_2020(name: str) -> dict[str, Any]:
    labels = [
        box("pedestrian", 100, 300, 140, 420),
        box("motorcycle", 200, 300, 300, 420),
        box("traffic light", 600, 100, 620, 160, trafficLightColor="R"),
    ]
    return {"name": name, "attributes": ATTRIBUTES, "labels": labels}


def frame_2018(name: str) -> dict[str, Any]:
    areas = [("direct", MINE), ("alternative", SIDE)]
    poly = [
        {
            "category": "drivable area",
            "attributes": {"areaType": kind},
            "poly2d": [{"vertices": points, "types": "L" * len(points), "closed": True}],
        }
        for kind, points in areas
    ]
    lane = {
        "category": "lane",
        "attributes": {"laneDirection": "parallel", "laneStyle": "dashed", "laneType": "single white"},
        "poly2d": [{"vertices": [[560, 360], [0, 720]], "types": "LL", "closed": False}],
    }
    labels = [
        box("person", 100, 300, 140, 420),
        box("motor", 200, 300, 300, 420),
        box("traffic light", 600, 100, 620, 160, trafficLightColor="red", occluded=False, truncated=False),
    ]
    return {"name": name, "attributes": ATTRIBUTES, "labels": [*labels, *poly, lane], "timestamp": 10000}


def frame_per_image(name: str) -> dict[str, Any]:
    whole = frame_2018(name)
    areas = {"direct": "area/drivable", "alternative": "area/alternative"}
    objects = []
    for label in whole["labels"]:
        given = label.get("attributes", {})
        if "poly2d" in label:
            points = [[x, y, "L"] for x, y in label["poly2d"][0]["vertices"]]
            kind = areas.get(given.get("areaType"), "lane/single white")
            style = {"direction": "parallel", "style": "dashed"} if kind.startswith("lane") else {}
            objects.append({"category": kind, "attributes": style, "poly2d": points})
        else:
            objects.append(label)
    return {
        "name": Path(name).stem,
        "attributes": ATTRIBUTES,
        "frames": [{"timestamp": 10000, "objects": objects}],
    }
