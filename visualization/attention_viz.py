"""`python -m visualization.attention_viz --image F --text Q` is scripts/visualize.py."""

import sys

from traffic_vlm.processing.extras import needs

with needs("eval"):
    from traffic_vlm.evaluation.explain import main

if __name__ == "__main__":
    sys.exit(main())
