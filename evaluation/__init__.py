"""Metrics, baselines, grounding, robustness and figures."""
