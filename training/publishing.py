"""What belongs into a repository on the Hugging Face Hub, what it lacks, and uploading that.

An interrupted upload goes on where it stopped: what is there already, by its hash, is not sent again.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi

# The base of all errors of the HTTP library that this version of huggingface_hub is built on.
from huggingface_hub.errors import HTTPError, RepositoryNotFoundError  # type: ignore[attr-defined]
from huggingface_hub.hf_api import RepoFile

FILES_A_COMMIT = 50  # what an interruption can cost at most
# What editors, caches and half-finished downloads leave behind, and a data set's frames packed for training.
LEFT_OUT = re.compile(r"(^|/)(\.cache|\.git|__pycache__|\.DS_Store|packed-[^/]*)(/|$)|\.(part|pyc|tmp)$")


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


NEEDED = (
    "config.json",
    "processor_config.json",
    "tokenizer.json",
    "modeling_traffic_vlm.py",
    "pipeline_traffic_vlm.py",
)


def model_publication(repo_id: str, checkpoint: Path, card: Path) -> Publication:
    """Collect a checkpoint folder, with the model card as its README.md."""
    files = folder_files(checkpoint)
    for needed in NEEDED:
        if needed not in files:
            raise FileNotFoundError(f"{checkpoint}: no {needed} in it, so it would not load from the Hub.")
    if not any(name.endswith(".safetensors") for name in files):
        raise FileNotFoundError(f"{checkpoint}: no weights (model.safetensors) in it.")
    if "README.md" not in files:
        if not card.is_file():
            raise FileNotFoundError(f"{card}: no such model card; name one with --card.")
        files["README.md"] = card
    return Publication("model", repo_id, files)


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


def digest(source: Path | bytes, hasher: hashlib._Hash) -> str:
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
        try:
            # A tag that is there stays at its commit, so it may only be there if nothing has changed.
            api.create_tag(repo_id, tag=tag, repo_type=kind, exist_ok=not files)
        except HTTPError as error:
            if error.response is None or error.response.status_code != 409:
                raise
            raise ValueError(
                f"{repo_id}: the files are uploaded, but the tag {tag} is an earlier commit's already; "
                "choose another."
            ) from error
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
