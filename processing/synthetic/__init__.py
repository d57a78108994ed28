"""Synthetic street scenes with perfect labels, in the layout of BDD100K."""
