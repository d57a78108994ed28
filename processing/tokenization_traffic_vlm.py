"""The words of TrafficVLM: a byte-level BPE tokenizer trained on the project's own question language.

Vocabulary, in order of id:

    0 <pad>   1 <bos>   2 <eos>   3 <image>
    4 .. 1027           <loc0000> .. <loc1023>   a coordinate as a fraction of the frame, times 1023
    1028 .. 1283        the 256 bytes, so that any text can be written
    1284 ..             the commonest whole words of the training questions and answers, then merges

Any text decodes back to exactly itself. A question is data, never a command: `<eos>` typed by a user is split
into bytes like any other text (`split_special_tokens=True`), so nobody can end a prompt or forge an image
with it; whoever needs a special token adds its id. Location tokens are ordinary words that happen to be
written `<loc0512>`: they are recognised in text and survive `skip_special_tokens=True`, because answers hold
them.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

SPECIAL_TOKENS = ("<pad>", "<bos>", "<eos>", "<image>")
NUM_LOCATIONS = 1024
LOCATION_TOKENS = tuple(f"<loc{value:04d}>" for value in range(NUM_LOCATIONS))
FIRST_LOCATION_ID = len(SPECIAL_TOKENS)
PLACES = ("Ahead", "On the left", "On the right")
"""What an answer begins with whose decision goes on behind the comma ("On the left, close.")."""


def decision_lengths(tokenizer: Any, rows: Iterable[Sequence[int]]) -> list[int]:
    """How many tokens of each answer are its decision, whose probability is the confidence.

    Args:
        tokenizer: The checkpoint's.
        rows: Token ids of answers.

    Returns:
        At least 1 a row: up to the first comma (but that behind one of `PLACES`), full stop or end.
    """
    comma, stop = (tokenizer(mark, add_special_tokens=False)["input_ids"][0] for mark in (",", "."))
    ends = {tokenizer.pad_token_id, tokenizer.eos_token_id, stop}

    def is_end(row: Sequence[int], step: int) -> bool:
        return row[step] in ends or (
            row[step] == comma
            and tokenizer.decode(row[:step], skip_special_tokens=True).strip() not in PLACES
        )

    return [max(1, next((step for step in range(len(row)) if is_end(row, step)), len(row))) for row in rows]


class TrafficVLMTokenizer(PreTrainedTokenizerFast):
    """Byte-level BPE that adds `<bos>`, pads on the left and reads special tokens in text as plain text.

    Build one with `train_tokenizer` or `from_pretrained`. Conversations go through the processor: its
    `apply_chat_template` gives the prompt that the model knows, this class's own leaves out `<bos>`.
    """

    model_input_names = ["input_ids", "attention_mask"]  # noqa: RUF012 (the base class's convention)
    padding_side = "left"


def _byte_level_pre_tokenizer() -> pre_tokenizers.PreTokenizer:
    """Cut text into words, every newline alone: the prompt's separator is one id whatever precedes it."""
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split("\n", behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )


def _learn_merges(texts: list[str], vocab_size: int) -> list[tuple[str, str]]:
    """Run plain BPE training and return its merges, most frequent first."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = _byte_level_pre_tokenizer()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    return [tuple(pair) for pair in json.loads(bpe.to_str())["model"]["merges"]]


def _choose_vocabulary(texts: Counter[str], vocab_size: int) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Pick the entries: special and location tokens, bytes, frequent whole words, then merges until full."""
    fixed = [*SPECIAL_TOKENS, *LOCATION_TOKENS, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    if vocab_size < len(fixed):
        raise ValueError(
            f"vocab_size must be at least {len(fixed)} (special tokens and bytes), got {vocab_size}."
        )
    vocab = {token: index for index, token in enumerate(fixed)}
    pre_tokenizer = _byte_level_pre_tokenizer()
    counts: Counter[str] = Counter()
    for text, repeats in texts.items():
        for word, _ in pre_tokenizer.pre_tokenize_str(text):
            counts[word] += repeats
    words = sorted(
        (word for word, count in counts.items() if count > 1), key=lambda word: (-counts[word], word)
    )
    # The commonest words are one token each; " clear" and "Clear" are two words. Coordinates in the texts
    # ("0512") count as words as well, though location tokens never need them. A quarter of the room stays
    # for merges, which shorten all other words.
    room_for_words = (vocab_size - len(vocab)) * 3 // 4
    for word in [word for word in words if word not in vocab][:room_for_words]:
        vocab[word] = len(vocab)
    merges = []
    for left, right in _learn_merges(sorted(texts), vocab_size):
        # A merge's parts are bytes or earlier merges, so taking them in order keeps every part known.
        if left + right not in vocab:
            if len(vocab) == vocab_size:
                break
            vocab[left + right] = len(vocab)
        merges.append((left, right))
    return vocab, merges


def train_tokenizer(texts: Iterable[str], vocab_size: int = 2048) -> TrafficVLMTokenizer:
    """Train the tokenizer on questions and answers.

    The order of `texts` does not matter: the same collection of texts gives the same tokenizer. A text given
    twice counts twice in the choice of whole words. Training gives every distinct text once, and few distinct
    answers begin with "Yes" or "No", so that the shipped checkpoint cuts these in two.

    Args:
        texts: The questions and answers, each as its own string.
        vocab_size: Most entries the vocabulary may have, special and location tokens and bytes included.

    Returns:
        A tokenizer with at most `vocab_size` entries.

    Raises:
        ValueError: If `vocab_size` leaves no room for the fixed entries, or there are no texts.
    """
    counted = Counter(texts)
    if not counted:
        raise ValueError("There is no text to train a tokenizer on.")
    vocab, merges = _choose_vocabulary(counted, vocab_size)
    backend = Tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=True))
    backend.pre_tokenizer = _byte_level_pre_tokenizer()
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A $B", special_tokens=[("<bos>", vocab["<bos>"])]
    )
    backend.add_special_tokens(
        [AddedToken(token, normalized=False, special=True) for token in SPECIAL_TOKENS]
    )
    backend.add_tokens([AddedToken(token, normalized=False, special=False) for token in LOCATION_TOKENS])
    pad_token, bos_token, eos_token, image_token = SPECIAL_TOKENS
    return TrafficVLMTokenizer(
        tokenizer_object=backend,
        pad_token=pad_token,
        bos_token=bos_token,
        eos_token=eos_token,
        extra_special_tokens={"image_token": image_token},
        clean_up_tokenization_spaces=False,
        split_special_tokens=True,
        padding_side="left",
        model_max_length=512,
    )


TrafficVLMTokenizer.register_for_auto_class("AutoTokenizer")
