"""Evaluates a checkpoint on a data set, or scores a file of predictions of any model.

python scripts/evaluate.py --checkpoint DIR --dataset D --split val --output OUT
python scripts/evaluate.py --predictions FILE [--dataset D --split val] --output OUT
accelerate launch --num_processes 2 scripts/evaluate.py --checkpoint DIR --dataset D --output OUT
"""

import sys

from traffic_vlm.evaluation.evaluator import main

if __name__ == "__main__":
    sys.exit(main(description=__doc__))
