"""What `benchmark.py` measures. A new benchmark is a file here with `HELP`, `add_arguments(parser)`
and `run(options)`, and a row of the table."""

from . import data, losses, soak, train

BENCHMARKS = {"data": data, "losses": losses, "train": train, "soak": soak}
