"""Publish the model, the data set and the demo on the Hugging Face Hub: create, upload, tag.

Private unless --public. An interrupted upload goes on where it stopped: run the same command again. Files
that only the repository has stay there. The address and the token are huggingface_hub's own (HF_ENDPOINT,
HF_TOKEN or `hf auth login`).

Examples:
    python scripts/push_to_hub.py --model me/traffic-vlm --tag v0.1.0 --dry-run
    python scripts/push_to_hub.py --model me/traffic-vlm --space me/traffic-vlm-demo
    python scripts/push_to_hub.py --dataset me/traffic-questions --data outputs/questions
"""

import argparse
import importlib.metadata
import os
import re
import sys
from pathlib import Path

from huggingface_hub import HfApi
from packaging.requirements import Requirement
from traffic_vlm.processing.extras import needs

with needs("data"):
    from traffic_vlm.processing.bdd100k.hub import dataset_publication
    from traffic_vlm.training.publishing import (
        HTTPError,
        Publication,
        describe_plan,
        first_line,
        folder_files,
        model_publication,
        publish,
    )

ROOT = Path(__file__).resolve().parents[1]
# What the demo imports; a Space installs nothing of this repository.
SPACE_FOLDERS = ("app", "processing", "evaluation")
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


def space_publication(repo_id: str, app: Path, model: str) -> Publication:
    """Collect the demo: the app as it is, the code it imports, what it needs installed, and its model."""
    if not app.is_file():
        raise FileNotFoundError(f"{app}: no such app.")
    files: dict[str, Path | bytes] = {
        "app.py": app,
        "requirements.txt": "".join(f"{line}\n" for line in requirements("app")).encode(),
        "packages.txt": b"libegl1\nlibgl1\n",  # Debian's, which Skia draws the scenes with
        "README.md": SPACE_CARD.format(model=model).encode(),
    }
    for folder in SPACE_FOLDERS:
        files |= {f"traffic_vlm/{folder}/{name}": path for name, path in folder_files(ROOT / folder).items()}
    return Publication("space", repo_id, files, {CHECKPOINT_VARIABLE: model})


def requirements(*extras: str) -> list[str]:
    """List what the package itself and some of its extras need, and the extras that these name."""
    found: dict[str, None] = {}
    for line in importlib.metadata.requires("traffic-vlm") or []:
        need = Requirement(line)
        if need.marker is not None and not any(need.marker.evaluate({"extra": one}) for one in ("", *extras)):
            continue
        if need.name == "traffic-vlm":
            found |= dict.fromkeys(requirements(*need.extras))
        else:
            wanted = f"[{','.join(sorted(need.extras))}]" if need.extras else ""
            found[f"{need.name}{wanted}{need.specifier}"] = None
    return list(found)


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
