"""The fixtures of this folder; everything is in tiny_checkpoint.py, which tests can import by its name."""

from tiny_checkpoint import checkpoint, pictures, pipe

__all__ = ["checkpoint", "pictures", "pipe"]
