"""Proof that the picture is needed: how far the question, the frame's attributes or the prior alone get.

For each family, and for each group of families that differ only in category or side, small classifiers are
fitted on balanced training rows and tested on balanced rows of other frames. A family that the question
alone answers better than its commonest answer, by more than three points, leaks. Beside that stands whether
so much is beyond chance: with some hundred tables, the small ones pass three points now and then by luck.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from sklearn.feature_extraction import DictVectorizer
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from .answers import answer_class
from .dataset import Tally, answer_weights, balanced_indices
from .families import FAMILIES

LEAK = 0.03
STANDARD_ERRORS = 3
"""How far above the prior is beyond chance; two would often be reached by luck."""
FRAMES_TO_FIT = 6000
ROWS_TO_FIT, ROWS_TO_TEST = 4000, 4000
ATTRIBUTES = ("weather", "timeofday", "scene")


def statistics(folder: Path, tally: Tally) -> dict[str, Any]:
    """Counts, entropy and weights for each split and family, and the proof.

    Args:
        folder: A data set folder with its shards in `data`.
        tally: The build's counts.

    Returns:
        `splits` -> split -> families; `blind` -> families and groups with their accuracies; `leaking` ->
        names of those more than three points above the prior; `leaking_beyond_chance` -> those among them
        that are also above the prior by more than three standard errors.
    """
    splits = {split: _split(split, tally) for split in sorted(tally.frames)}
    blind = prove(folder)
    leaking = {
        name: row for table in blind["tables"].values() for name, row in table.items() if row["leaking"]
    }
    surely = sorted(name for name, row in leaking.items() if row["beyond_chance"])
    return {"splits": splits, "blind": blind, "leaking": sorted(leaking), "leaking_beyond_chance": surely}


def _split(split: str, tally: Tally) -> dict[str, Any]:
    """One split's families: answers with their counts and weights, entropy, what stayed undecided and why."""
    answers: dict[str, Counter] = defaultdict(Counter)
    undecided: dict[str, dict[str, int]] = defaultdict(dict)
    for (where, family, answer), number in tally.answers.items():
        if where == split:
            answers[family][answer_class(answer)] += number
    for (where, family, reason), number in sorted(tally.undecided.items()):
        if where == split:
            undecided[family][reason] = number
    families = {}
    for name, family in FAMILIES.items():
        counts = dict(sorted(answers[name].items(), key=lambda item: (-item[1], item[0])))
        families[name] = {
            "group": family.group,
            "rows": sum(counts.values()),
            "entropy": round(entropy(counts), 4),
            "commonest": round(max(counts.values(), default=0) / max(1, sum(counts.values())), 4),
            "answers": counts,
            "weights": {answer: round(weight, 4) for answer, weight in answer_weights(counts).items()},
            "undecided": undecided[name],
        }
    return {"frames": tally.frames[split], "families": families}


def entropy(counts: dict[str, int]) -> float:
    """Entropy of an answer distribution in bits."""
    total = sum(counts.values())
    return -sum(n / total * math.log2(n / total) for n in counts.values() if n) + 0.0


def prove(folder: Path) -> dict[str, Any]:
    """Fits and tests the blind baselines.

    Args:
        folder: A data set folder.

    Returns:
        `fitted_on`, `tested_on`, and `tables` with a row for each family and each group: `rows` tested,
        accuracies `prior` (commonest answer of these rows), `question`, `attributes`, the prior's
        `standard_error`, whether the question is `leaking` (more than three points above the prior) and
        whether it is `beyond_chance` (more than three standard errors above it).
    """
    split, fit, test = _halves(folder)
    tables: dict[str, dict[str, Any]] = {"families": {}, "groups": {}}
    groups: dict[str, list[str]] = defaultdict(list)
    for name, family in FAMILIES.items():
        groups[family.group].append(name)
    for name in FAMILIES:
        if name in fit and name in test:
            tables["families"][name] = _baselines(fit[name], test[name])
    for group, members in groups.items():
        mine = [name for name in members if name in fit and name in test]
        if len(mine) > 1:
            rows = [[row for name in mine for row in half[name]] for half in (fit, test)]
            tables["groups"][group] = _baselines(*rows)
    halves = (f"every second frame of {split}", f"the other frames of {split}")
    return {"fitted_on": halves[0], "tested_on": halves[1], "tables": tables}


Row = tuple[str, str, dict[str, str]]
"""Question, answer class, attributes."""


def _halves(folder: Path) -> tuple[str, dict[str, list[Row]], dict[str, list[Row]]]:
    """A split, and its balanced rows by family: of every second frame to fit on, of the others to test on."""
    present = sorted({path.name.split("-")[0] for path in (folder / "data").glob("*.parquet")})
    split = "train" if "train" in present else present[0]
    frames = list(_frames(folder, split))
    return split, _rows(frames[0::2]), _rows(frames[1::2])


def _rows(frames: list[dict[str, Any]]) -> dict[str, list[Row]]:
    families, answers, keys, rows = [], [], [], []
    for frame in frames:
        attributes = {name: frame[name] or "unknown" for name in ATTRIBUTES}
        for row in frame["questions"]:
            families.append(row["family"])
            answers.append(row["answer"])
            keys.append(row["pair_id"] or f"{frame['image_id']}/{row['family']}")
            rows.append((row["question"], answer_class(row["answer"]), attributes))
    chosen: dict[str, list[Row]] = defaultdict(list)
    for index in balanced_indices(families, answers, keys):
        chosen[families[index]].append(rows[index])
    return chosen


def _frames(folder: Path, split: str) -> Iterator[dict[str, Any]]:
    """The first frames of a split, without their pictures."""
    columns = ["image_id", *ATTRIBUTES, "questions"]
    left = FRAMES_TO_FIT
    for path in sorted((folder / "data").glob(f"{split}-*.parquet")):
        for batch in pq.ParquetFile(path).iter_batches(batch_size=200, columns=columns):
            for frame in batch.to_pylist()[:left]:
                yield frame
                left -= 1
            if not left:
                return


def _baselines(fit: list[Row], test: list[Row]) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    fit = [fit[i] for i in rng.permutation(len(fit))[:ROWS_TO_FIT]]
    test = [test[i] for i in rng.permutation(len(test))[:ROWS_TO_TEST]]
    truth = np.array([answer for _, answer, _ in test])
    answers = np.array([answer for _, answer, _ in fit])
    # The commonest answer of the tested rows themselves: the hardest bar that a blind guess can set.
    prior = max(Counter(truth).values()) / len(truth)
    result: dict[str, Any] = {"rows": len(test), "answers": len(set(answers)), "prior": prior}
    texts = [[question.lower() for question, _, _ in half] for half in (fit, test)]
    words = CountVectorizer(ngram_range=(1, 3), token_pattern=r"[\w']+", binary=True)
    result["question"] = _accuracy(words, texts, answers, truth)
    attributes = [[row for _, _, row in half] for half in (fit, test)]
    result["attributes"] = _accuracy(DictVectorizer(), attributes, answers, truth)
    error, excess = math.sqrt(prior * (1 - prior) / len(test)), result["question"] - prior
    result["standard_error"] = error
    result["leaking"] = excess > LEAK
    result["beyond_chance"] = excess > STANDARD_ERRORS * error
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in result.items()}


def _accuracy(vectoriser: Any, halves: list[list[Any]], answers: np.ndarray, truth: np.ndarray) -> float:
    if len(set(answers)) == 1:
        return float(np.mean(truth == answers[0]))
    fitted = vectoriser.fit_transform(halves[0])
    model = LogisticRegression(C=0.3, max_iter=500).fit(fitted, answers)
    return float(np.mean(model.predict(vectoriser.transform(halves[1])) == truth))
