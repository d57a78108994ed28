"""What the page asks of the model: answers, and how far each heat map can be believed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image
from traffic_vlm.evaluation.faithfulness import DecisionProbability, curves, random_maps


@dataclass(frozen=True)
class Faithfulness:
    """How an answer fares when the picture is taken away patch by patch, strongest of the map first.

    Attributes:
        kept: Mean probability of the answer's first word while only the strongest patches are shown.
        lost: The same while the strongest patches are blurred.
        chance: `kept - lost` of a map of random numbers.
    """

    kept: float
    lost: float
    chance: float

    @property
    def score(self) -> float:
        """From -1 to 1: how much more the answer rests on what the map shows than on the rest."""
        return self.kept - self.lost


def answer(pipe: Any, frame: Image.Image, questions: list[str]) -> list[dict[str, Any]]:
    """Ask questions about one frame; each result has its `evidence_map`, or None without cross-attention."""
    return pipe(image=frame, question=questions, return_maps=True)


def weigh_maps(
    pipe: Any, frame: Image.Image, results: list[dict[str, Any]]
) -> Iterator[tuple[int, Faithfulness]]:
    """Test the heat map of every answer that has one, one after the other."""
    probability = DecisionProbability(pipe.model, pipe.processor)
    for number, result in enumerate(results):
        if result["evidence_map"] is not None:
            yield number, weigh_map(probability, frame, result["question"], result["evidence_map"])


def weigh_map(probability: Any, frame: Image.Image, question: str, evidence_map: np.ndarray) -> Faithfulness:
    """Delete and insert patches in the map's order, and in a random order for comparison.

    Args:
        probability: Reads the model.
        frame: The picture.
        question: What was asked.
        evidence_map: `(grid_height, grid_width)`.
    """
    shown = probability.processor.image_processor
    # The model looks at no more, and blurring costs by the pixel; resized as it was for the answer.
    small = frame.resize((shown.size["width"], shown.size["height"]), shown.resample, reducing_gap=2.0)
    both = [evidence_map, random_maps(evidence_map.shape)]
    own, chance = (curves(probability, [small], [question], one[None]) for one in both)
    return Faithfulness(
        kept=own["insertion_area"],
        lost=own["deletion_area"],
        chance=chance["insertion_area"] - chance["deletion_area"],
    )
