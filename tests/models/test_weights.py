"""Stored tensors as their files' heads describe them, and weights that are unfit."""

import pytest
import torch
from conftest import tiny_config
from safetensors.torch import save_file
from torch import nn

from t2i_supcon.models import GANS
from t2i_supcon.models.weights import StoredTensor, loading_problems, refuse_unfit_weights, stored_tensors, weights_hash

NAME = "project_noise.weight"


@pytest.fixture
def generator():
    return GANS["ssagan"].generator(tiny_config("ssagan"))


def test_heads_of_files_tell_types_and_shapes(tmp_path, generator):
    assert stored_tensors(tmp_path) == {}
    tensors = {"a": torch.ones(2, 3), "b": torch.ones(4, dtype=torch.int8)}
    (tmp_path / "part").mkdir()
    save_file(tensors, tmp_path / "part" / "model.safetensors")
    assert stored_tensors(tmp_path, "part") == {"a": StoredTensor("F32", (2, 3)), "b": StoredTensor("I8", (4,))}
    generator.save_pretrained(tmp_path / "shards", max_shard_size="10KB")
    assert len(list((tmp_path / "shards").glob("model-*.safetensors"))) > 1
    shapes = {name: stored.shape for name, stored in stored_tensors(tmp_path / "shards").items()}
    assert shapes == {name: tuple(value.shape) for name, value in generator.state_dict().items()}
    (tmp_path / "part" / "model.safetensors").write_bytes(b"half")
    with pytest.raises(OSError, match="model.safetensors: it is no safetensors file, or a damaged one"):
        stored_tensors(tmp_path, "part")


def test_unfit_weights_are_named(generator):
    refuse_unfit_weights(generator, loading_problems(generator, [], {NAME: StoredTensor("BF16", (1,))}), "here")
    problems = loading_problems(generator, ["b", "a"], {NAME: StoredTensor("I64", (1,))})
    assert problems == ("a is missing", "b is missing", f"{NAME} holds whole numbers (I64)")
    with torch.no_grad():
        generator.project_noise.bias[0] = float("inf")
    with pytest.raises(ValueError, match="here: the weights of the SSAGANGenerator are unfit: .*bias holds NaN or inf"):
        refuse_unfit_weights(generator, [], "here")
    with pytest.raises(ValueError, match="unfit: t0, t1, t2, t3, t4 and 3 more tensors like these"):
        refuse_unfit_weights(generator, [f"t{i}" for i in range(7)], "here")


def test_the_hash_of_weights_is_of_their_values():
    network = nn.BatchNorm2d(3)
    before = weights_hash(network)
    assert before == weights_hash(nn.BatchNorm2d(3))
    network.running_mean[1] = 1e-7
    assert weights_hash(network) != before
