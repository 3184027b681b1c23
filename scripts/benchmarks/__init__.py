"""What `benchmark.py` measures. A new benchmark is a file here with `HELP`, `add_arguments(parser)`
and `run(options)`, and a row of the table."""

from . import data, evaluate, generate, losses, soak, train

BENCHMARKS = {
    "data": data,
    "losses": losses,
    "evaluate": evaluate,
    "generate": generate,
    "train": train,
    "soak": soak,
}
