"""Pixels and words: image processor, tokenizer, processor, pipeline."""
