"""What two joined frames are asked, both of them decide together."""

from dataclasses import asdict

import datasets
import numpy as np
import pytest
from drawn_frames import row, thing
from PIL import Image
from traffic_vlm.processing.bdd100k.families import FAMILIES, ask_all
from traffic_vlm.training.joining import ASKED, Partners, joined
from traffic_vlm.training.moving import moved_copy, scene_of
from traffic_vlm.training.packing import copies_by_kind, open_packed, pack_split

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
    drawn = [found.draw(frames[0], rng) for _ in range(30)]
    assert {other["image_id"] for other in drawn if other} == {"b"}
    assert None in drawn, "itself is no partner"
    assert not any(found.draw(other, rng) for other in frames[2:])


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


def test_copies_of_each_kind_are_as_many_as_the_shares_say(tmp_path):
    assert copies_by_kind(9, 0.33, 0.22) == ["moved"] * 4 + ["joined"] * 2 + ["pasted"] * 3
    assert copies_by_kind(4, 0, 0) == ["moved"] * 4
    frames = datasets.Dataset.from_list([frame("a", BUS), frame("b", RIDER), frame("c")])
    (tmp_path / "set/data").mkdir(parents=True)
    frames = frames.cast_column("image", datasets.Image())
    frames.to_parquet(tmp_path / "set/data/train-00000-of-00001.parquet")
    pack_split(tmp_path / "set", "train", tmp_path / "packed", (72, 128), variants=4, join=0.5)
    rows = list(open_packed(tmp_path / "packed", "train").rows)
    kinds = [row.get("joined", False) for row in rows]
    assert len(rows) == 15
    assert not any(kinds[copy] for copy in range(15) if copy % 5 < 3)
    assert sum(kinds) >= 2


def test_halves_of_other_sizes_are_brought_to_one():
    other = {**frame("b", RIDER), "image": Image.new("RGB", (64, 36))}
    picture, _ = joined(row()["image"], frame("a"), other, np.random.default_rng(1))
    assert picture.size == row()["image"].size
