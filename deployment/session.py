"""Answers from an exported folder with ONNX Runtime and NumPy: no PyTorch, no model code.

    python -m traffic_vlm.deployment.session EXPORT --image frame.jpg --text "Is the left lane clear?"

A frame is looked at once (`look`), then any number of questions are asked about it (`ask`).
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]
GRAPHS = ("encoder", "prefill", "decode")
SETTINGS = ("format", "dtype", "grid", "confidence_temperature", "abstain_threshold")
# As in the tokenizer and the pipeline, which need not be installed here.
FIRST_LOCATION_ID, NUM_LOCATIONS, LOCATION_TOLERANCE = 4, 1024, 41
PLACES = ("Ahead", "On the left", "On the right")


class Session:
    """An exported checkpoint, ready to answer.

    Args:
        folder: What `scripts/export.py` wrote.
        threads: How many threads to compute with; 0 leaves it to ONNX Runtime.

    Raises:
        FileNotFoundError: If a part of the export is missing.
        ValueError: If a graph or `export.json` is damaged.
    """

    def __init__(self, folder: str | Path, threads: int = 0):
        from transformers import AutoProcessor

        self.folder = Path(folder)
        path = self.folder / "export.json"
        if not path.is_file():
            raise FileNotFoundError(
                f"{folder}: no export here (export.json is missing); make one with scripts/export.py."
            )
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            self.settings: dict[str, Any] = {name: told[name] for name in SETTINGS}
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{path}: damaged; run scripts/export.py again.") from error
        opener = open_onnx if self.settings["format"] == "onnx" else open_torch_export
        self.graphs = {name: opener(self.folder, name, threads) for name in GRAPHS}
        self.processor = AutoProcessor.from_pretrained(self.folder, trust_remote_code=True)

    def look(self, image: Any) -> Arrays:
        """Encode a frame: a path, an address, a Pillow picture or an array.

        Returns:
            `image_keys` and `image_values`, each `(layers, 1, heads, patches, head_dim)`.
        """
        pixels = self.processor.image_processor([image], return_tensors="np")["pixel_values"]
        return self.graphs["encoder"]({"pixel_values": pixels})

    def ask(self, seen: Arrays, questions: Sequence[str], max_new_tokens: int = 64) -> list[dict[str, Any]]:
        """Answer questions about a frame that was looked at.

        Args:
            seen: What `look` returned.
            questions: One or more questions.
            max_new_tokens: Most tokens of an answer.

        Returns:
            One dictionary a question: `question`, `answer`, `confidence`, `abstained`, and `evidence_map`
            `(grid_h, grid_w)`, which sums to 1.
        """
        tokens, log_probs, evidence = self.generate(seen, questions, max_new_tokens)
        decode = self.processor.tokenizer.decode
        results = []
        for question, row, chosen, place in zip(questions, tokens, log_probs, evidence, strict=True):
            confidence = float(np.exp(chosen[: self.decision_length(row)].sum()))
            results.append(
                {
                    "question": question,
                    "answer": decode(row.tolist(), skip_special_tokens=True).strip(),
                    "confidence": confidence,
                    "abstained": confidence < self.settings["abstain_threshold"],
                    "evidence_map": place.reshape(self.settings["grid"]),
                }
            )
        return results

    def generate(
        self, seen: Arrays, questions: Sequence[str], max_new_tokens: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Greedy answers.

        Returns:
            Tokens `(rows, steps)`, padded behind `<eos>`; the log-probability of each; evidence
            `(rows, patches)`.
        """
        text = self.processor(text=list(questions), return_tensors="np")
        ids, mask = (np.asarray(text[name], dtype=np.int64) for name in ("input_ids", "attention_mask"))
        step = self.graphs["prefill"]({"input_ids": ids, "attention_mask": mask, **seen})
        evidence, tokenizer = step["evidence"], self.processor.tokenizer
        done = np.zeros(len(mask), dtype=bool)
        tokens, log_probs = [], []
        while True:
            token = np.where(done, tokenizer.pad_token_id, step["logits"].argmax(axis=-1)).astype(np.int64)
            tokens.append(token)
            log_probs.append(log_prob_of(token, step["logits"], self.settings["confidence_temperature"]))
            done |= token == tokenizer.eos_token_id
            if done.all() or len(tokens) >= max_new_tokens:
                return np.stack(tokens, axis=1), np.stack(log_probs, axis=1), evidence
            mask = np.concatenate([mask, np.ones_like(mask[:, :1])], axis=1)
            past = {"past_keys": step["keys"], "past_values": step["values"]}
            step = self.graphs["decode"](
                {"input_ids": token[:, None], "attention_mask": mask, **seen, **past}
            )

    def decision_length(self, row: np.ndarray) -> int:
        """How many tokens of an answer are its decision: up to the first comma, unless a place stands before
        it, full stop or end."""
        tokenizer = self.processor.tokenizer
        comma, stop = (tokenizer(mark, add_special_tokens=False)["input_ids"][0] for mark in (",", "."))
        for step in np.flatnonzero(
            np.isin(row, [tokenizer.pad_token_id, tokenizer.eos_token_id, comma, stop])
        ):
            before = tokenizer.decode(row[:step].tolist(), skip_special_tokens=True).strip()
            if row[step] != comma or before not in PLACES:
                return max(int(step), 1)
        return len(row)


def log_prob_of(tokens: np.ndarray, logits: np.ndarray, temperature: float) -> np.ndarray:
    """Log-probability of each token; of a location token, that of all coordinates within the tolerance.

    Args:
        tokens: `(rows,)`.
        logits: `(rows, vocab_size)`.
        temperature: Fitted on held-out frames.

    Returns:
        `(rows,)`.
    """
    scaled = logits.astype(np.float64) / temperature
    scaled -= scaled.max(axis=-1, keepdims=True)
    log_probs = scaled - np.log(np.exp(scaled).sum(axis=-1, keepdims=True))
    result = np.take_along_axis(log_probs, tokens[:, None], axis=-1)[:, 0]
    for row, token in enumerate(tokens):
        place = int(token) - FIRST_LOCATION_ID
        if 0 <= place < NUM_LOCATIONS:
            low = FIRST_LOCATION_ID + max(place - LOCATION_TOLERANCE, 0)
            high = FIRST_LOCATION_ID + min(place + LOCATION_TOLERANCE + 1, NUM_LOCATIONS)
            result[row] = np.log(np.clip(np.exp(log_probs[row, low:high]).sum(), 1e-12, 1))
    return result


def open_onnx(folder: Path, name: str, threads: int) -> Callable[[Mapping[str, np.ndarray]], Arrays]:
    """One graph in ONNX Runtime, as a function from arrays to arrays."""
    import onnxruntime

    path = folder / f"{name}.onnx"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: this graph of the export is missing; run scripts/export.py again.")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the library's own classes share no narrower one
        raise ValueError(f"{path}: this graph is damaged; run scripts/export.py again.") from error
    outputs = [value.name for value in session.get_outputs()]
    return lambda feeds: dict(zip(outputs, session.run(None, dict(feeds)), strict=True))


def open_torch_export(folder: Path, name: str, threads: int) -> Callable[[Mapping[str, np.ndarray]], Arrays]:
    """One `torch.export` program, as a function from arrays to arrays.

    Numbers travel as float32, which holds every bfloat16 exactly.
    """
    import torch

    dtype = getattr(torch, json.loads((folder / "export.json").read_text(encoding="utf-8"))["dtype"])
    module = torch.export.load(folder / f"{name}.pt2").module()

    def run(feeds: Mapping[str, np.ndarray]) -> Arrays:
        tensors = {key: torch.from_numpy(np.ascontiguousarray(value)) for key, value in feeds.items()}
        typed = {
            key: value.to(dtype) if value.is_floating_point() else value for key, value in tensors.items()
        }
        with torch.no_grad():
            return {key: value.float().numpy() for key, value in module(**typed).items()}

    return run


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line, ask, print; 2 when something given is unusable."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="what scripts/export.py wrote")
    parser.add_argument("--image", required=True, metavar="F", help="picture: a path or an address")
    parser.add_argument(
        "--text", action="append", required=True, metavar="Q", help="question; may be repeated"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    options = parser.parse_args(arguments)
    try:
        session = Session(options.folder)
        results = session.ask(session.look(options.image), options.text)
    except (OSError, ValueError, ImportError) as error:
        print(f"error: {(str(error).splitlines() or [type(error).__name__])[0]}", file=sys.stderr)
        return 2
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(encoding="utf-8")  # what is redirected on Windows has another encoding
    for result in results:
        result["evidence_map"] = result["evidence_map"].round(5).tolist()
        if not options.json:
            note = ", better not relied upon" if result["abstained"] else ""
            print(f"Q: {result['question']}\nA: {result['answer']}  ({result['confidence']:.0%} sure{note})")
    if options.json:
        print(json.dumps(results, indent=2, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
