"""What two joined frames are asked, both of them decide together."""

from copy import deepcopy
from dataclasses import asdict

import datasets
import numpy as np
import pytest
from drawn_frames import BLUE, row, thing
from PIL import Image
from traffic_vlm.processing.bdd100k.families import FAMILIES, ask_all
from traffic_vlm.training.joining import ASKED, Partners, joined
from traffic_vlm.training.moving import draw_window, moved_copy, scene_of
from traffic_vlm.training.packing import DataError, copies_by_kind, open_packed, pack_split

BUS, RIDER = thing("bus", 0.05, 0.4, 0.2, 0.7), thing("rider", 0.8, 0.4, 0.9, 0.7)


def frame(name, *objects, weather="clear", **changes):
    """A drawn frame, by another name and in other weather; its questions asked anew."""
    labels = {**row(*objects), "image_id": name, "weather": weather, **changes}
    labels["questions"] = [asdict(question) for question in ask_all(scene_of(labels), seed=0).rows]
    return labels


def answers(labels):
    return {question["family"]: question["answer"] for question in labels["questions"]}


def test_partners_share_time_and_weather_and_are_another_frame():
    frames = [frame("a"), frame("b"), frame("rain", weather="rainy"), frame("night", timeofday="night")]
    frames += [frame("unknown", weather=None), frame("things", objects=None)]
    found, rng = Partners(datasets.Dataset.from_list(frames)), np.random.default_rng(0)
    assert {found.draw(0, frames[0], rng)["image_id"] for _ in range(30)} == {"b"}
    assert not any(found.draw(2 + index, other, rng) for index, other in enumerate(frames[2:5]))


@pytest.mark.parametrize("seed", range(20))
def test_a_joined_frame_shows_and_says_what_its_halves_do(seed):
    """A bus at the left of one frame, a rider at the right of the other: both seen, or both cut away."""
    one, other = frame("a", BUS), frame("b", RIDER)
    picture, changed = joined(one["image"], one, other, np.random.default_rng(seed))
    pixels = np.asarray(picture)
    kinds = {thing["category"] for thing in changed["objects"]}
    assert kinds in ({"bus", "rider"}, set())
    assert (pixels[:, :100] == (0, 0, 255)).all(-1).any() == ("bus" in kinds)
    assert (pixels[:, 220:] == 255).all(-1).any() == ("rider" in kinds)
    assert all(
        np.allclose(thing["box"], {"bus": BUS, "rider": RIDER}[thing["category"]]["box"])
        for thing in changed["objects"]
    )
    said = answers(moved_copy(picture, changed, 0.0, np.random.default_rng(0))[1])
    assert said["presence_bus"].startswith("Yes" if "bus" in kinds else "No")
    assert said["presence_rider"].startswith("Yes" if "rider" in kinds else "No")
    assert said["presence_truck"].startswith("No")
    assert said["weather"] == answers(one)["weather"]
    assert {FAMILIES[family].group for family in said} <= ASKED
    assert changed["joined"]
    assert changed["drivable"] is None


def test_a_thing_that_the_seam_cuts_ends_there_and_an_edge_is_not_asked_about():
    wide = thing("truck", 0.1, 0.4, 0.6, 0.7)
    asked = set()
    for seed in range(60):
        _, changed = joined(row()["image"], frame("a", wide), frame("b"), np.random.default_rng(seed))
        asks = "presence_truck" in answers(changed)
        for left in changed["objects"]:
            width = left["box"][2] - left["box"][0]
            assert left["truncated"] == (width < 0.499)
            assert asks == (width >= 0.25 * 0.5)
            asked.add(asks)
    assert asked == {True, False}


def test_what_only_one_half_knows_is_not_asked():
    """A person too small to be asked about in one frame may be the only one in the whole."""
    small = thing("pedestrian", 0.02, 0.5, 0.025, 0.51)
    assert "presence_pedestrian" not in answers(frame("b", small))
    _, changed = joined(row()["image"], frame("a"), frame("b", small), np.random.default_rng(0))
    assert "presence_pedestrian" not in answers(changed)
    assert "presence_bus" in answers(changed)


def test_what_seam_and_window_leave_of_a_thing_together_counts():
    whole, seen = thing("truck", 0.1, 0.4, 0.9, 0.7), set()
    one, other = frame("a", whole), frame("b")
    for seed in range(60):
        rng = np.random.default_rng(seed)
        picture, changed = joined(one["image"], one, other, rng)
        left, top, right, bottom = draw_window(0.5, deepcopy(rng))
        x1, y1, x2, y2 = changed["objects"][0]["box"]
        width, height = max(0, min(x2, right) - max(x1, left)), max(0, min(y2, bottom) - max(y1, top))
        share = width * height / (0.8 * 0.3)
        moved = moved_copy(picture, changed, 0.5, rng)[1]
        assert ("presence_truck" in answers(moved)) == (not 0 < share < 0.25), seed
        assert not any("left" in thing for thing in moved["objects"])
        seen.add((share < 0.25, width * height / ((x2 - x1) * (y2 - y1)) < 0.25))
    assert (True, False) in seen, "the window alone would have let it through"


@pytest.mark.parametrize(
    ("variants", "paste", "join"), [(9, 0.33, 0.22), (4, 0, 0), (3, 0.5, 0.5), (5, 0.3, 0.7)]
)
def test_there_are_as_many_copies_as_wanted(variants, paste, join):
    kinds = copies_by_kind(variants, paste, join)
    assert len(kinds) == variants
    assert abs(kinds.count("joined") - variants * join) < 1
    assert abs(kinds.count("pasted") - variants * paste) < 1


def packed(folder, *frames, **options):
    """The rows that a data set of these frames is packed as."""
    (folder / "set/data").mkdir(parents=True)
    table = datasets.Dataset.from_list(list(frames)).cast_column("image", datasets.Image())
    table.to_parquet(folder / "set/data/train-00000-of-00001.parquet")
    pack_split(folder / "set", "train", folder / "packed", (72, 128), **options)
    return list(open_packed(folder / "packed", "train").rows)


def test_the_wanted_copies_are_joined(tmp_path):
    rows = packed(tmp_path, frame("a", BUS), frame("b", RIDER), frame("c"), variants=4, join=0.5)
    assert [row.get("joined", False) for row in rows] == [False, False, False, True, True] * 3


def test_frames_of_unknown_weather_cannot_be_joined(tmp_path):
    with pytest.raises(DataError, match=r"nothing can be joined: .* Set data.join=0"):
        packed(tmp_path, frame("a", weather=None), frame("b", weather=None), variants=2, join=1)


@pytest.mark.parametrize("seed", range(4))
def test_halves_of_other_sizes_are_brought_to_one(seed):
    other = {**frame("b", RIDER), "image": Image.new("RGB", (64, 36), BLUE)}
    picture, _ = joined(row()["image"], frame("a"), other, np.random.default_rng(seed))
    blue = (np.asarray(picture) == BLUE).all(-1)
    assert (blue == blue[0]).all(), "from top to bottom"
    assert 0.3 <= blue[0].mean() <= 0.7
    assert blue[0][0] != blue[0][-1]
