"""What the model is shown and asked instead of the clean data set: views for baselines and for consistency.

A view maps a frame's index to a picture and a row with questions (`predict.View`); each of these takes one
and gives another. Labels always stay those of the row: swapping pictures leaves the questions and answers
where they were.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageOps
from traffic_vlm.processing.bdd100k.answers import MOVE_FORWARD
from traffic_vlm.processing.bdd100k.decisions import reading
from traffic_vlm.processing.bdd100k.families import FAMILIES
from traffic_vlm.processing.bdd100k.geometry import view as geometry
from traffic_vlm.processing.bdd100k.mirror import mirror_box, mirror_text
from traffic_vlm.processing.bdd100k.phrasings import Phraser
from traffic_vlm.processing.bdd100k.scene import CATEGORIES, Scene, SceneObject

from .predict import View

GREY = (128, 128, 128)
ADVERSARIAL = "presence (adversarial)"
SUFFIXES = ("", "-shuffled", "-mirrored", "-paraphrased", "-forerunner", "-adversarial", "-tune", "-grey")
"""Of the files `predictions{suffix}.parquet` that an evaluation writes; others in its folder are not its."""
ASKED = "asked.json"
"""How the answers in a folder came about: which weights, `constrained`, `mirror`, how many `frames`."""


def group_of(family: str) -> str:
    """The group of a family: "presence" for "presence_car", itself where it is not one of ours."""
    return FAMILIES[family].group if family in FAMILIES else family


def derangement(n: int, seed: int = 0) -> list[int]:
    """A random order of 0..n-1 in which nothing stays in its place: one cycle through all (Sattolo, 1986).

    Args:
        n: how many; 1 cannot be deranged and stays.
        seed: of the random generator.

    Returns:
        The order.
    """
    order, rng = list(range(n)), random.Random(seed)
    for i in range(n - 1, 0, -1):
        j = rng.randrange(i)
        order[i], order[j] = order[j], order[i]
    return order


def shuffled(view: View, num_frames: int, seed: int = 0) -> View:
    """Every question is asked about the picture of another frame."""
    other = derangement(num_frames, seed)
    return lambda index: (view(other[index])[0], view(index)[1])


def mirrored(view: View) -> View:
    """Picture, questions, answers and evidence with left and right exchanged."""

    def mirrored_view(index: int) -> tuple[Image.Image, dict[str, Any]]:
        picture, row = view(index)
        return ImageOps.mirror(picture), {**row, "questions": [_mirrored(q) for q in row["questions"]]}

    return mirrored_view


def _mirrored(question: Mapping[str, Any]) -> dict[str, Any]:
    """A question with left and right exchanged; its family's name stays, so that rows can be matched."""
    return {
        **question,
        "question": mirror_text(question["question"]),
        "answer": mirror_text(question["answer"]),
        "evidence": [list(mirror_box(tuple(box))) for box in question["evidence"] or []],
    }


def paraphrased(view: View, seed: int = 0) -> View:
    """Every question in a phrasing that training never used; families without one are left out."""

    def paraphrased_view(index: int) -> tuple[Image.Image, dict[str, Any]]:
        picture, row = view(index)
        phraser = Phraser(random.Random(f"{seed}/{row['image_id']}/paraphrase"), heldout=True)
        questions = []
        for question in row["questions"]:
            family = FAMILIES.get(question["family"])
            if family is not None:
                text, template = phraser.ask(family.phrasings, family.category, family.side)
                name = f"{question['family']}.{template}"
                questions.append({**question, "question": text, "template": name})
        return picture, {**row, "questions": questions}

    return paraphrased_view


def forerunner(view: View) -> View:
    """*Can I move forward?* about every annotated frame, labelled as an earlier project of this kind did.

    There a light of unknown colour is not red, so that every frame has a label; here such a frame is
    undecidable and not asked about. Only with both readings can numbers be compared.
    """
    phrasings = FAMILIES["move_forward"].phrasings

    def forerunner_view(index: int) -> tuple[Image.Image, dict[str, Any]]:
        picture, row = view(index)
        if row.get("objects") is None:
            return picture, {**row, "questions": []}
        objects = tuple(SceneObject(t["category"], tuple(t["box"]), light=t["light"]) for t in row["objects"])
        name, things = reading(geometry(Scene(str(row["image_id"]), objects=objects)))
        text, template = Phraser(random.Random(f"{row['image_id']}/forerunner")).ask(phrasings)
        asked: dict[str, Any] = {
            "question": text,
            "answer": MOVE_FORWARD[name],
            "family": "move_forward",
            "template": template,
        }
        asked |= {"evidence": [list(thing.box) for thing in things], "rule": f"way ahead: {name}"}
        return picture, {**row, "questions": [asked]}

    return forerunner_view


def edited(view: View, change: Callable[[Image.Image, dict[str, Any], int], Image.Image]) -> View:
    """Every picture changed by a function of picture, row and index."""

    def edited_view(index: int) -> tuple[Image.Image, dict[str, Any]]:
        picture, row = view(index)
        return change(picture, row, index), row

    return edited_view


def companions(frames: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """How often categories occur together.

    Args:
        frames: rows with `objects`; frames without annotation are skipped.

    Returns:
        (categories, categories) counts of frames that hold both, in the order of `CATEGORIES`.
    """
    index = {name: i for i, name in enumerate(CATEGORIES)}
    columns = frames.select_columns(["objects"]) if hasattr(frames, "select_columns") else frames
    together = np.zeros((len(CATEGORIES), len(CATEGORIES)), dtype=np.int64)
    for row in columns:
        if row["objects"] is not None:
            held = sorted({index[t["category"]] for t in row["objects"] if t["category"] in index})
            together[np.ix_(held, held)] += 1
    return together


def adversarial(view: View, together: np.ndarray, most: int = 3) -> View:
    """Presence questions as in POPE's adversarial setting (Li et al., 2023, arXiv:2305.10355).

    Of the categories that a frame does *not* hold, it asks for those that most often accompany what it
    does hold, and for as many that it holds; both from the frame's own presence questions, so that a thing
    too small to be labelled "here" is never asked for.

    Args:
        view: the view to ask about.
        together: from `companions`, counted on training frames.
        most: how many absent categories a frame is asked for.

    Returns:
        The view with those questions alone, their family renamed "presence (adversarial)".
    """
    index = {name: i for i, name in enumerate(CATEGORIES)}
    order = list(CATEGORIES)

    def adversarial_view(index_of_frame: int) -> tuple[Image.Image, dict[str, Any]]:
        picture, row = view(index_of_frame)
        asked = {
            str(FAMILIES[q["family"]].category): q
            for q in row["questions"]
            if q["family"] in FAMILIES and FAMILIES[q["family"]].group == "presence"
        }
        here = [name for name, q in asked.items() if q["answer"].startswith("Yes")]
        pull = Counter(
            {n: int(sum(together[index[n], index[h]] for h in here)) for n in asked if n not in here}
        )
        absent = sorted(pull, key=lambda name: (-pull[name], order.index(name)))[:most] if here else []
        present = here[: len(absent)]
        questions = [{**asked[name], "family": ADVERSARIAL} for name in present + absent]
        return picture, {**row, "questions": questions}

    return adversarial_view
