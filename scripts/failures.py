"""Writes the worst answers of an evaluation as a page that opens from disk.

Example:
  python scripts/failures.py --report outputs/report --dataset data/bdd100k_questions --split val
"""

import sys

from traffic_vlm.processing.extras import needs

with needs("eval"):
    from traffic_vlm.evaluation.failures import main

if __name__ == "__main__":
    sys.exit(main(description=__doc__))
