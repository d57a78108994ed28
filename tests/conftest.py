"""Fixtures that several folders of tests share."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def bdd100k_root() -> Path:
    """The real frames beside the checkout; tests that need them are skipped where they are not."""
    root = Path(__file__).resolve().parents[2] / "shared" / "bdd100k_subset"
    if not root.is_dir():
        pytest.skip("the real frames are not beside the checkout")
    return root
