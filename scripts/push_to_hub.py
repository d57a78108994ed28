"""Publish the model, the data set and the demo on the Hugging Face Hub: create, upload, tag.

Private unless --public. An interrupted upload goes on where it stopped: run the same command again. Files
that only the repository has stay there. The address and the token are huggingface_hub's own (HF_ENDPOINT,
HF_TOKEN or `hf auth login`).

Examples:
    python scripts/push_to_hub.py --model me/traffic-vlm --tag v0.1.0 --dry-run
    python scripts/push_to_hub.py --model me/traffic-vlm --space me/traffic-vlm-demo --app scripts/app.py
    python scripts/push_to_hub.py --dataset me/traffic-questions --data datasets/synthetic
"""

import argparse
import hashlib
import importlib.metadata
import os
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi

# The base of all errors of the HTTP library that this version of huggingface_hub is built on.
from huggingface_hub.errors import HTTPError, RepositoryNotFoundError  # type: ignore[attr-defined]
from huggingface_hub.hf_api import RepoFile

ROOT = Path(__file__).resolve().parents[1]
FILES_A_COMMIT = 50  # what an interruption can cost at most
# What editors, caches and half-finished downloads leave behind.
LEFT_OUT = re.compile(r"(^|/)(\.cache|\.git|__pycache__|\.DS_Store)(/|$)|\.(part|pyc|tmp)$")
CHECKPOINT_VARIABLE = "TRAFFIC_VLM_CHECKPOINT"
SPACE_CARD = """---
title: TrafficVLM
emoji: 🚦
colorFrom: blue
colorTo: yellow
sdk: gradio
app_file: app.py
license: apache-2.0
models:
- {model}
---

Ask questions about a dashcam frame, and see where the model looked.
"""


@dataclass(frozen=True)
class Publication:
    """One repository and what belongs into it.

    Attributes:
        kind: "model", "dataset" or "space".
        repo_id: `owner/name`.
        files: Path in the repository -> local file, or its content.
        variables: Environment of a Space.
    """

    kind: str
    repo_id: str
    files: dict[str, Path | bytes]
    variables: dict[str, str] | None = None


def folder_files(folder: Path) -> dict[str, Path | bytes]:
    """List the files of a folder as they will be called in the repository."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder.")
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    named = {path.relative_to(folder).as_posix(): path for path in paths}
    return {name: path for name, path in named.items() if not LEFT_OUT.search(name)}


def model_publication(repo_id: str, checkpoint: Path, card: Path) -> Publication:
    """Collect a checkpoint folder, with the model card as its README.md."""
    files = folder_files(checkpoint)
    for needed in ("config.json", "processor_config.json", "tokenizer.json", "modeling_traffic_vlm.py"):
        if needed not in files:
            raise FileNotFoundError(f"{checkpoint}: no {needed} in it, so it would not load from the Hub.")
    if not any(name.endswith(".safetensors") for name in files):
        raise FileNotFoundError(f"{checkpoint}: no weights (model.safetensors) in it.")
    if "README.md" not in files:
        if not card.is_file():
            raise FileNotFoundError(f"{card}: no such model card; name one with --card.")
        files["README.md"] = card
    return Publication("model", repo_id, files)


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
    import pyarrow as pa
    import pyarrow.parquet as pq

    found: set[str] = set()
    for path in paths:
        try:
            found.update(pq.read_table(path, columns=["source"])["source"].to_pylist())
        except (pa.ArrowInvalid, KeyError) as error:
            raise ValueError(f"{path}: the column 'source' cannot be read ({error}).") from error
    return found


def space_publication(repo_id: str, app: Path, model: str) -> Publication:
    """Collect the demo: the app as it is, what it needs installed, and which model it loads."""
    if not app.is_file():
        raise FileNotFoundError(f"{app}: no such app.")
    files: dict[str, Path | bytes] = {
        "app.py": app,
        "requirements.txt": "".join(f"{line}\n" for line in requirements()).encode(),
        "README.md": SPACE_CARD.format(model=model).encode(),
    }
    return Publication("space", repo_id, files, {CHECKPOINT_VARIABLE: model})


def requirements() -> list[str]:
    """List what the package itself needs, and what its extra for the app does."""
    declared = importlib.metadata.requires("traffic-vlm") or []
    kept = [
        line.split(";") for line in declared if "extra ==" not in line or re.search("extra == .app.", line)
    ]
    return [name.strip() for name, *_ in kept if not name.startswith("traffic-vlm")]


def changed_files(api: HfApi, publication: Publication) -> dict[str, Path | bytes] | None:
    """Find what the repository lacks or holds in another version; None when there is no repository yet."""
    try:
        tree = api.list_repo_tree(publication.repo_id, repo_type=publication.kind, recursive=True)
        remote = {entry.path: entry for entry in tree if isinstance(entry, RepoFile)}
    except RepositoryNotFoundError:
        return None
    return {
        name: source
        for name, source in publication.files.items()
        if name not in remote or not is_same(source, remote[name])
    }


def is_same(source: Path | bytes, remote: RepoFile) -> bool:
    """Compare sizes, then the hash that the Hub stores: SHA-256 of large files, git's of others."""
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    if size != remote.size:
        return False
    if remote.lfs is not None:
        return digest(source, hashlib.sha256()) == remote.lfs.sha256
    return digest(source, hashlib.sha1(f"blob {size}\0".encode())) == remote.blob_id


def digest(source: Path | bytes, hasher: "hashlib._Hash") -> str:
    """Hash a file in pieces."""
    if isinstance(source, bytes):
        hasher.update(source)
        return hasher.hexdigest()
    with source.open("rb") as file:
        while piece := file.read(1 << 20):
            hasher.update(piece)
    return hasher.hexdigest()


def upload_order(files: dict[str, Path | bytes]) -> Iterator[list[str]]:
    """Yield names in batches; the card comes last, so that nothing incomplete is announced."""
    names = iter(sorted(files, key=lambda name: (name == "README.md", name)))
    while batch := list(islice(names, FILES_A_COMMIT)):
        yield batch


def publish(api: HfApi, publication: Publication, public: bool, tag: str | None) -> str:
    """Create the repository if need be, upload what it lacks, tag it.

    Returns:
        One line that says what was done.

    Raises:
        ValueError: If the repository exists and is public though that was not asked for.
    """
    kind, repo_id = publication.kind, publication.repo_id
    options: dict[str, object] = {}
    if kind == "space":
        variables = [{"key": key, "value": value} for key, value in (publication.variables or {}).items()]
        options = {"space_sdk": "gradio", "space_variables": variables}
    url = api.create_repo(repo_id, repo_type=kind, private=not public, exist_ok=True, **options)  # type: ignore[arg-type]
    if not public and not api.repo_info(repo_id, repo_type=kind).private:
        raise ValueError(
            f"{repo_id}: this {kind} exists and is public; say --public, or choose another name."
        )
    files = changed_files(api, publication) or {}
    for batch in upload_order(files):
        operations = [CommitOperationAdd(name, as_content(files[name])) for name in batch]
        title = batch[0] if len(batch) == 1 else f"{batch[0]} and {len(batch) - 1} more"
        api.create_commit(repo_id, operations, commit_message=f"Upload {title}", repo_type=kind)
    if tag is not None:
        api.create_tag(repo_id, tag=tag, repo_type=kind, exist_ok=True)
    kept = len(publication.files) - len(files)
    tagged = f", tagged {tag}" if tag else ""
    return f"{kind} {url}: {len(files)} files uploaded, {kept} were there already{tagged}"


def as_content(source: Path | bytes) -> str | bytes:
    """Spell a source the way huggingface_hub takes it."""
    return source if isinstance(source, bytes) else str(source)


def describe_plan(api: HfApi, publication: Publication, public: bool, tag: str | None) -> str:
    """Say what `publish` would do; asks the Hub and changes nothing."""
    visibility = "public" if public else "private"
    try:
        changed = changed_files(api, publication)
        state = f"would create it, {visibility}" if changed is None else "it exists"
    except HTTPError as error:
        changed, state = None, f"the Hub does not say whether it exists ({first_line(error)})"
    files = publication.files if changed is None else changed
    lines = [f"{publication.kind} {publication.repo_id}: {state}"]
    for name in sorted(files):
        source = files[name]
        size = len(source) if isinstance(source, bytes) else source.stat().st_size
        lines.append(f"  would upload {name} ({size:,} bytes)")
    lines.append(f"  {len(publication.files) - len(files)} files are there already")
    if tag:
        lines.append(f"  would tag it {tag}")
    return "\n".join(lines)


def first_line(error: BaseException) -> str:
    """Keep an error to one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def collect(arguments: argparse.Namespace) -> list[Publication]:
    """Gather everything that was asked for, before anything is sent (ValueError, OSError)."""
    publications = []
    if arguments.model:
        publications.append(model_publication(arguments.model, arguments.checkpoint, arguments.card))
    if arguments.dataset:
        if arguments.data is None:
            raise ValueError("--dataset needs --data, the folder of the data set.")
        publications.append(dataset_publication(arguments.dataset, arguments.data, arguments.public))
    if arguments.space:
        if not arguments.model:
            raise ValueError("--space needs --model, the repository that the demo loads.")
        publications.append(space_publication(arguments.space, arguments.app, arguments.model))
    if not publications:
        raise ValueError("nothing to publish: give --model, --dataset or --space.")
    for publication in publications:
        if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", publication.repo_id):
            raise ValueError(f"{publication.repo_id}: a repository is named owner/name.")
    return publications


def main(argv: list[str] | None = None) -> int:
    """Parse the arguments, collect, publish one repository after the other."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", metavar="OWNER/NAME", help="publish the checkpoint here")
    parser.add_argument(
        "--checkpoint", type=Path, default=ROOT / "checkpoints" / "traffic-vlm", metavar="DIR"
    )
    parser.add_argument(
        "--card", type=Path, default=ROOT / "model_card.md", help="used if DIR has no README.md"
    )
    parser.add_argument("--dataset", metavar="OWNER/NAME", help="publish the data set here")
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of the data set")
    parser.add_argument("--space", metavar="OWNER/NAME", help="publish the demo here")
    parser.add_argument("--app", type=Path, default=ROOT / "scripts" / "app.py", help="the demo's code")
    parser.add_argument("--tag", help="tag each repository with this version")
    parser.add_argument("--public", action="store_true", help="let everybody see it (default: private)")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done and change nothing")
    arguments = parser.parse_args(argv)
    act = describe_plan if arguments.dry_run else publish
    try:
        publications = collect(arguments)
        api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
        for publication in publications:
            print(act(api, publication, arguments.public, arguments.tag))
    except (ValueError, OSError, HTTPError) as error:
        print(f"error: {first_line(error)}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
