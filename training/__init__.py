"""The training engine behind scripts/train.py."""
