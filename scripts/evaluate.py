"""Evaluates a checkpoint on a data set, or scores a file of predictions of any model.

Examples:
  python scripts/evaluate.py --dataset data/bdd100k_questions --split val --output outputs/report
  python scripts/evaluate.py --predictions answers.csv --dataset data/bdd100k_questions --output OUT
  accelerate launch --num_processes 2 scripts/evaluate.py --dataset data/bdd100k_questions --output OUT
"""

import sys

from traffic_vlm.processing.extras import needs

with needs("eval"):
    from traffic_vlm.evaluation.evaluator import main

if __name__ == "__main__":
    sys.exit(main(description=__doc__))
