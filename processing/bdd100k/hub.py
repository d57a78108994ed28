"""Publishing a built data set."""

from pathlib import Path

from datasets import load_dataset
from huggingface_hub import DatasetCard


def push(folder: Path, repository: str, private: bool = False) -> None:
    """Pushes every split and then the card, so that the Hub shows the same data set as the folder.

    Args:
        folder: A built data set.
        repository: "user/name" on the Hub.
        private: Whether a new repository is private.
    """
    load_dataset(str(folder)).push_to_hub(repository, private=private)
    page = DatasetCard.load(folder / "README.md")
    online = DatasetCard.load(repository)
    # The Hub's own file names and sizes are right there; the words and the licence are right here.
    page.data.configs = online.data.to_dict()["configs"]
    page.data.dataset_info = online.data.to_dict()["dataset_info"]
    page.push_to_hub(repository)
