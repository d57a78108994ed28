"""Joins pixels and words: one frame and many questions, or one frame a question, become the model's inputs.

A prompt is `<bos>` + question + newline; the model continues it with answer + `<eos>`. Where the image enters
the decoder as tokens (prefix fusion), `<image>` placeholders stand before `<bos>`, in PaliGemma's order.
"""

from typing import Any

import numpy as np
from transformers import BatchFeature, ProcessorMixin
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
from transformers.processing_utils import ProcessingKwargs, Unpack

# `transformers serve` looks up by class name whether a model reads images; remote code has to say so itself.
MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES.setdefault("traffic_vlm", "TrafficVLMForConditionalGeneration")

# The model answers one question at a time: a conversation is its newest question about its newest picture.
CHAT_TEMPLATE = (
    "{%- if messages[-1]['role'] != 'user' -%}"
    "{{ raise_exception('The last message must be a question of the user.') }}"
    "{%- endif -%}"
    "{%- set content = messages[-1]['content'] -%}"
    "{%- if content is string -%}{{ content | trim }}"
    "{%- else -%}"
    "{{ content | selectattr('type', 'equalto', 'text') | map(attribute='text') | join(' ') | trim }}"
    "{%- endif -%}"
    "{{- '\\n' -}}"
)


class TrafficVLMProcessorKwargs(ProcessingKwargs, total=False):
    """Keyword arguments of the processor; questions of different lengths are padded by default."""

    _defaults = {"text_kwargs": {"padding": True}}  # type: ignore[misc] # noqa: RUF012 (transformers' way)


class TrafficVLMProcessor(ProcessorMixin):
    """Wraps the image processor and the tokenizer.

    Args:
        image_processor: A `TrafficVLMImageProcessor`.
        tokenizer: A `TrafficVLMTokenizer`.
        image_seq_length: How many `<image>` placeholders stand before each question: the number of patches
            for prefix fusion, defaults to 0 (cross-attention needs none).
        chat_template: Jinja template of conversations, defaults to the newest question alone.
    """

    valid_processor_kwargs = TrafficVLMProcessorKwargs

    def __init__(
        self,
        image_processor: Any = None,
        tokenizer: Any = None,
        image_seq_length: int = 0,
        chat_template: str | None = None,
        **kwargs: Any,
    ) -> None:
        self.image_seq_length = image_seq_length
        self.image_token = tokenizer.image_token
        self.image_token_id = tokenizer.convert_tokens_to_ids(tokenizer.image_token)
        super().__init__(image_processor, tokenizer, chat_template=chat_template or CHAT_TEMPLATE, **kwargs)

    def __call__(
        self,
        images: Any = None,
        text: str | list[str] | None = None,
        **kwargs: Unpack[TrafficVLMProcessorKwargs],
    ) -> BatchFeature:
        """Prepare one frame with K questions, or K frames with K questions.

        Args:
            images: A picture (Pillow, array, tensor, path, address) or a list of them. None asks blindly.
                transformers' nested form, one list of pictures a question, must hold one picture in each
                list, because a question is about one picture. Of a conversation's pictures
                (`apply_chat_template`) the newest counts.
            text: A question or a list of K questions. Surrounding and repeated white space is dropped,
                because the newline is the prompt's own separator. Special tokens in it are plain text.
            **kwargs: Arguments of the image processor and of the tokenizer, `return_tensors` among them.
                A question is never truncated, because what is left of it asks something else: with
                `truncation`, one longer than `max_length` is refused.

        Returns:
            `input_ids` and `attention_mask` `(K, length)`; with images also `pixel_values`
            `(num_images, 3, height, width)` and `image_index` `(K,)`, which image each question is about.

        Raises:
            ValueError: If there is no question, a question is empty or too long, a picture is bad, pictures
                and lists of pictures are mixed, a question has several pictures, or the numbers of pictures
                and questions do not match.
            OSError: If a picture cannot be read.
        """
        # transformers' chat templates always pass these two, which nobody else has a reason to.
        in_chat = "videos" in kwargs and "audio" in kwargs
        if kwargs.pop("videos", None) is not None or kwargs.pop("audio", None) is not None:  # type: ignore[typeddict-item]
            raise ValueError("TrafficVLM reads pictures and questions, neither video nor audio.")
        if text is None and images is None:
            raise ValueError("Give at least a question or a picture.")
        merged = self._merge_kwargs(
            TrafficVLMProcessorKwargs,  # type: ignore[arg-type]
            tokenizer_init_kwargs=self.tokenizer.init_kwargs,
            **kwargs,
        )
        return_tensors = merged["text_kwargs"].pop("return_tensors", None)
        data: dict[str, Any] = {}
        if text is not None:
            questions = [text] if isinstance(text, str) else list(text)
            data.update(self._encode(questions, merged["text_kwargs"]))
        if images is not None:
            images_kwargs = {**merged["images_kwargs"], "return_tensors": return_tensors}
            data.update(self.image_processor(_one_each(images, in_chat), **_given(images_kwargs)))
        if text is not None and images is not None:
            data["image_index"] = _match(len(data["pixel_values"]), len(questions))
        return BatchFeature(data, tensor_type=return_tensors)

    def _encode(self, questions: list[str], text_kwargs: dict[str, Any]) -> dict[str, list[list[int]]]:
        """Turn questions into padded prompts."""
        if not questions:
            raise ValueError("There is no question.")
        # apply_chat_template(sanitize_control_tokens=True) marks what looks like a control token.
        marked = {name: True for name in ("sanitize_control_tokens",) if text_kwargs.get(name)}
        limit = self.tokenizer.model_max_length
        if text_kwargs.get("truncation") not in (None, False, "do_not_truncate"):
            limit = min(limit, text_kwargs.get("max_length") or limit)
        rows = []
        for row, question in enumerate(questions):
            name = f"text[{row}]: the question" if len(questions) > 1 else "The question"
            rows.append(self._encode_prompt(name, question, limit, marked))
        allowed = ("padding", "max_length", "pad_to_multiple_of", "padding_side", "return_attention_mask")
        padding = {name: text_kwargs[name] for name in allowed if text_kwargs.get(name) is not None}
        return dict(self.tokenizer.pad({"input_ids": rows}, **padding))

    def _encode_prompt(self, name: str, question: str, limit: int, marked: dict[str, bool]) -> list[int]:
        """Turn one question, called `name` in complaints, into a prompt of at most `limit` tokens."""
        if not isinstance(question, str):
            raise ValueError(f"{name} must be a string, got a {type(question).__name__}.")
        words = question.split()
        while words and words[0].startswith(self.image_token):
            # Other models want the placeholder in the text. Here the picture is given, so it is dropped.
            words[0] = words[0].removeprefix(self.image_token)
            words = words if words[0] else words[1:]
        if not words:
            raise ValueError(f"{name} is empty: ask something, or leave it out.")
        encoded = self.tokenizer(
            " ".join(words) + "\n", add_special_tokens=False, split_special_tokens=True, **marked
        )
        prompt = [self.tokenizer.bos_token_id, *encoded["input_ids"]]
        if len(prompt) > limit:
            raise ValueError(
                f"{name} is too long: {len(prompt)} tokens, at most {limit}. Shorten it; cutting it here "
                f'would change what it asks. It begins "{" ".join(words)[:40]}".'
            )
        return [self.image_token_id] * self.image_seq_length + prompt

    @property
    def model_input_names(self) -> list[str]:
        """Names of everything `__call__` returns."""
        return ["pixel_values", "input_ids", "attention_mask", "image_index"]

    def post_process_image_text_to_text(
        self,
        generated_outputs: Any,
        skip_special_tokens: bool = True,
        skip_prompt: bool = False,
        **kwargs: Any,
    ) -> list[str]:
        """Turn what `generate` returned into words.

        Args:
            generated_outputs: Token ids `(rows, length)` or `(length,)`: prompt, answer, `<eos>`, padding.
            skip_special_tokens: Whether to leave special tokens out, defaults to True. Location tokens stay.
            skip_prompt: Whether to return the answers alone, defaults to False.
            **kwargs: Arguments of the tokenizer's `batch_decode`.

        Returns:
            One string a row.
        """
        if hasattr(generated_outputs, "tolist"):  # a tensor may lie on a device that numpy cannot read
            generated_outputs = generated_outputs.tolist()
        rows = [row.tolist() if hasattr(row, "tolist") else row for row in generated_outputs]
        rows = rows if rows and isinstance(rows[0], list) else [rows]
        if skip_prompt:
            newline = self.tokenizer("\n", add_special_tokens=False)["input_ids"][0]
            rows = [row[row.index(newline) + 1 :] if newline in row else row for row in rows]
        return self.tokenizer.batch_decode(rows, skip_special_tokens=skip_special_tokens, **kwargs)


def _given(arguments: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if value is not None}


def _one_each(images: Any, in_chat: bool) -> Any:
    """Of one list of pictures a question, take its only picture; of one a conversation, the newest."""
    nested = [isinstance(item, (list, tuple)) for item in images] if isinstance(images, (list, tuple)) else []
    if not any(nested):
        return images
    if not all(nested):
        raise ValueError(
            "images mixes pictures and lists of pictures: give pictures alone, or one list for each question."
        )
    for row, pictures in enumerate(images):
        if not pictures:
            raise ValueError(f"images[{row}] is empty: every question needs a picture.")
        if len(pictures) > 1 and not in_chat:
            raise ValueError(
                f"images[{row}] holds {len(pictures)} pictures for one question, which can be about one. "
                "Choose one, or ask about each: as many questions as pictures, the pictures in one flat list."
            )
    return [pictures[-1] for pictures in images]


def _match(num_images: int, num_questions: int) -> np.ndarray:
    """Say which image each question is about."""
    if num_images == 1:
        return np.zeros(num_questions, dtype=np.int64)
    if num_images == num_questions:
        return np.arange(num_questions, dtype=np.int64)
    raise ValueError(
        f"{num_images} pictures and {num_questions} questions: give one picture, or one for each question."
    )


TrafficVLMProcessor.register_for_auto_class("AutoProcessor")
