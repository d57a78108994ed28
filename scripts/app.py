"""A page to ask the model in, in the browser; deployable as a Hugging Face Space as it is.

Examples:
    python scripts/app.py
    python scripts/app.py --checkpoint outputs/mine --port 7861

Needs pip install "traffic-vlm[app]". Nothing is sent anywhere: no analytics, no fonts from elsewhere.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # gradio reads it when imported

DEFAULT_CHECKPOINT = Path(__file__).resolve().parents[1] / "checkpoints" / "traffic-vlm"


def main(argv: list[str] | None = None) -> int:
    """Parse the arguments, load the model, serve the page; 2 when something given is unusable."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--checkpoint",
        default=os.environ.get("TRAFFIC_VLM_CHECKPOINT", str(DEFAULT_CHECKPOINT)),
        help="folder, or owner/name on the Hub (default: $TRAFFIC_VLM_CHECKPOINT or %(default)s)",
    )
    parser.add_argument("--host", help="address to serve on (default: this machine only)")
    parser.add_argument("--port", type=int, help="default: the first free one from 7860 on")
    given = parser.parse_args(argv)
    try:
        from traffic_vlm.processing.loading import check_checkpoint, first_line, load_pipeline

        check_checkpoint(given.checkpoint)
        from traffic_vlm.app.look import launch_options
        from traffic_vlm.app.page import build_page
    except ImportError as error:
        print(f"error: the page needs pip install 'traffic-vlm[app]' ({error}).", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {first_line(error)}", file=sys.stderr)
        return 2
    try:
        print(f"loading {given.checkpoint} ...", flush=True)
        pipe = load_pipeline(given.checkpoint)
        with tempfile.TemporaryDirectory() as thumbnails:
            page = build_page(pipe, Path(thumbnails))
            page.launch(server_name=given.host, server_port=given.port, **launch_options())
    except (ValueError, OSError) as error:
        print(f"error: {first_line(error)}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
