"""The old name of the attention pictures: `python -m visualization.attention_viz` runs from a checkout."""
