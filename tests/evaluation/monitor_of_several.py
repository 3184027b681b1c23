"""A monitor in each of several processes: `torchrun monitor_of_several.py FEATURES MODEL DATA OUT`.

Each writes its numbers into OUT, in which "{rank}" is its own.
"""

import json
import sys
from pathlib import Path

import torch

from t2i_supcon.data import load_rows
from t2i_supcon.evaluation import GeneratorMonitor
from t2i_supcon.evaluation.evaluate import launched_state
from t2i_supcon.pipeline import load_pipeline

if __name__ == "__main__":
    features, model, data, out = sys.argv[1:]
    state, draw = launched_state(), load_pipeline(model, torch.device("cpu"))
    rows = [load_rows(data, split) for split in ("test", "train")]
    monitor = GeneratorMonitor(features, ["frechet", "kid", "label_accuracy"], 31, *rows, draw.tokenizer, 16)
    drawn, measure = [], monitor.network.features_and_logits
    monitor.network.features_and_logits = lambda images: (drawn.append(len(images)), measure(images))[1]
    before = torch.get_rng_state()
    numbers = monitor.measure(draw.model.text_encoder, draw.model.generator, batch_size=7)
    untouched = torch.equal(before, torch.get_rng_state())
    Path(out.format(rank=state.process_index)).write_text(json.dumps([numbers, sum(drawn), untouched]))
