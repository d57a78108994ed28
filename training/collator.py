"""One frame, many questions: packed rows become the tensors of a step."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from traffic_vlm.processing.bdd100k.answers import NUMBERS
from traffic_vlm.processing.bdd100k.families import FAMILIES
from traffic_vlm.processing.bdd100k.mirror import mirror_box, mirror_text
from traffic_vlm.processing.bdd100k.phrasings import SLIPS, Phraser
from traffic_vlm.processing.bdd100k.scene import CATEGORIES, UNNAMED
from transformers import PreTrainedTokenizerBase

from .packing import PackedSplit, drivable_grid
from .sampling import QuestionWeights
from .weather import asks_about_weather

PATCH_LABELS = (*CATEGORIES, "red light", "green light", "direct lane", "alternative lane")
"""What the patch head says of each patch, in order."""
IGNORED = -100


@dataclass
class Batch:
    """What one process puts through the network at once.

    Attributes:
        pixel_values: `(frames, 3, height, width)` uint8; the step normalises, which moves a quarter of the
            bytes.
        input_ids: `(frames * K, length)`, padded on the right: prompt, answer, end.
        labels: The same with everything but answer and end set to -100.
        row_weights: `(frames * K,)` float, weight of a row's answer tokens.
        grounding_positions: `(frames * K,)` index of the prompt's last token.
        evidence: `(frames * K, patches)` bool, patches that the row's evidence touches.
        patch_labels: `(frames, patches, len(PATCH_LABELS))` int8: 1 touches, 0 does not, -100 not known.
        keeps_weather: `(frames,)` bool, frames that are asked about their weather or light.
    """

    pixel_values: torch.Tensor
    input_ids: torch.Tensor
    labels: torch.Tensor
    row_weights: torch.Tensor
    grounding_positions: torch.Tensor
    evidence: torch.Tensor
    patch_labels: torch.Tensor
    keeps_weather: torch.Tensor

    def to(self, device: torch.device) -> Batch:
        """The batch on a device."""
        return type(self)(**{name: value.to(device, non_blocking=True) for name, value in vars(self).items()})


class Collator:
    """Packs K questions of each frame onto one encoding of it.

    Args:
        split: The packed frames.
        weights: Draws the questions.
        tokenizer: Writes them as ids.
        grid: `(rows, columns)` of patches.
        questions_per_image: K.
        mirror: Probability of a mirrored frame.
        max_row_tokens: Rows longer than this are drawn in every `long_every`-th step only, so many times as
            often there.
        seed: The run's seed.
        placeholders: `<image>` tokens in front of every prompt, as many as patches for prefix fusion.
        rephrase: Probability that a question is asked in words drawn anew, so that the same frame is not
            always asked in the same words.
        count_smoothing: Probability that a count is taught as one more or one less.
        long_every: See `max_row_tokens`.
    """

    def __init__(
        self,
        split: PackedSplit,
        weights: QuestionWeights,
        tokenizer: PreTrainedTokenizerBase,
        grid: tuple[int, int],
        questions_per_image: int,
        mirror: float,
        max_row_tokens: int,
        seed: int,
        placeholders: int = 0,
        rephrase: float = 0.0,
        count_smoothing: float = 0.0,
        long_every: int = 1,
    ) -> None:
        self.split, self.weights, self.grid, self.seed = split, weights, grid, seed
        self.max_row_tokens, self.rephrase, self.count_smoothing = max_row_tokens, rephrase, count_smoothing
        self.questions_per_image, self.mirror, self.long_every = questions_per_image, mirror, long_every
        self.pad, self.bos, self.eos = tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id
        self.tokenizer = tokenizer
        self.start = [tokenizer.image_token_id] * placeholders + [self.bos]
        self._ids: dict[str, list[int]] = {}
        self.short = [
            np.array([self._length(question) <= max_row_tokens for question in row["questions"]], dtype=bool)
            for row in split.rows
        ]

    def encode(self, text: str) -> list[int]:
        """Ids of a text without special tokens; most texts come again and again, so they are kept."""
        if text not in self._ids:
            self._ids[text] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return self._ids[text]

    def _length(self, question: dict[str, Any]) -> int:
        return len(self.encode(question["question"] + "\n")) + len(self.encode(question["answer"])) + 2

    def __call__(self, step: int, indices: np.ndarray) -> Batch:
        """Makes the batch of some packed rows.

        Args:
            step: The step it is for; with the seed and the row it decides what is drawn.
            indices: `(frames,)` rows of the packed split.
        """
        allow_long = self.allows_long(step)
        frames, sequences, weights, evidence, patch_labels, keeps = [], [], [], [], [], []
        for index in indices:
            rng = np.random.default_rng((self.seed, 1, step, int(index)))
            row = self.split.rows[index]
            flipped = rng.random() < self.mirror
            frame = self.split.frames[index]
            frames.append(frame[:, ::-1] if flipped else frame)
            patch_labels.append(patch_targets(row, self.grid, flipped))
            chosen, loss_weights = self._draw(index, rng, allow_long)
            keeps.append(any(asks_about_weather(row["questions"][q]["family"]) for q in chosen))
            for question, weight in zip(chosen, loss_weights, strict=True):
                asked = row["questions"][question]
                words = self._words(asked, rng, allow_long)
                answer = smoothed_count(asked, self.count_smoothing, rng)
                sequences.append(self._sequence(words, answer, flipped))
                weights.append(weight)
                evidence.append(evidence_patches(asked["evidence"], self.grid, flipped))
        input_ids, labels, positions = self._pad(sequences)
        return Batch(
            pixel_values=torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2),
            input_ids=input_ids,
            labels=labels,
            row_weights=torch.tensor(weights, dtype=torch.float32),
            grounding_positions=positions,
            evidence=torch.from_numpy(np.stack(evidence)),
            patch_labels=torch.from_numpy(np.stack(patch_labels)),
            keeps_weather=torch.tensor(keeps),
        )

    def allows_long(self, step: int) -> bool:
        """Whether rows longer than `max_row_tokens` may be drawn in a step."""
        return step % self.long_every == 0

    def _draw(self, index: int, rng: np.random.Generator, allow_long: bool) -> tuple[np.ndarray, np.ndarray]:
        short, factors = self.short[index], None
        if short.any():  # else its long rows are drawn in every step
            # What waits for the others' turn comes as much oftener in its own.
            factors = np.where(short, 1.0, self.long_every if allow_long else 0.0)
        return self.weights.draw(int(index), self.questions_per_image, rng, factors)

    def _words(self, question: dict[str, Any], rng: np.random.Generator, allow_long: bool) -> str:
        """The question as it stands in the row, or in other words of its family."""
        family = FAMILIES.get(question["family"])
        if not self.rephrase or family is None or rng.random() >= self.rephrase:
            return question["question"]
        phraser = Phraser(random.Random(int(rng.integers(2**62))), slips=SLIPS)
        words, _ = phraser.ask(family.phrasings, family.category, family.side)
        fits = allow_long or self._length({**question, "question": words}) <= self.max_row_tokens
        return words if fits else question["question"]

    def _sequence(self, question: str, answer: str, flipped: bool) -> tuple[list[int], list[int]]:
        texts = (question + "\n", answer)
        prompt, reply = (self.encode(mirror_text(text) if flipped else text) for text in texts)
        return [*self.start, *prompt], [*reply, self.eos]

    def _pad(
        self, sequences: list[tuple[list[int], list[int]]]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        longest = max(len(prompt) + len(answer) for prompt, answer in sequences)
        length = (longest + 7) // 8 * 8  # few different shapes: kernels and compiled graphs are reused
        input_ids = torch.full((len(sequences), length), self.pad)
        labels = torch.full((len(sequences), length), IGNORED)
        for row, (prompt, answer) in enumerate(sequences):
            end = len(prompt) + len(answer)
            input_ids[row, :end] = torch.tensor(prompt + answer)
            labels[row, len(prompt) : end] = torch.tensor(answer)
        positions = torch.tensor([len(prompt) - 1 for prompt, _ in sequences])
        return input_ids, labels, positions


def smoothed_count(question: dict[str, Any], probability: float, rng: np.random.Generator) -> str:
    """The answer that a row teaches: its own or, for counts from one to five, now and then a neighbour's.

    Over many draws that is a soft label of ordered classes (Diaz & Marathe 2019, Soft Labels for Ordinal
    Regression): to be wrong by one is better than to be wrong by four, which single classes do not say.
    *None* stays, since something and nothing are not neighbours.

    Args:
        question: The row's question.
        probability: How often a count is taught as one more or one less.
        rng: Source of randomness; nothing is drawn for other families or probability 0.
    """
    answer = question["answer"]
    if not probability or not question["family"].startswith("count_") or answer not in NUMBERS[1:6]:
        return answer
    number = NUMBERS.index(answer)
    step = (-1, 1)[rng.integers(2)] if rng.random() < probability else 0
    return NUMBERS[max(number + step, 1)]


def box_patches(box: tuple[float, float, float, float], grid: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns of the patches that a box (xyxy, fractions of the frame) touches; at least one
    patch."""
    (x1, y1, x2, y2), (rows, columns) = box, grid
    top, left = min(int(max(y1, 0.0) * rows), rows - 1), min(int(max(x1, 0.0) * columns), columns - 1)
    bottom, right = min(int(np.ceil(y2 * rows)), rows), min(int(np.ceil(x2 * columns)), columns)
    return slice(top, max(bottom, top + 1)), slice(left, max(right, left + 1))


def evidence_patches(boxes: list[Any], grid: tuple[int, int], flipped: bool) -> np.ndarray:
    """Which patches the evidence touches, bool `(rows * columns,)`."""
    touched = np.zeros(grid, dtype=bool)
    for box in boxes:
        touched[box_patches(mirror_box(tuple(box)) if flipped else tuple(box), grid)] = True
    return touched.reshape(-1)


def patch_targets(row: dict[str, Any], grid: tuple[int, int], flipped: bool) -> np.ndarray:
    """What stands in each patch, int8 `(patches, len(PATCH_LABELS))` of 1, 0 and -100 (not known).

    A frame without annotated objects knows nothing of objects, a thing of unknown kind may be any of its
    group, a light without a known colour says nothing of its colour, a frame without a drivable map nothing
    of lanes.
    """
    targets = np.zeros((*grid, len(PATCH_LABELS)), dtype=np.int8)
    if row["objects"] is None:
        targets[..., : PATCH_LABELS.index("direct lane")] = IGNORED
    red, green = PATCH_LABELS.index("red light"), PATCH_LABELS.index("green light")
    # Lights of unknown colour first, so that a known colour in the same patch has the last word.
    for thing in sorted(row["objects"] or [], key=lambda thing: thing["light"] is not None):
        box = tuple(thing["box"])
        where = box_patches(mirror_box(box) if flipped else box, grid)
        if thing["category"] in UNNAMED:
            patches = targets[where]
            members = [CATEGORIES.index(name) for name in UNNAMED[thing["category"]] if name in CATEGORIES]
            patches[..., members] = np.where(patches[..., members] == 1, 1, IGNORED)
            continue
        targets[where][..., CATEGORIES.index(thing["category"])] = 1
        if thing["category"] == "traffic light":
            if thing["light"] is None:
                targets[where][..., [red, green]] = IGNORED
            elif thing["light"] in ("red", "green"):
                targets[where][..., red if thing["light"] == "red" else green] = 1
    lanes = drivable_grid(row)
    start = PATCH_LABELS.index("direct lane")
    if lanes is None:
        targets[..., start:] = IGNORED
    else:
        targets[..., start:] = _lane_patches(lanes[:, ::-1] if flipped else lanes, grid)
    return targets.reshape(-1, len(PATCH_LABELS))


def _lane_patches(lanes: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Whether at least half of a patch is direct or alternative lane, int8 `(rows, columns, 2)`."""
    rows = np.arange(lanes.shape[0]) * grid[0] // lanes.shape[0]
    columns = np.arange(lanes.shape[1]) * grid[1] // lanes.shape[1]
    cells = (rows[:, None] * grid[1] + columns[None, :]).reshape(-1)
    size = np.bincount(cells, minlength=grid[0] * grid[1])
    shares = [
        np.bincount(cells, weights=(lanes == kind).reshape(-1), minlength=len(size)) / size for kind in (0, 1)
    ]
    return (np.stack(shares, axis=-1) >= 0.5).astype(np.int8).reshape(*grid, 2)
