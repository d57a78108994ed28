"""Trains the same small recipe with one thing taken out at a time, and prints one table.

Examples:
  python scripts/ablate.py --real data/bdd100k_questions --output outputs/ablations --seeds 0 1
  python scripts/ablate.py run.precision=no --synthetic outputs/tiny_questions --only no_rope no_gates

A finished run is not repeated, an interrupted one goes on where it was.
"""

import sys

from traffic_vlm.processing.extras import needs

with needs("eval"):
    from traffic_vlm.evaluation.ablation import main

if __name__ == "__main__":
    sys.exit(main(description=__doc__))
