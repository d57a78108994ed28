"""Checks that a checkpoint travels between the oldest and the newest supported transformers.

Builds one virtual environment for each end of the range, and lets the oldest load the checkpoint and save it
again, the newest load that and save it again, and the oldest load the result. Each load is a fresh offline
process that has never seen this source tree: the code comes from beside the weights. All must agree on the
logits, the generated tokens and, where the checkpoint has a processor, on the words.

Examples:
    python scripts/test_versions.py                                  # 5.4.0 and the latest release
    python scripts/test_versions.py --oldest 5.6.0 --newest 5.24.0 --folder /tmp/versions
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

OLDEST = "5.4.0"
PACKAGES = ["numpy", "pillow"]

# Runs inside each environment: load, answer, compare with what was answered before, save.
CHILD = """
import json, sys
from pathlib import Path
import numpy as np
import torch
import transformers
from transformers import AutoConfig, AutoModel, AutoModelForImageTextToText

source, target = Path(sys.argv[1]), Path(sys.argv[2])
model = AutoModelForImageTextToText.from_pretrained(source, trust_remote_code=True, dtype=torch.float32)
model = model.eval()
AutoModel.from_pretrained(source, trust_remote_code=True)
config = AutoConfig.from_pretrained(source, trust_remote_code=True)
assert config.text_config.vocab_size == model.config.text_config.vocab_size
height, width = config.vision_config.image_size
pixels = torch.linspace(-1, 1, 3 * height * width).reshape(1, 3, height, width)
ids = torch.arange(10, 26).reshape(2, 8) % config.text_config.vocab_size
record = {"transformers": transformers.__version__}
with torch.no_grad():
    record["logits"] = model(input_ids=ids, pixel_values=pixels).logits.flatten()[::97].tolist()
    tokens = model.generate(input_ids=ids, pixel_values=pixels, attention_mask=torch.ones_like(ids),
                            max_new_tokens=8, do_sample=False)
    record["tokens"] = tokens.tolist()
if (source / "tokenizer_config.json").exists():
    from PIL import Image
    from transformers import AutoProcessor
    processor = AutoProcessor.from_pretrained(source, trust_remote_code=True)
    frame = Image.fromarray((np.arange(180 * 320 * 3) % 251).astype("uint8").reshape(180, 320, 3))
    inputs = processor(images=[frame], text=["Is the left lane clear?"], return_tensors="pt")
    answer = model.generate(**inputs, max_new_tokens=16, do_sample=False)
    record["words"] = processor.batch_decode(answer, skip_special_tokens=True)
    processor.save_pretrained(target)
model.save_pretrained(target)
before = source / "answers.json"
if before.exists():
    earlier = json.loads(before.read_text(encoding="utf-8"))
    worst = max(abs(a - b) for a, b in zip(earlier["logits"], record["logits"], strict=True))
    assert worst < 1e-4, f"logits differ by {worst}"
    for key in ("tokens", "words"):
        assert earlier.get(key) == record.get(key), f"{key} differ: {earlier.get(key)} and {record.get(key)}"
    print(f"{earlier['transformers']} -> {record['transformers']}: largest logit difference {worst:.1e}")
(target / "answers.json").write_text(json.dumps(record), encoding="utf-8")
"""


def environment(folder: Path, transformers: str | None, torch: str) -> Path:
    """Creates a virtual environment with one transformers (None: the latest), and returns its Python."""
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.exists():
        venv.create(folder, with_pip=True)
    wanted = "transformers" if transformers is None else f"transformers=={transformers}"
    command = [str(python), "-m", "pip", "install", "--quiet", wanted, f"torch=={torch}", *PACKAGES]
    subprocess.run(command, check=True)
    return python


def travel(python: Path, source: Path, target: Path, home: Path) -> None:
    """One stop: loads `source` in a fresh offline process there, compares, and saves to `target`."""
    target.mkdir(parents=True, exist_ok=True)
    settings = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(home), "PYTHONPATH": ""}
    command = [str(python), "-c", CHILD, str(source), str(target)]
    subprocess.run(command, check=True, cwd=target, env=os.environ | settings)


def tiny_checkpoint(folder: Path) -> Path:
    """A small random model, for when no checkpoint is given."""
    from traffic_vlm.modeling import TrafficVLMConfig, TrafficVLMForConditionalGeneration

    config = TrafficVLMConfig(cross_attention_gate_init=1.0, num_patch_labels=4, grounding_heads=[[0, 0]])
    TrafficVLMForConditionalGeneration(config).save_pretrained(folder)
    return folder


def main(arguments: list[str] | None = None) -> int:
    """Parses the command line, makes the three stops, and says what agreed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--checkpoint", type=Path, help="folder of a checkpoint; default: a small random model"
    )
    parser.add_argument("--oldest", default=OLDEST, help=f"oldest transformers (default {OLDEST})")
    parser.add_argument("--newest", help="newest transformers (default: the latest release)")
    parser.add_argument("--torch", default="2.13.0", help="torch in both environments (default 2.13.0)")
    parser.add_argument(
        "--folder", type=Path, help="where the environments are kept (default: a temporary folder)"
    )
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        stops = Path(temporary) / "stops"
        try:
            start = (options.checkpoint or tiny_checkpoint(stops / "start")).resolve()
            oldest = environment(folder / "oldest", options.oldest, options.torch)
            newest = environment(folder / "newest", options.newest, options.torch)
            travel(oldest, start, stops / "by-oldest", stops / "home-oldest")
            travel(newest, stops / "by-oldest", stops / "by-newest", stops / "home-newest")
            travel(oldest, stops / "by-newest", stops / "again", stops / "home-oldest")
        except subprocess.CalledProcessError as error:
            print(f"error: {Path(error.cmd[0]).parts[-3]} environment failed, see above", file=sys.stderr)
            return 2
        versions = json.loads((stops / "by-newest" / "answers.json").read_text(encoding="utf-8"))[
            "transformers"
        ]
        print(f"checkpoints travel between transformers {options.oldest} and {versions}, both ways")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
