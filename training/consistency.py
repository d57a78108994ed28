"""Opposite questions and mirrored frames side by side, and the loss that holds their answers together.

"Is the left lane clear?" and "Is the left lane blocked?" have opposite answers, and a frame flipped with its
words has the same. So the right answer to one is as likely as the right answer to the other, whatever it is
(the symmetric consistency of Asai & Hajishirzi 2020, section 3.2, on probabilities).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from .collator import IGNORED, Batch, Collator


@dataclass
class PairBatch(Batch):
    """A batch where each frame stands twice, as it is and mirrored, and some questions with their opposite.

    Attributes:
        pairs: `(pairs, 2)` rows whose right answers are equally likely.
    """

    pairs: torch.Tensor


class PairCollator(Collator):
    """Asks K questions of each frame as it is, and the same of the frame mirrored; `data.mirror` has no say.

    A step of `optim.batch_size` frames encodes twice as many.
    """

    def __call__(self, step: int, indices: np.ndarray) -> PairBatch:
        """Makes the batch of some packed rows; see `Collator`."""
        self.opposite: list[list[tuple[int, int]]] = []
        # Both draw the same questions in the same words: all draws come from step and frame.
        self.mirror = 0.0
        straight = super().__call__(step, indices)
        self.mirror = 1.0
        mirrored = super().__call__(step, indices)
        rows = torch.arange(len(straight.input_ids))
        pairs = [torch.stack([rows, rows + len(rows)], dim=1)]
        for frame, places in enumerate(self.opposite):  # of many frames, none
            found = torch.tensor(places, dtype=torch.long).view(-1, 2)
            pairs.append(found + frame * self.questions_per_image)
        return PairBatch(**joined(straight, mirrored, self.pad), pairs=torch.cat(pairs))

    def _draw(self, index: int, rng: np.random.Generator, allow_long: bool) -> tuple[np.ndarray, np.ndarray]:
        chosen, weights = super()._draw(index, rng, allow_long)
        questions = self.split.rows[index]["questions"]
        may_ask = np.ones_like(self.short[index]) if allow_long else self.short[index]
        chosen, weights = with_opposites(questions, chosen, weights, may_ask)
        self.opposite.append(opposites([questions[place] for place in chosen]))
        return chosen, weights


def are_opposite(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two questions of a frame are each other's opposite: one pair, two families."""
    paired = one["pair_id"] is not None and one["pair_id"] == other["pair_id"]
    return paired and one["family"] != other["family"]


def opposites(questions: Sequence[dict[str, Any]]) -> list[tuple[int, int]]:
    """Places of the questions that are each other's opposite."""
    places = range(len(questions))
    return [(i, j) for i in places for j in places[i + 1 :] if are_opposite(questions[i], questions[j])]


def with_opposites(
    questions: Sequence[dict[str, Any]], chosen: np.ndarray, weights: np.ndarray, may_ask: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Puts the opposites of the first half of the drawn questions in the place of the last ones.

    Args:
        questions: All questions of the frame.
        chosen: `(K,)` which of them were drawn.
        weights: `(K,)` their loss weights; an opposite takes its question's.
        may_ask: `(questions,)` bool, those that may be asked in this step.
    """
    half, taken = len(chosen) // 2, set(chosen.tolist())
    found: dict[int, float] = {}
    for question, weight in zip(chosen[:half], weights[:half], strict=True):
        for other in np.flatnonzero(may_ask).tolist():
            if other not in taken and are_opposite(questions[question], questions[other]):
                found[other] = weight
                taken.add(other)
                break
    stay = len(chosen) - len(found)
    return np.array([*chosen[:stay], *found]), np.array([*weights[:stay], *found.values()])


def joined(one: Batch, other: Batch, pad: int) -> dict[str, torch.Tensor]:
    """The fields of two batches one after the other, padded to one length."""
    length = max(one.input_ids.shape[1], other.input_ids.shape[1])
    fillers = {"input_ids": pad, "labels": IGNORED}

    def padded(batch: Batch, name: str) -> torch.Tensor:
        value = getattr(batch, name)
        if name not in fillers:
            return value
        return F.pad(value, (0, length - value.shape[1]), value=fillers[name])

    return {name: torch.cat([padded(one, name), padded(other, name)]) for name in vars(one)}


def consistency_loss(logits: torch.Tensor, labels: torch.Tensor, pairs: torch.Tensor) -> torch.Tensor:
    """Squared difference between the probabilities of the right decisions in paired rows, summed.

    The first token of an answer is its decision.

    Args:
        logits: `(answer tokens, vocab_size)`, in the order of `losses.scored_positions(labels)`.
        labels: `(rows, length)`, -100 where nothing is asked; each row asks something.
        pairs: `(pairs, 2)` rows.

    Returns:
        The sum, a float32 scalar; divide by the number of pairs of the whole batch.
    """
    scored = labels[:, 1:] != IGNORED
    tokens = scored.sum(-1)
    first = tokens.cumsum(0) - tokens
    decisions = labels[:, 1:][scored][first]
    right = logits[first].float().softmax(-1).gather(-1, decisions[:, None]).squeeze(-1)
    return (right[pairs[:, 0]] - right[pairs[:, 1]]).square().sum()
