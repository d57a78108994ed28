"""The tiny checkpoint that knows three pictures by heart, and its exports."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "processing"))
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

from tiny_checkpoint import checkpoint, pictures, pipe
from traffic_vlm.deployment.export import export
from traffic_vlm.deployment.session import Session

__all__ = ["checkpoint", "pictures", "pipe"]


@pytest.fixture(scope="session")
def exported(checkpoint, tmp_path_factory) -> Path:
    return export(checkpoint, tmp_path_factory.mktemp("exports") / "onnx")


@pytest.fixture(scope="session")
def session(exported) -> Session:
    return Session(exported, threads=1)
