"""Files of the StackGAN++ family: spectral normalisation's vectors, and scales that do not fit."""

import pytest
from golden.authors import original_order
from golden.weights import Golden, stats
from models.test_stacked import ARCHS
from torch.testing import assert_close

from t2i_supcon.conversion import load_original


@pytest.mark.parametrize("size", [64, 128, 256])
def test_converted_vectors_are_those_of_the_original_after_its_first_forward(size):
    golden = Golden(f"dmgan_discriminator{size}")
    model = load_original("dmgan", f"discriminator{size}", golden.weights)
    vectors = original_order(
        model, golden.weights, "dmgan", f"discriminator{size}", lambda key: key.endswith(("weight_u", "weight_v"))
    )
    assert_close(stats(vectors), golden.outputs["uv_after"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("arch", ARCHS)
def test_files_of_another_scale_are_refused(arch):
    weights = Golden(f"{arch}_discriminator64").weights
    with pytest.raises(ValueError, match=r"missing: down\.4\.0"):
        load_original(arch, "discriminator128", weights)
    with pytest.raises(ValueError, match=r"left over: down\.4\.0"):
        load_original(arch, "discriminator64", Golden(f"{arch}_discriminator128").weights)
