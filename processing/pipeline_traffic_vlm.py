"""`pipeline("traffic-question-answering")`: answers with confidence, abstention, evidence and alternatives.

An answer is a decision, then often a comma and a reason ("No, a car is in the way."). The confidence is the
probability of the decision alone: the product of its tokens' probabilities under the temperature that was
fitted on held-out frames. A coordinate counts as right within 4% of the frame, as a box edge has no one true
pixel. The alternatives are the likeliest other decisions that a beam search finds.
"""

# Every pipeline narrows the signatures of transformers' base class; that is how they are written.
# mypy: disable-error-code="override,assignment"

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import Pipeline
from transformers.dynamic_module_utils import custom_object_save

from .tokenization_traffic_vlm import FIRST_LOCATION_ID, NUM_LOCATIONS, PLACES, decision_lengths

TASK = "traffic-question-answering"
MAX_NEW_TOKENS = 64
LONGEST_DECISION = 16  # tokens; "A residential area" has 13
OF_FRAMES = ("pixel_values", "image_hidden_states")  # inputs with one entry a frame, not one a question
# Below this, another answer is as likely as not. A checkpoint's own threshold takes precedence.
ABSTAIN_THRESHOLD = 0.5
SMALLEST_ALTERNATIVE = 0.005
LOCATION_TOLERANCE = 41  # of 1023, on either side

# How transformers' "decision" pipeline asks: the question alone, as in training, about the frame in `state`.
DECISION_TEMPLATE = """\
{%- if question.type != "noul" -%}
    {{ raise_exception("This model decides between yes and no only: ask a question of the type noul.") }}
{%- endif -%}
{%- set frame = state -%}
{%- set words = question.instructions -%}
{%- if words is string -%}{{ words }}
{%- else -%}{{ words | selectattr("type", "equalto", "text") | map(attribute="text") | join(" ") }}
{%- endif -%}
"""


class TrafficQuestionAnsweringPipeline(Pipeline):
    """Asks questions about frames.

    `pipe(image=frame, question="Is the left lane clear?")` returns a list of one dictionary a question;
    `pipe(image=[frame, ...], question=[...])` asks every question about every frame and returns one such list
    a frame. Items `{"image": ..., "question": ...}`, one, a list, a generator or a data set, work as well:
    the latter two stream. A frame is a path, an http(s) or `data:` address, a Pillow picture or an array.

    Each dictionary holds:
        question (str): As asked.
        answer (str): What the model generates.
        confidence (float): Probability of the answer's decision, from 0 to 1.
        abstained (bool): Whether the confidence is below the threshold: better not to use the answer.
        evidence (list): Where the model looked: `{"box": [x1, y1, x2, y2], "mass": ...}`, the box in
            fractions of the frame, the mass the share of its attention that lies inside. Empty for a model
            without cross-attention.
        alternatives (dict): Other decisions and their probabilities, likeliest first. The answer is generated
            word by word, so that one of them may be likelier than its own decision.
        evidence_map: With `return_maps=True`, the attention `(grid_height, grid_width)`, which sums to 1, or
            None for a model without cross-attention.
    """

    model: Any
    processor: Any
    _load_processor = True
    _load_tokenizer = False
    _load_image_processor = False
    _load_feature_extractor = False

    def __call__(
        self, image: Any = None, question: Any = None, batch_size: int | None = None, **kwargs: Any
    ) -> Any:
        """Answer questions about frames.

        Args:
            image: A frame, a list of frames, or items `{"image": ..., "question": ...}`.
            question: A question or a list of questions, asked of every frame; None when items bring theirs.
            batch_size: How many frames go through the model at once, defaults to 8.
            **kwargs: `max_new_tokens`, `top_k` (how many decisions to follow for the alternatives, defaults
                to 4; none below 2), `abstain_threshold`, `return_maps`.

        Returns:
            A list of one dictionary a question for one frame; a list (or an iterator, for streams) of such
            lists for several frames.

        Raises:
            ValueError: If there is no question or a picture is bad.
            OSError: If a picture cannot be read.
        """
        batch_size = batch_size or self._batch_size or 8
        if isinstance(image, dict):
            return next(self._answer([image], question, 1, kwargs))
        if isinstance(image, (list, tuple)) or getattr(image, "ndim", 0) == 4:
            return list(self._answer(image, question, batch_size, kwargs))
        if _is_one_frame(image):
            return next(self._answer([{"image": image}], question, 1, kwargs))
        return self._answer(image, question, batch_size, kwargs)

    def _answer(
        self, frames: Iterable[Any], question: Any, batch_size: int, kwargs: dict[str, Any]
    ) -> Iterator[list[dict[str, Any]]]:
        """Yield the answers of each frame, `batch_size` frames at a time."""
        items = (_read_item(frame, question) for frame in frames)
        while batch := list(islice(items, batch_size)):
            yield from super().__call__({"batch": batch}, **kwargs)

    def _sanitize_parameters(
        self,
        max_new_tokens: int | None = None,
        top_k: int | None = None,
        abstain_threshold: float | None = None,
        return_maps: bool | None = None,
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        forward = {"max_new_tokens": max_new_tokens, "top_k": top_k}
        finish = {"abstain_threshold": abstain_threshold, "return_maps": return_maps}
        return (
            {},
            {name: value for name, value in forward.items() if value is not None},
            {name: value for name, value in finish.items() if value is not None},
        )

    def preprocess(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Join a batch of (frame, questions) into the inputs of one forward pass."""
        batch = inputs["batch"]
        frames = [frame for frame, _ in batch]
        questions = [questions for _, questions in batch]
        flat = [question for of_frame in questions for question in of_frame]
        model_inputs = dict(self.processor(text=flat, return_tensors="pt"))
        model_inputs.update(self.processor.image_processor(frames, return_tensors="pt"))
        model_inputs["pixel_values"] = model_inputs["pixel_values"].to(self.dtype)
        model_inputs["image_index"] = torch.tensor(
            [index for index, of_frame in enumerate(questions) for _ in of_frame]
        )
        return {"model_inputs": model_inputs, "questions": questions}

    def _forward(
        self, inputs: dict[str, Any], max_new_tokens: int = MAX_NEW_TOKENS, top_k: int = 4
    ) -> dict[str, Any]:
        model_inputs = inputs["model_inputs"]
        if self.model.config.uses_vision:  # once for the answers, their alternatives and the maps
            features = self.model.get_image_features(model_inputs["pixel_values"], return_dict=True)
            model_inputs = {**model_inputs, "image_hidden_states": features.pooler_output}
        answers = self._generate(model_inputs, max_new_tokens=max_new_tokens)
        maps = None
        if self.model.config.uses_cross_attention:
            maps = self.model.get_evidence_maps(**model_inputs).float().cpu().numpy()
        return {
            "questions": inputs["questions"],
            "answers": answers,
            "others": self._other_decisions(model_inputs, answers, top_k),
            "maps": maps,
        }

    def _other_decisions(
        self, model_inputs: dict[str, torch.Tensor], answers: list[dict[str, Any]], top_k: int
    ) -> list[list[dict[str, Any]]]:
        """For each row what a beam search finds beside the answer; nothing where there is no room for it."""
        others: list[list[dict[str, Any]]] = [[] for _ in answers]
        rows = [
            row
            for row, answer in enumerate(answers)
            if answer["probability"] <= 1 - SMALLEST_ALTERNATIVE and not answer["decision"].startswith("<loc")
        ]
        if top_k < 2 or not rows:
            return others
        asked = {name: value[rows] for name, value in model_inputs.items() if name not in OF_FRAMES}
        # As many rows as frames, all about the first, would be taken for one row a frame.
        frames = int(asked["image_index"].max()) + 1
        asked |= {name: model_inputs[name][:frames] for name in OF_FRAMES if name in model_inputs}
        found = self._generate(
            asked,
            max_new_tokens=LONGEST_DECISION,  # what follows a decision is not read
            eos_token_id=self._decision_ends([answers[row] for row in rows]),
            num_beams=top_k,
            num_return_sequences=top_k,
            length_penalty=0.0,  # a decision of more tokens is not the less likely for it
        )
        for place, row in enumerate(rows):
            others[row] = found[place * top_k : (place + 1) * top_k]
        return others

    def _generate(self, model_inputs: dict[str, torch.Tensor], **kwargs: Any) -> list[dict[str, Any]]:
        """Generate the likeliest answers; `kwargs` go to the model's `generate`.

        Returns:
            What `_decisions` reads, one a row, or `num_return_sequences` a row.
        """
        out = self.model.generate(
            **model_inputs, do_sample=False, output_logits=True, return_dict_in_generate=True, **kwargs
        )
        tokens = out.sequences[:, model_inputs["input_ids"].shape[1] :]
        temperature = float(setting_of(self.model, "confidence_temperature", 1.0))
        logits = torch.stack(out.logits, dim=1)
        beams = getattr(out, "beam_indices", None)
        if beams is not None:  # which row of each step's logits an answer's token was taken from
            steps = torch.arange(tokens.shape[1], device=tokens.device)
            logits = logits[beams[:, : tokens.shape[1]].clamp(min=0), steps]
        log_probs = logits.float().div(temperature).log_softmax(dim=-1)
        return self._decisions(tokens, _log_probs_of(tokens, log_probs))

    def _decisions(self, tokens: torch.Tensor, log_probs: torch.Tensor) -> list[dict[str, Any]]:
        """Read answer, decision and the decision's probability out of generated tokens."""
        tokenizer, results, rows = self.processor.tokenizer, [], tokens.tolist()
        lengths = decision_lengths(tokenizer, rows)
        for row, row_log_probs, length in zip(rows, log_probs.tolist(), lengths, strict=True):
            results.append(
                {
                    "answer": tokenizer.decode(row, skip_special_tokens=True).strip(),
                    "tokens": row[:length],
                    "decision": tokenizer.decode(row[:length], skip_special_tokens=True).strip(),
                    "probability": float(np.exp(sum(row_log_probs[:length]))),
                }
            )
        return results

    def _decision_ends(self, answers: list[dict[str, Any]]) -> list[int]:
        """Tokens behind which no other decision need be followed: `<eos>`, full stop, and comma where none of
        the answers is a place (an answer's alternatives have its form)."""
        tokenizer = self.processor.tokenizer
        marks = (".",) if any(answer["answer"].startswith(PLACES) for answer in answers) else (",", ".")
        closing = [tokenizer(mark, add_special_tokens=False)["input_ids"][0] for mark in marks]
        return [tokenizer.eos_token_id, *closing]

    def postprocess(
        self, outputs: dict[str, Any], abstain_threshold: float | None = None, return_maps: bool = False
    ) -> list[list[dict[str, Any]]]:
        """Turn what the model returned into one list of dictionaries a frame."""
        if abstain_threshold is None:
            abstain_threshold = float(setting_of(self.model, "abstain_threshold", ABSTAIN_THRESHOLD))
        results, row = [], 0
        for questions in outputs["questions"]:
            of_frame = []
            for question in questions:
                answer = outputs["answers"][row]
                evidence_map = None if outputs["maps"] is None else outputs["maps"][row]
                result = {
                    "question": question,
                    "answer": answer["answer"],
                    "confidence": answer["probability"],
                    "abstained": answer["probability"] < abstain_threshold,
                    "evidence": [] if evidence_map is None else [strongest_region(evidence_map)],
                    "alternatives": _alternatives(answer, outputs["others"][row]),
                }
                if return_maps:
                    result["evidence_map"] = evidence_map
                of_frame.append(result)
                row += 1
            results.append(of_frame)
        return results

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> None:
        """Save model, processor and this pipeline's code: `pipeline(TASK, model=folder)` finds it all."""
        save_checkpoint(save_directory, self.model, self.processor, **kwargs)


def setting_of(model: Any, name: str, default: float) -> float:
    """Look a number up in the checkpoint's generation configuration, then in its configuration."""
    for place in (model.generation_config, model.config):
        value = getattr(place, name, None)
        if value is not None:
            return value
    return default


def save_checkpoint(folder: str | Path, model: Any, processor: Any, **kwargs: Any) -> None:
    """Save all that a checkpoint folder needs to stand alone.

    Weights, configuration, processor, tokenizer and their code; this pipeline, under its task's name; what
    transformers' "decision" pipeline and `transformers serve` look for.

    Args:
        folder: Where to; made if need be.
        model: A `TrafficVLMForConditionalGeneration`.
        processor: Its `TrafficVLMProcessor`.
        **kwargs: Arguments of the model's `save_pretrained`.
    """
    folder = Path(folder)
    model.config.custom_pipelines = {
        TASK: {
            "impl": f"pipeline_traffic_vlm.{TrafficQuestionAnsweringPipeline.__name__}",
            "pt": ["AutoModelForImageTextToText"],
        }
    }
    # `transformers serve` tries this class first, and after it only classes of transformers itself.
    auto_map = dict(getattr(model.config, "auto_map", None) or {})
    auto_map["AutoModelForDecision"] = "modeling_traffic_vlm.TrafficVLMForConditionalGeneration"
    model.config.auto_map = auto_map
    model.generation_config.max_new_tokens = MAX_NEW_TOKENS  # transformers' own 20 would cut descriptions
    model.save_pretrained(folder, **kwargs)
    processor.save_pretrained(folder)
    custom_object_save(TrafficQuestionAnsweringPipeline, folder)
    decision = {"labels": {"noul": _first_tokens(processor.tokenizer, ("Yes", "No"))}}
    (folder / "decision.json").write_text(json.dumps(decision, indent=2) + "\n", encoding="utf-8")
    (folder / "decision_template.jinja").write_text(DECISION_TEMPLATE, encoding="utf-8")


def _first_tokens(tokenizer: Any, words: Iterable[str]) -> list[str]:
    """The token that each word begins with: the "decision" pipeline compares single tokens."""
    return [tokenizer.decode(tokenizer(word, add_special_tokens=False)["input_ids"][:1]) for word in words]


def _log_probs_of(tokens: torch.Tensor, log_probs: torch.Tensor) -> torch.Tensor:
    """Log-probability of each token; of a location token, that of all coordinates within the tolerance.

    Args:
        tokens: `(rows, steps)`.
        log_probs: `(rows, steps, vocab_size)`.

    Returns:
        `(rows, steps)`.
    """
    chosen = log_probs.gather(-1, tokens[..., None])[..., 0]
    locations = log_probs[..., FIRST_LOCATION_ID : FIRST_LOCATION_ID + NUM_LOCATIONS].exp()
    below = torch.nn.functional.pad(locations.cumsum(dim=-1), (1, 0))  # mass of all coordinates below i
    value = tokens - FIRST_LOCATION_ID
    low = (value - LOCATION_TOLERANCE).clamp(0, NUM_LOCATIONS)
    high = (value + LOCATION_TOLERANCE + 1).clamp(0, NUM_LOCATIONS)
    mass = below.gather(-1, high[..., None])[..., 0] - below.gather(-1, low[..., None])[..., 0]
    is_location = (value >= 0) & (value < NUM_LOCATIONS)
    return torch.where(is_location, mass.clamp(1e-12, 1).log(), chosen)


def _is_one_frame(image: Any) -> bool:
    """Whether this is a frame itself, not a stream of frames."""
    known = isinstance(image, (str, bytes)) or image is None
    return known or any(hasattr(image, name) for name in ("size", "read", "__fspath__"))


def _read_item(frame: Any, question: Any) -> tuple[Any, list[str]]:
    """Pair one frame with its questions."""
    item = frame if isinstance(frame, dict) else {"image": frame}
    if item.get("image") is None:
        raise ValueError("There is no picture to look at.")
    questions = item.get("question", question)
    questions = [questions] if isinstance(questions, str) else list(questions or [])
    if not questions or not all(isinstance(text, str) and text.strip() for text in questions):
        raise ValueError("The question is empty.")
    return item["image"], questions


def _alternatives(answer: dict[str, Any], others: list[dict[str, Any]]) -> dict[str, float]:
    """Other decisions than the answer's, likeliest first; places of boxes are too many to name."""
    found: dict[str, float] = {}
    named, known = {answer["decision"]}, [answer["tokens"]]
    for other in sorted(others, key=lambda other: -other["probability"]):
        decision, tokens = other["decision"], other["tokens"]
        # What goes on where a decision might have ended is a part of it: its probability is in the other's.
        goes_on = any(tokens[: len(begun)] == begun for begun in known)
        if goes_on or decision in named or decision.startswith("<loc"):
            continue
        if other["probability"] >= SMALLEST_ALTERNATIVE:
            found[decision] = other["probability"]
            named.add(decision)
            known.append(tokens)
    return found


def strongest_region(evidence_map: np.ndarray) -> dict[str, Any]:
    """Box the region around the map's peak.

    The region is what is connected with the strongest patch, side by side or diagonally, through patches of
    at least half its strength.

    Args:
        evidence_map: Attention `(grid_height, grid_width)`, which sums to 1.

    Returns:
        `{"box": [x1, y1, x2, y2], "mass": ...}`: the region's box in fractions of the frame, and the share of
        the attention that lies in the box.
    """
    height, width = evidence_map.shape
    strong = evidence_map >= evidence_map.max() / 2
    start = np.unravel_index(int(evidence_map.argmax()), evidence_map.shape)
    region, frontier = {start}, [start]
    while frontier:
        y, x = frontier.pop()
        for neighbour in ((y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)):
            inside = 0 <= neighbour[0] < height and 0 <= neighbour[1] < width
            if inside and neighbour not in region and strong[neighbour]:
                region.add(neighbour)
                frontier.append(neighbour)
    rows, columns = zip(*region, strict=True)
    top, bottom, left, right = min(rows), max(rows) + 1, min(columns), max(columns) + 1
    box = [left / width, top / height, right / width, bottom / height]
    return {
        "box": [round(float(edge), 4) for edge in box],
        "mass": float(evidence_map[top:bottom, left:right].sum()),
    }
