"""Which frames and which questions a step sees.

Everything random here is a function of (seed, epoch, frame), never of a generator that runs along: a resumed
run and a run with other loader processes draw exactly the same.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from traffic_vlm.processing.bdd100k.answers import answer_class

SMALLEST_GROUP = 30
"""A phrasing with fewer rows than this (a typing slip, say) is balanced with its whole family."""
UNMOVED = 1 / 3
"""How often a frame is shown as it is and not as one of its copies, which all show things larger."""
LARGEST_LOSS_WEIGHT = 4.0


class QuestionWeights:
    """Draws K questions of a frame so that answers and families are balanced over the data set.

    A row of family f whose answer has frequency p in its group (the rows of f asked in the same words, of
    frames with things pasted in, of joined frames or of others: else a seam would tell what to answer) has
    the weight `share[f] / mass[f] * p ** -balance[f]`, where `mass[f]` normalises the family to its share.
    Both count a row as often as its frame is shown so (`draw_chances`): copies are asked less than frames.
    K rows of a frame are drawn by systematic sampling with probabilities proportional to the weights (Madow
    1949), so that K is fixed and no row comes twice. What the fixed K distorts, such as a rare answer that
    would have to be drawn more than once, goes into a loss weight: weight over inclusion probability, cut at
        4.

    Args:
        rows: The frames' rows; each holds `questions`, and `pasted` or `joined` if it shows parts of others.
        balance: Exponent for families not in `family_balance`.
        family_balance: Exponents of single families.
        family_share: Shares of single families; 1 for the others.
        chances: `(rows,)` how often each row's frame is drawn; None draws all alike.
    """

    def __init__(
        self,
        rows: Iterable[dict[str, Any]],
        balance: float = 0.75,
        family_balance: dict[str, float] | None = None,
        family_share: dict[str, float] | None = None,
        chances: np.ndarray | None = None,
    ) -> None:
        family_balance, family_share = family_balance or {}, family_share or {}
        asked = [
            [(q["family"], q["question"].lower(), made_of(row), answer_key(q)) for q in row["questions"]]
            for row in rows
        ]
        chances = np.ones(len(asked)) if chances is None else chances
        wording = Counter(entry[:3] for row in asked for entry in row)

        def group(family: str, question: str, parts: str) -> tuple[str, str, str]:
            is_large = wording[family, question, parts] >= SMALLEST_GROUP
            return family, question if is_large else "", parts

        answers: dict[tuple[str, str, str], dict[str, float]] = defaultdict(lambda: defaultdict(float))
        for row, chance in zip(asked, chances.tolist(), strict=True):
            for *asked_as, answer in row:
                answers[group(*asked_as)][answer] += chance

        def raw(family: str, question: str, parts: str, answer: str) -> float:
            counts = answers[group(family, question, parts)]
            return (counts[answer] / sum(counts.values())) ** -family_balance.get(family, balance)

        self.weights = [np.array([raw(*entry) for entry in row]) for row in asked]
        mass: dict[str, float] = defaultdict(float)
        for row, weights, chance in zip(asked, self.weights, chances, strict=True):
            for (family, *_), weight in zip(row, weights, strict=True):
                mass[family] += weight * chance
        for row, weights in zip(asked, self.weights, strict=True):
            weights *= [family_share.get(family, 1.0) / mass[family] for family, *_ in row]
        totals = np.array([weights.sum() for weights in self.weights])
        some = np.array([len(weights) > 0 for weights in self.weights])
        self.mean_total = float(np.average(totals[some], weights=chances[some]))

    def draw(
        self, frame: int, count: int, rng: np.random.Generator, factors: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draws questions of one frame.

        Args:
            frame: Its index.
            count: How many (K); a frame with fewer repeats some, with the loss weight shared.
            rng: Source of randomness.
            factors: What the rows' weights are multiplied by, 0 for those that may not be drawn; None is 1.

        Returns:
            Row indices `(count,)` and their loss weights `(count,)`.
        """
        weights = self.weights[frame] * (1.0 if factors is None else factors)
        if not weights.any():  # only families without a share are asked of this frame
            return np.resize(np.arange(len(weights)), count), np.zeros(count)
        candidates = np.flatnonzero(weights)
        target = weights[candidates] * (count / self.mean_total)
        if len(candidates) <= count:
            repeats = np.resize(np.arange(len(candidates)), count)
            times = np.bincount(repeats, minlength=len(candidates))
            return candidates[repeats], np.minimum(target / times, LARGEST_LOSS_WEIGHT)[repeats]
        inclusion = inclusion_probabilities(weights[candidates], count)
        order = rng.permutation(len(candidates))
        edges = np.cumsum(inclusion[order])
        picks = np.searchsorted(edges, rng.random() + np.arange(count), side="right")
        chosen = order[np.minimum(picks, len(order) - 1)]
        return candidates[chosen], np.minimum(target[chosen] / inclusion[chosen], LARGEST_LOSS_WEIGHT)


def draw_chances(frame_of_row: np.ndarray) -> np.ndarray:
    """How often each row is drawn while its frame is drawn once: a third of the time the frame, else a copy.

    Args:
        frame_of_row: `(rows,)` which frame a packed row shows; copies share the number and follow it.

    Returns:
        `(rows,)`, adding up to 1 over the rows of a frame.
    """
    rows_of_frame = np.bincount(frame_of_row)[frame_of_row]
    chances = np.where(rows_of_frame == 1, 1.0, (1 - UNMOVED) / np.maximum(rows_of_frame - 1, 1))
    first = np.unique(frame_of_row, return_index=True)[1]
    chances[first] = np.where(rows_of_frame[first] == 1, 1.0, UNMOVED)
    return chances


def made_of(row: dict[str, Any]) -> str:
    """Whether a frame shows parts of others: "pasted", "joined" or ""."""
    return next((kind for kind in ("pasted", "joined") if row.get(kind)), "")


def answer_key(question: dict[str, Any]) -> str:
    """What counts as the same answer for balancing: the decision of a yes/no answer, else its class.

    All boxes are one class: as many as there are, they would leave "There is none." hardly a draw.
    """
    answer = answer_class(question["answer"])
    decision = answer.split(",")[0].rstrip(".")
    decided = decision in ("Yes", "No", "Safe", "Not safe") and question["family"] != "move_forward"
    return decision if decided else answer


def inclusion_probabilities(weights: np.ndarray, count: int) -> np.ndarray:
    """Probabilities proportional to the weights, none above 1, that add up to `count`.

    Args:
        weights: `(n,)`, positive, n > count.
        count: Rows to draw.
    """
    probabilities = np.zeros(len(weights))
    certain = np.zeros(len(weights), dtype=bool)
    while True:
        rest = count - certain.sum()
        probabilities = np.where(certain, 1.0, weights / weights[~certain].sum() * rest)
        over = probabilities > 1.0
        if not over.any():
            return probabilities
        certain |= over


def frame_weights(rows: Iterable[dict[str, Any]], family: str, exponent: float) -> np.ndarray:
    """How often frames are drawn when the rare answers of one family shall come more often.

    Args:
        rows: The frames' rows; each holds `questions`.
        family: Whose answers count. A frame without such a question has the weight 1.
        exponent: A frame whose answer has frequency p weighs `p ** -exponent`.

    Returns:
        `(rows,)`.
    """
    answers = [next((q["answer"] for q in row["questions"] if q["family"] == family), None) for row in rows]
    counts = Counter(answer for answer in answers if answer is not None)
    return np.array(
        [1.0 if answer is None else (counts[answer] / counts.total()) ** -exponent for answer in answers]
    )


class FrameBatches:
    """Batches of frame indices, the same on every machine, from any step on.

    Each epoch is drawn from (seed, epoch); batches run over the epoch's end, so that none is short. A copy
    of a frame stands for it: an epoch draws every frame once, as it is or as a copy, or more and fewer in
    proportion to `weights`.

    Args:
        frame_of_row: `(rows,)` which frame a packed row shows; copies share the number and follow it.
        batch_size: Frames a batch, over all processes.
        seed: The run's seed.
        weights: `(rows,)` how often a row's frame is drawn against the others; None draws all alike.
    """

    def __init__(
        self, frame_of_row: np.ndarray, batch_size: int, seed: int, weights: np.ndarray | None = None
    ) -> None:
        self.batch_size, self.seed = batch_size, seed
        order = np.argsort(frame_of_row, kind="stable")
        self.copies = np.split(order, np.flatnonzero(np.diff(frame_of_row[order])) + 1)
        self.num_frames = len(self.copies)
        shares = np.ones(self.num_frames)
        if weights is not None:
            shares = np.array([weights[copies[0]] for copies in self.copies])
        self.times = shares / shares.mean()

    def epoch(self, epoch: int) -> np.ndarray:
        """Row indices `(num_frames,)` of one epoch, in its order."""
        rng = np.random.default_rng((self.seed, epoch))
        # Systematic sampling (Madow 1949): frame i comes times[i] times on average, rounded down or up.
        edges = np.cumsum(self.times)
        ticks = rng.random() + np.arange(self.num_frames)
        frames = np.minimum(np.searchsorted(edges, ticks, side="right"), self.num_frames - 1)
        return rng.permutation(np.array([self._pick(self.copies[frame], rng) for frame in frames]))

    def _pick(self, copies: np.ndarray, rng: np.random.Generator) -> int:
        """One row of a frame: the frame itself or one of its copies."""
        if len(copies) == 1 or rng.random() < UNMOVED:
            return copies[0]
        return rng.choice(copies[1:])

    def from_step(self, step: int) -> Iterator[tuple[int, np.ndarray]]:
        """Yields (step, row indices `(batch_size,)`) from a step on, without end."""
        position = step * self.batch_size
        epoch, offset = divmod(position, self.num_frames)
        waiting = self.epoch(epoch)[offset:]
        while True:
            while len(waiting) < self.batch_size:
                epoch += 1
                waiting = np.concatenate([waiting, self.epoch(epoch)])
            yield step, waiting[: self.batch_size]
            waiting = waiting[self.batch_size :]
            step += 1
