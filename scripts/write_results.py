"""Write the README's results and model_card.md from the default checkpoint's report.

Example:
  python scripts/write_results.py --checkpoint checkpoints/traffic-vlm
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from traffic_vlm.processing.extras import needs

with needs("eval"):
    from traffic_vlm.evaluation.card import CardError, fill_readme, read_report, render_card

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    """Parses the command line and writes both files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", type=Path, default=ROOT / "checkpoints" / "traffic-vlm")
    arguments = parser.parse_args()
    try:
        report, record = read_report(arguments.checkpoint)
        readme = fill_readme((ROOT / "README.md").read_text(encoding="utf-8"), report)
        template = (ROOT / "docs" / "model_card.template.md").read_text(encoding="utf-8")
        card = render_card(template, report, record)
        (ROOT / "README.md").write_text(readme, encoding="utf-8", newline="\n")
        (ROOT / "model_card.md").write_text(card, encoding="utf-8", newline="\n")
        (arguments.checkpoint / "README.md").write_text(card, encoding="utf-8", newline="\n")
    except (CardError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
