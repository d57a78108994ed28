"""Eight-bit weights for an ONNX export, and what they cost in answers."""

import logging
import shutil
import tempfile
from pathlib import Path
from typing import Any

from .session import GRAPHS, Session

# Left in float32: the stem's convolution has no fast eight-bit kernel on CPUs.
QUANTIZED = ["MatMul", "Gemm"]


def quantize(folder: str | Path, output: str | Path) -> Path:
    """Store the matrices of an ONNX export in eight bits; activations are rounded as they come.

    Args:
        folder: What `export(..., format="onnx")` wrote.
        output: Another folder, for the smaller export.

    Returns:
        `output`.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    folder, output = Path(folder), Path(output)
    logging.getLogger().addFilter(_no_advice)
    output.mkdir(parents=True, exist_ok=True)
    (output / "export.json").unlink(missing_ok=True)  # written last: whoever finds it has everything
    for path in folder.iterdir():
        if path.is_file() and path.suffix != ".onnx" and path.name != "export.json":
            shutil.copyfile(path, output / path.name)
    for name in GRAPHS:
        graph = onnx.load(folder / f"{name}.onnx")
        del graph.graph.value_info[:]  # shapes noted by the exporter, which transposed weights no longer have
        with tempfile.TemporaryDirectory() as scratch:
            plain = Path(scratch) / "graph.onnx"
            onnx.save(graph, plain)
            # Seven bits and one scale a channel: processors without VNNI instructions overflow on eight.
            quantize_dynamic(
                plain,
                output / f"{name}.onnx",
                op_types_to_quantize=QUANTIZED,
                per_channel=True,
                reduce_range=True,
                weight_type=QuantType.QInt8,
            )
    shutil.copyfile(folder / "export.json", output / "export.json")
    return output


def _no_advice(record: logging.LogRecord) -> bool:
    """Drops onnxruntime's advice to optimise first: the exporter has."""
    return "run pre-processing before quantization" not in record.getMessage()


def compare(
    folder: str | Path, other: str | Path, dataset: str | Path, split: str = "tune", frames: int = 100
) -> dict[str, Any]:
    """Ask two exports the same questions of a data set.

    Args:
        folder: One export, such as the float one.
        other: The other, such as the eight-bit one.
        dataset: Folder of a built data set.
        split: Its split. Not the one that results are reported on.
        frames: How many frames at most.

    Returns:
        `frames`, `questions`, `agreement` (the share of questions with the same decision), `accuracy` and
        `other_accuracy`, and `change`, the difference of the two; each with `mean` and `interval`, the
        95% bootstrap interval by frame.
    """
    import pandas as pd
    from tqdm import tqdm
    from traffic_vlm.evaluation.grounding import mean_with_interval
    from traffic_vlm.evaluation.metrics import as_table, decide
    from traffic_vlm.evaluation.predict import open_frames

    rows = open_frames(dataset, split)
    sessions = {"prediction": Session(folder), "other": Session(other)}
    answers = []
    for index in tqdm(range(min(frames, len(rows))), desc="asking", unit="frame"):
        row = rows[index]
        asked = [question["question"] for question in row["questions"]]
        found = {
            name: [result["answer"] for result in session.ask(session.look(row["image"]), asked)]
            for name, session in sessions.items()
        }
        answers += [
            {
                "image_id": row["image_id"],
                **{name: question[name] for name in ("question", "answer", "family")},
                **{name: found[name][position] for name in found},
            }
            for position, question in enumerate(row["questions"])
        ]
    table = pd.DataFrame(answers)
    first = decide(as_table(table))
    second = decide(as_table(table.assign(prediction=table["other"])))
    names = first["image_id"].tolist()
    right, other_right = first["correct"].to_numpy(float), second["correct"].to_numpy(float)
    same = (first["decision"] == second["decision"]).to_numpy(float)
    return {
        "frames": table["image_id"].nunique(),
        "questions": len(table),
        "agreement": mean_with_interval(same, names),
        "accuracy": mean_with_interval(right, names),
        "other_accuracy": mean_with_interval(other_right, names),
        "change": mean_with_interval(other_right - right, names),
    }
