"""Draws what the model looks at while it answers one question about one frame.

python scripts/visualize.py --image FRAME --text "Is the left lane clear?" --output attention
"""

import sys

from traffic_vlm.evaluation.explain import main

if __name__ == "__main__":
    sys.exit(main(description=__doc__))
