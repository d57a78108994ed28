"""One folder with everything that can be said about a checkpoint, or about a file of predictions.

```
OUT/predictions.parquet        one row a question, what the model said
OUT/predictions-VIEW.parquet   the same questions about shuffled, grey, mirrored, ... pictures
OUT/report.json, report.md     every number; the same for people
OUT/*.png                      figures
```

`predict_views` asks the model, `score` reads the tables it leaves; `python scripts/evaluate.py` does one
after the other.
"""

from __future__ import annotations

import runpy
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # `python -m evaluation.evaluator`, before imports that may need an extra
    runpy.run_path(str(Path(__file__).parents[1] / "scripts" / "evaluate.py"), run_name="__main__")

import pandas as pd

from . import baselines, calibration
from .alignment import align, without_copies
from .asking import clear, optional, predict_views
from .command import REPORT, add_inputs, new_parser, processes, run_command
from .metrics import as_table, as_text, check_same_questions
from .predict import DatasetError, load, open_frames, save
from .scoring import score, write_report


def evaluate_checkpoint(
    checkpoint: Path,
    dataset: Path,
    split: str,
    output: Path,
    most_frames: int | None = None,
    constrained: bool = False,
    mirror: bool = False,
) -> dict[str, Any] | None:
    """Predict and score; arguments and errors as in `predict_views` and `score`.

    Returns:
        The report on the main process, `None` on others.
    """
    start = time.perf_counter()
    state = processes()
    predict_views(checkpoint, dataset, split, output, most_frames, constrained, mirror)
    if not state.is_main_process:
        return None
    averaged = ", averaged over mirrored frames" if mirror else ""
    result = score(output, f"{checkpoint.name} on {split}{averaged}")
    print(f"{time.perf_counter() - start:.0f} s", file=sys.stderr)
    return result


def evaluate_predictions(
    predictions: Path, output: Path, dataset: Path | None = None, split: str = "val"
) -> dict[str, Any] | None:
    """Score a file of predictions of any model, or again the folder of an evaluation.

    Args:
        predictions: Parquet, CSV, JSON or JSON lines; with a data set it needs image_id, question and
            prediction, without one also family and answer. The output's own `predictions.parquet` is scored
            again, with the views and the grounding beside it.
        output: folder of the report.
        dataset: the data set whose questions were answered; adds labels, checks that each is answered once,
            and its training split adds the baselines that learn from it.
        split: its split.

    Returns:
        The report with `alignment`: how many predictions were missing, extra (with a data set) and duplicate
        (`None` where no column `question` tells). `None` on other processes than the first.

    Raises:
        PredictionError: if the predictions cannot be scored.
        DatasetError: if a file cannot be read.
    """
    if not processes().is_main_process:
        return None
    table, train, own = load(predictions), None, output / "predictions.parquet"
    again = predictions.resolve() == own.resolve()
    counts: Mapping[str, int | None]
    if dataset is not None:
        table, counts = align(table, open_frames(dataset, split))
        table, train = as_table(table), optional(dataset, "train")
    else:
        table, counts = _each_once(as_table(table))
    shuffled = output / "predictions-shuffled.parquet"
    if not again:
        clear(output, keep=predictions)
    elif shuffled.is_file():  # what could not be scored with the views does not take the place of what can
        check_same_questions(table, as_table(load(shuffled)))
    save(table, own)
    if train is not None:
        save(baselines.question_rows(train), output / baselines.TRAINING_QUESTIONS)
    result = score(output, predictions.stem)
    result["alignment"] = counts
    write_report(result, output)
    return result


def _each_once(table: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, int | None]]:
    """Predictions without copies, and how many went: `None` where no column `question` tells them apart."""
    texts = table["question"].map(as_text) if "question" in table else pd.Series("", index=table.index)
    if (texts == "").any():
        return table, {"duplicate": None}
    key = ["image_id", "family", "question", *(c for c in ("question_index",) if c in table)]
    table, copies = without_copies(table.assign(question=texts), key)
    return table, {"duplicate": copies}


def main(arguments: list[str] | None = None, description: str | None = __doc__) -> int:
    """The command line of scripts/evaluate.py.

    Args:
        arguments: by default those of the process.
        description: shown by `--help`.

    Returns:
        0, or 2 after one line that says what was wrong.
    """
    parser = new_parser(description)
    add_inputs(parser, dataset_needed=False)
    parser.add_argument(
        "--predictions", type=Path, metavar="FILE", help="score these instead of asking a model"
    )
    parser.add_argument(
        "--output", type=Path, default=REPORT, help="folder of the report (default: %(default)s)"
    )
    parser.add_argument("--frames", type=int, metavar="N", help="only the first N frames of each split")
    parser.add_argument("--constrained", action="store_true", help="choose among the family's answers")
    parser.add_argument(
        "--mirror", action="store_true", help="average every answer with that to the mirrored frame"
    )
    parser.add_argument(
        "--write-calibration",
        action="store_true",
        help="write temperature and threshold, fitted on the tuning split, into the checkpoint's config.json",
    )
    args = parser.parse_args(arguments)
    if args.frames is not None and args.frames < 1:
        parser.error("--frames must be at least 1")
    asks = {name: getattr(args, name) for name in ("frames", "constrained", "mirror", "write_calibration")}
    if args.predictions and any(asks.values()):
        name = next(name for name, value in asks.items() if value).replace("_", "-")
        parser.error(f"--{name} is for asking a model; --predictions are scored as they are")
    other = next((name for name in ("frames", "constrained", "mirror") if asks[name]), None)
    if args.write_calibration and other:
        parser.error(
            f"--write-calibration is for answers as users get them, to all frames: leave out --{other}"
        )

    def work() -> str | None:
        if args.predictions:
            scored = evaluate_predictions(args.predictions, args.output, args.dataset, args.split)
            return _say(scored, args.output) if scored else None
        if args.dataset is None:
            raise DatasetError("give --dataset (and --checkpoint), or --predictions")
        result = evaluate_checkpoint(
            args.checkpoint, args.dataset, args.split, args.output, args.frames, args.constrained, args.mirror
        )
        if result is None:
            return None
        written = calibration.write(result["calibration"], args.checkpoint) if args.write_calibration else ""
        return _say(result, args.output) + written

    return run_command(work)


def _say(result: dict[str, Any], output: Path) -> str:
    return f"{output / 'report.md'}: {result['verdict']['sentence']}"
