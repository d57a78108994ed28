"""Draws what the model looks at while it answers one question about one frame.

Example:
  python scripts/visualize.py --image frame.jpg --text "Is the left lane clear?" --output outputs/attention
"""

import sys

from traffic_vlm.processing.extras import needs

with needs("eval"):
    from traffic_vlm.evaluation.explain import main

if __name__ == "__main__":
    sys.exit(main(description=__doc__))
