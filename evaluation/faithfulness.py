"""Whether the answer depends on what a map shows: deletion, insertion, and blanked evidence.

Each test changes the picture and reads the probability of the decision that the model gave on the
untouched one. A map that is faithful loses it early when its strongest patches are deleted, and wins it
early when only they are shown; and blanking the evidence must cost more than blanking as much elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image, ImageFilter

from .maps import last_tokens
from .sharing import share_out

if TYPE_CHECKING:
    from .grounding import Boxes

STEPS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0)
BATCH = 16


def blank(picture: Image.Image, boxes: Boxes) -> Image.Image:
    """The picture with boxes replaced by a strongly blurred copy: neither an edge nor a flat colour is left.

    Args:
        picture: the frame.
        boxes: (x1, y1, x2, y2) as fractions of the frame.

    Returns:
        A new picture.
    """
    changed, soft = picture.copy(), _blurred(picture)
    for x1, y1, x2, y2 in boxes:
        area = (
            int(np.floor(x1 * picture.width)),
            int(np.floor(y1 * picture.height)),
            max(int(np.ceil(x2 * picture.width)), int(x1 * picture.width) + 1),
            max(int(np.ceil(y2 * picture.height)), int(y1 * picture.height) + 1),
        )
        changed.paste(soft.crop(area), area[:2])
    return changed


def _blurred(picture: Image.Image) -> Image.Image:
    """A copy without anything to recognise: blurred over a fifth of its height."""
    wide, narrow = (ImageFilter.BoxBlur(picture.height // part) for part in (5, 10))
    return picture.filter(wide).filter(narrow)


def elsewhere(
    boxes: Boxes, rng: np.random.Generator, avoid: Boxes = (), tries: int = 200
) -> list[tuple[float, float, float, float] | None]:
    """Boxes in other places that cover exactly as much: none meets the evidence, nor another moved one.

    Boxes that overlap move together, so that what they cover together stays as large as it was.

    Args:
        boxes: evidence as fractions of the frame.
        rng: random generator.
        avoid: what else is not to be met.
        tries: how many places are tried for each group of overlapping boxes.

    Returns:
        For every box another one of its size, at the same height in the frame where that is possible (a sky
        is easily missed); `None` for those of a group for which there is no room.
    """
    moved: list[tuple[float, float, float, float] | None] = [None] * len(boxes)
    taken = [*boxes, *avoid]
    for group in _overlapping(boxes):
        left, top = (min(boxes[i][side] for i in group) for side in (0, 1))
        right, bottom = (max(boxes[i][side] for i in group) for side in (2, 3))
        for attempt in range(tries):
            dx = float(rng.uniform(-left, max(1 - right, -left)))
            dy = 0.0 if attempt < tries // 2 else float(rng.uniform(-top, max(1 - bottom, -top)))
            places = {
                i: (boxes[i][0] + dx, boxes[i][1] + dy, boxes[i][2] + dx, boxes[i][3] + dy) for i in group
            }
            if not any(_meet(place, box) for place in places.values() for box in taken):
                for i, place in places.items():
                    moved[i] = place
                taken += places.values()
                break
    return moved


def _overlapping(boxes: Boxes) -> list[list[int]]:
    """Indices of the boxes, in groups that overlap directly or through each other."""
    groups: list[list[int]] = []
    for i, box in enumerate(boxes):
        met = [group for group in groups if any(_meet(box, boxes[j]) for j in group)]
        groups = [group for group in groups if group not in met] + [[*(j for g in met for j in g), i]]
    return groups


def _meet(a: Sequence[float], b: Sequence[float]) -> bool:
    return min(a[2], b[2]) > max(a[0], b[0]) and min(a[3], b[3]) > max(a[1], b[1])


def show_patches(picture: Image.Image, shown: np.ndarray, soft: Image.Image | None = None) -> Image.Image:
    """The picture with only some patches, the others taken from a strongly blurred copy.

    Args:
        picture: the frame.
        shown: (rows, columns) bool.
        soft: the blurred copy, where the caller has it already.

    Returns:
        A new picture.
    """
    mask = Image.fromarray(np.asarray(shown).astype(np.uint8) * 255).resize(
        picture.size, Image.Resampling.NEAREST
    )
    return Image.composite(picture, soft or _blurred(picture), mask)


class DecisionProbability:
    """Probability of the first word that a model says about an untouched picture, for changed pictures.

    The first word carries the decision in this project's answers ("No, a red light.").

    Args:
        model, processor: the checkpoint.
    """

    def __init__(self, model: Any, processor: Any):
        self.model, self.processor = model, processor

    @torch.inference_mode()
    def first_words(self, pictures: Sequence[Image.Image], questions: Sequence[str]) -> torch.Tensor:
        """Probabilities of the first token, (rows, vocab_size), one picture a row; made on all processes."""

        def work(start: int) -> torch.Tensor:
            end = start + BATCH
            inputs = dict(self.processor(text=list(questions[start:end]), return_tensors="pt"))
            inputs |= dict(self.processor.image_processor(list(pictures[start:end]), return_tensors="pt"))
            inputs["image_index"] = torch.arange(len(inputs["input_ids"]))
            inputs = {name: value.to(self.model.device) for name, value in inputs.items()}
            last = last_tokens(inputs)
            out = self.model(**inputs, use_cache=False)
            return out.logits[torch.arange(len(last)), last].float().softmax(-1).cpu()

        return torch.cat(share_out(work, range(0, len(questions), BATCH)))

    def of(
        self, pictures: Sequence[Image.Image], questions: Sequence[str], words: torch.Tensor
    ) -> np.ndarray:
        """Probability of given first tokens (rows,), one picture and one question a row."""
        return self.first_words(pictures, questions).gather(1, words[:, None])[:, 0].double().numpy()


def evidence_drop(
    probability: DecisionProbability,
    pictures: Sequence[Image.Image],
    questions: Sequence[str],
    evidence: Sequence[Boxes],
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """What blanking the evidence costs, against blanking as much elsewhere.

    Args:
        probability: reads the model.
        pictures, questions, evidence: one of each a row; evidence boxes are not empty.
        seed: of the places elsewhere.

    Returns:
        row (index of the rows whose whole evidence found room elsewhere), clean, evidence and elsewhere: the
        probability of the clean decision with nothing, the evidence, or as much elsewhere blanked.
    """
    rng = np.random.default_rng(seed)
    others = {}
    for i, boxes in enumerate(evidence):
        places = [place for place in elsewhere(boxes, rng) if place is not None]
        if len(places) == len(boxes):
            others[i] = places
    rows = list(others)
    asked = [questions[i] for i in rows]
    first = probability.first_words([pictures[i] for i in rows], asked)
    words = first.argmax(-1)
    return {
        "row": np.array(rows, dtype=int),
        "clean": first.gather(1, words[:, None])[:, 0].double().numpy(),
        "evidence": probability.of([blank(pictures[i], evidence[i]) for i in rows], asked, words),
        "elsewhere": probability.of([blank(pictures[i], others[i]) for i in rows], asked, words),
    }


def curves(
    probability: DecisionProbability,
    pictures: Sequence[Image.Image],
    questions: Sequence[str],
    maps: np.ndarray,
    steps: Sequence[float] = STEPS,
) -> dict[str, Any]:
    """Deletion and insertion curves (Petsiuk et al., 2018, arXiv:1806.07421).

    Args:
        probability: reads the model.
        pictures, questions: one a row.
        maps: (rows, height, width); the strongest patches are deleted, or shown, first.
        steps: parts of the patches.

    Returns:
        steps, deletion and insertion (mean probability of the clean decision at each step), and the areas
        under them: a faithful map has a small deletion and a large insertion area.
    """
    found = _by_row(probability, pictures, questions, maps, steps)
    result: dict[str, Any] = {"steps": list(steps)}
    for name, values in found.items():
        result[name] = values.mean(1).round(6).tolist()
        result[f"{name}_area"] = round(float(np.trapezoid(result[name], steps)), 6)
    return result


def areas(
    probability: DecisionProbability, picture: Image.Image, question: str, maps: np.ndarray
) -> list[dict[str, float]]:
    """Deletion and insertion areas of several maps of one answer.

    Args:
        probability: reads the model.
        picture, question: what was asked.
        maps: (maps, height, width).

    Returns:
        deletion and insertion of every map.
    """
    found = _by_row(probability, [picture] * len(maps), [question] * len(maps), maps, STEPS)
    under = {name: np.trapezoid(values, STEPS, axis=0) for name, values in found.items()}
    return [{name: round(float(values[i]), 6) for name, values in under.items()} for i in range(len(maps))]


def _by_row(
    probability: DecisionProbability,
    pictures: Sequence[Image.Image],
    questions: Sequence[str],
    maps: np.ndarray,
    steps: Sequence[float],
) -> dict[str, np.ndarray]:
    """Probability of every row's clean decision, (steps, rows), under "deletion" and under "insertion"."""
    first = probability.first_words(pictures, questions)
    words = first.argmax(-1)
    soft = [_blurred(picture) for picture in pictures]
    ends = {  # all patches shown, and none
        True: first.gather(1, words[:, None])[:, 0].double().numpy(),
        False: probability.of(soft, questions, words),
    }
    flat = maps.reshape(len(maps), -1)
    rank = np.empty_like(flat, dtype=int)
    np.put_along_axis(rank, np.argsort(-flat, axis=1, kind="stable"), np.arange(flat.shape[1])[None], axis=1)
    found: dict[str, list[np.ndarray]] = {"deletion": [], "insertion": []}
    for step in steps:
        strongest = (rank < round(step * flat.shape[1])).reshape(maps.shape)
        for name, shown in (("deletion", ~strongest), ("insertion", strongest)):
            if shown.all() or not shown.any():
                found[name].append(ends[bool(shown.all())])
            else:
                changed = [show_patches(*three) for three in zip(pictures, shown, soft, strict=True)]
                found[name].append(probability.of(changed, questions, words))
    return {name: np.stack(values) for name, values in found.items()}


def describe(scores: Mapping[str, float]) -> str:
    """Faithfulness in words, as it stands beside every heat map."""
    text = f"deletion {scores['deletion']:.2f}, insertion {scores['insertion']:.2f}"
    return text + (f", mass ratio {scores['ratio']:.1f}" if "ratio" in scores else "")


def random_maps(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Maps that know nothing, for comparison; each sums to 1."""
    maps = np.random.default_rng(seed).random(shape)
    return maps / maps.sum(axis=(-2, -1), keepdims=True)


def patches_of(boxes: Boxes, grid: tuple[int, int]) -> np.ndarray:
    """The map that looks evenly at the evidence and nowhere else: what a perfect pointer would show."""
    from .grounding import touched  # here, because scores need more libraries than `scripts/ask.py` has

    inside = touched(boxes, grid).astype(float)
    return inside / inside.sum()
