"""Synthetic street scenes with perfect labels, in the layout of BDD100K."""

from .dataset import render_dataset
from .renderer import RenderedScene, render_layout, render_scene

__all__ = ["RenderedScene", "render_dataset", "render_layout", "render_scene"]
