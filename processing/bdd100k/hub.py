"""Publishing a built data set: the folder as it is, with its card, its shards and its reports."""

import os
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from huggingface_hub import HfApi
from traffic_vlm.training.publishing import Publication, folder_files, publish


def push(folder: Path, repo_id: str, public: bool = False) -> str:
    """Pushes a data set; what the repository has already, by its hash, is not sent again.

    The address and the token are huggingface_hub's own (HF_ENDPOINT, HF_TOKEN or `hf auth login`).

    Args:
        folder: A built data set.
        repo_id: `owner/name` on the Hub.
        public: Whether everybody may see it; not allowed for BDD100K frames.

    Returns:
        One line that says what was done.

    Raises:
        ValueError: The frames may not be published, or the repository is public though that was not asked.
    """
    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
    return publish(api, dataset_publication(repo_id, folder, public), public, None)


def dataset_publication(repo_id: str, data: Path, public: bool) -> Publication:
    """Collect a data set folder; real BDD100K frames may not be given to the public."""
    files = folder_files(data)
    parquet = [path for name, path in files.items() if name.endswith(".parquet") and isinstance(path, Path)]
    if not parquet:
        raise FileNotFoundError(f"{data}: no Parquet files in it; build one with scripts/build_dataset.py.")
    if public and "bdd100k" in sources(parquet):
        raise ValueError(f"{data}: holds BDD100K frames, whose licence does not allow publishing them.")
    return Publication("dataset", repo_id, files)


def sources(paths: Iterable[Path]) -> set[str]:
    """Read where the frames of a data set come from."""
    found: set[str] = set()
    for path in paths:
        try:
            found.update(pq.read_table(path, columns=["source"])["source"].to_pylist())
        except (pa.ArrowInvalid, KeyError) as error:
            raise ValueError(f"{path}: the column 'source' cannot be read ({error}).") from error
    return found
