"""Rendered frames with their labels written as COCO and as YOLO files, made once for this folder."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from PIL import Image
from traffic_vlm.processing.bdd100k.release import read_scenes
from traffic_vlm.processing.synthetic import render_dataset

NAMES = ["person", "rider", "car", "truck", "bus", "motorcycle", "bicycle", "traffic light", "dog"]


@pytest.fixture(scope="session")
def own(tmp_path_factory) -> Path:
    """`annotations.json` and `frames/` (COCO), `my_yolo_folder` (YOLO); neither marks trains or signs."""
    folder = tmp_path_factory.mktemp("own")
    render_dataset(folder / "release", 12, seed=3)
    (folder / "frames").mkdir()
    for name in ("images", "labels"):
        (folder / "my_yolo_folder" / name).mkdir(parents=True)
    images, annotations = [], []
    scenes = [scene for split in ("train", "val") for scene in read_scenes(folder / "release", split)]
    for scene in scenes:
        file = f"{scene.image_id}.jpg"
        with Image.open(scene.image_path) as image:
            image.convert("RGB").resize((320, 180)).save(folder / "frames" / file)
        shutil.copy(folder / "frames" / file, folder / "my_yolo_folder" / "images" / file)
        images.append({"id": len(images), "file_name": file, "width": 320, "height": 180})
        lines = []
        for thing in scene.objects or ():
            name = {"pedestrian": "person"}.get(thing.category, thing.category)
            if name in NAMES:
                x1, y1, x2, y2 = thing.box
                corner = [x1 * 320, y1 * 180, (x2 - x1) * 320, (y2 - y1) * 180]
                annotations.append(
                    {"image_id": images[-1]["id"], "category_id": NAMES.index(name), "bbox": corner}
                )
                centre = ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1)
                lines.append(" ".join([str(NAMES.index(name)), *(f"{value:.9f}" for value in centre)]))
        label = folder / "my_yolo_folder" / "labels" / f"{scene.image_id}.txt"
        label.write_text("\n".join(lines), encoding="utf-8")
    coco = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for number, name in enumerate(NAMES)],
    }
    (folder / "annotations.json").write_text(json.dumps(coco), encoding="utf-8")
    (folder / "my_yolo_folder" / "data.yaml").write_text(yaml.safe_dump({"names": NAMES}), encoding="utf-8")
    return folder
