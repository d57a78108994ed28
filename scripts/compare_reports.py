"""Put the headline numbers of two reports side by side.

Examples:
  python scripts/compare_reports.py outputs/before/report.json outputs/after/report.json
  git show REVISION:checkpoints/traffic-vlm/training/report.json > old.json
  python scripts/compare_reports.py old.json checkpoints/traffic-vlm/training/report.json

Reports are what scripts/evaluate.py wrote. Both should be of the same questions; where the number of frames
or of questions differs, it says so.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from traffic_vlm.processing.extras import needs

with needs("eval"):
    from traffic_vlm.evaluation.command import new_parser, run_command
    from traffic_vlm.evaluation.glance import comparison_table


def read(path: Path) -> dict[str, Any]:
    """A report.

    Raises:
        ValueError: When the file is no report.
    """
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(
            f"{path}: is not JSON ({error}). Name a report.json of scripts/evaluate.py."
        ) from error
    if not isinstance(report, dict):
        raise ValueError(f"{path}: holds no report. Name a report.json of scripts/evaluate.py.")
    missing = {"families", "classes", "counting", "consistency", "frames", "rows"} - set(report)
    if missing:
        raise ValueError(
            f"{path}: has no {', '.join(sorted(missing))}. Name a report.json of scripts/evaluate.py."
        )
    return report


def main() -> int:
    """Parses the command line and prints the table; 2 for anything that the user can mend."""
    parser = new_parser(__doc__)
    parser.add_argument("before", type=Path, help="report.json")
    parser.add_argument("after", type=Path, help="report.json")
    arguments = parser.parse_args()

    def work() -> str:
        before, after = read(arguments.before), read(arguments.after)
        table = comparison_table(before, after)
        for name, what in (("frames", "frames"), ("rows", "questions")):
            if before[name] != after[name]:
                table += f"\n\nNot the same {what}: {before[name]} before, {after[name]} after."
        for name in ("constrained", "mirror", "frames"):
            asked = [(report.get("asked") or {}).get(name) for report in (before, after)]
            if all(report.get("asked") for report in (before, after)) and asked[0] != asked[1]:
                table += f"\n\nNot asked alike: --{name} {asked[0]} before, {asked[1]} after."
        return table

    return run_command(work)


if __name__ == "__main__":
    sys.exit(main())
