"""What `torchrun --standalone --nproc_per_node 2 several_processes.py FOLDER STEP` does, by the
launcher inside it, whose processes are forked and start at once."""

import os
import sys

from several_processes import main
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

if __name__ == "__main__":
    os.environ |= {"ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1"}
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=2,
        run_id="standalone",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        start_method="fork",
    )
    elastic_launch(config, main)(*sys.argv[1:])
