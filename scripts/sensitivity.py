"""Measures how answers and grounding hold up under corruptions, dirt, night, glare, occlusion, crop and tilt.

Examples:
  python scripts/sensitivity.py --dataset data/bdd100k_questions --output outputs/sensitivity
  python scripts/sensitivity.py --dataset outputs/tiny_questions --frames 20 --only fog night --output OUT
"""

import sys

from traffic_vlm.processing.extras import needs

with needs("eval"):
    from traffic_vlm.evaluation.robustness import main

if __name__ == "__main__":
    sys.exit(main(description=__doc__))
