"""Decision scores of free-text answers, as a module of the `evaluate` library.

```python
metric = evaluate.load("evaluation/decision_metric")
metric.compute(predictions=["No, a red light."], references=["No, a person is in the way."],
               family=["move_forward"], image_id=["frame-1"])
```
"""

import datasets
import evaluate
from traffic_vlm.evaluation.metrics import family_table

_DESCRIPTION = """
Reads the decision (yes or no, colour, count, lane, reason, ...) out of free text and scores it by family
of questions: accuracy, balanced accuracy and F1 with 95% intervals by frame, beside the commonest answer.
"""
_INPUTS = """Args:
    predictions: answers of a model, as text.
    references: labels, as text.
    family: what kind of question each row asks.
    image_id: which frame each row asks about; intervals are drawn by resampling frames.
    Every row counts: there is no question to tell that one is answered twice.
Returns:
    accuracy, balanced_accuracy and macro_f1 (means over families; the last two need several classes),
    unparsed (number of answers that could not be read) and families (one mapping a family)."""
_CITATION = ""


class DecisionMetric(evaluate.Metric):
    """Accuracy, balanced accuracy and macro-F1 of decisions, by family and as means over families."""

    def _info(self):
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features(
                {"predictions": text, "references": text, "family": text, "image_id": text}
            ),
        )

    def _compute(self, predictions, references, family, image_id):
        keys = ("prediction", "answer", "family", "image_id")
        columns = (predictions, references, family, image_id)
        rows = family_table([dict(zip(keys, row, strict=True)) for row in zip(*columns, strict=True)])
        plain = [row for row in rows if "five-way" not in row["family"]]

        def mean(score):
            values = [row[score] for row in plain if row.get(score) is not None]
            return sum(values) / len(values) if values else None

        return {
            **{score: mean(score) for score in ("accuracy", "balanced_accuracy", "macro_f1")},
            "unparsed": sum(row["unparsed"] for row in plain),
            "families": rows,
        }
