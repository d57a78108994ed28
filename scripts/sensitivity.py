"""Measures how answers and grounding hold up under corruptions, dirt, night, glare, occlusion, crop and tilt.

python scripts/sensitivity.py --dataset D [--checkpoint DIR] [--frames N] [--only fog night] --output OUT
"""

import sys

from traffic_vlm.evaluation.robustness import main

if __name__ == "__main__":
    sys.exit(main(description=__doc__))
