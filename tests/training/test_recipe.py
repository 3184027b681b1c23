"""Recipes: every shipped one builds, every mistake is one clear sentence."""

import ast
import dataclasses
from pathlib import Path

import pytest
import torch
import yaml

from t2i_supcon.models import GANS
from t2i_supcon.training import EncoderRecipe, GANRecipe, load_recipe
from t2i_supcon.training.encoder_phase import ENCODERS
from t2i_supcon.training.recipe import (
    DataRecipe,
    EvaluationRecipe,
    build_model_config,
    parse_recipe,
    recipe_values,
)

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "scripts" / "recipes"
NAMES = sorted(path.stem for path in RECIPES.glob("*.yaml"))
VARIANTS = ("-unicl", "-ce", "-ntxent")  # guided by something else than supervised contrast
ENCODER_SIZES = {"galip-emoji": load_recipe("clip-emoji", RECIPES).model_config}  # GALIP's vision tower is phase 1's


@pytest.mark.parametrize("name", NAMES)
def test_shipped_recipes_build(name):
    recipe = load_recipe(name, RECIPES)
    assert parse_recipe(recipe_values(recipe)) == recipe
    with torch.device("meta"):  # sizes without memory
        if recipe.phase == "gan":
            gan = GANS[recipe.model]
            config = build_model_config(
                gan.config, recipe.model_config, **ENCODER_SIZES.get(name.removesuffix("-baseline"), {})
            )
            assert (
                config.image_sizes[-1] >= 32
                and gan.generator(config).num_parameters()
                and gan.discriminator(config).num_parameters()
            )
        else:
            config_class, model_class = ENCODERS[recipe.model]
            assert model_class(build_model_config(config_class, recipe.model_config)).num_parameters()


@pytest.mark.parametrize(
    ("name", "generator", "discriminators"),
    [
        ("attngan-cub", 7_084_592, 6_313_730 + 19_424_002 + 71_858_946),
        ("attngan-coco", 13_811_456, 13_304_450 + 42_800_258 + 160_774_274),
        ("dmgan-cub", 21_449_042, 1_878_242 + 5_155_810 + 18_264_546),
        ("dmgan-coco", 22_335_314, 1_878_242 + 5_155_810 + 18_264_546),
        ("dfgan-cub", 9_744_131, 6_619_206 + 295_936),
        ("dfgan-coco", 9_744_131, 6_619_206 + 295_936),
        ("ssagan-cub", 29_494_273, 80_379_526),
        ("ssagan-coco", 29_494_273, 80_379_526),
        ("galip-cub", 139_284_675, 28_706_821 + 2_099_200),
        ("galip-coco", 139_284_675, 28_706_821 + 2_099_200),
    ],
)
def test_cub_and_coco_recipes_have_the_published_sizes(name, generator, discriminators):
    recipe = load_recipe(name, RECIPES)
    gan = GANS[recipe.model]
    config = build_model_config(gan.config, recipe.model_config)
    with torch.device("meta"):
        sizes = [sum(p.numel() for p in network(config).parameters()) for network in (gan.generator, gan.discriminator)]
    assert sizes == [generator, discriminators]


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith(VARIANTS)])
def test_another_guidance_differs_in_its_term_only(name):
    full, variant = (recipe_values(load_recipe(n, RECIPES)) for n in (name.rsplit("-", 1)[0], name))
    term = {"unicl": "unicl", "ce": "label_ce", "ntxent": "nt_xent"}[name.rsplit("-", 1)[1]]
    assert variant["loss_weights"].pop(term) == full["loss_weights"].pop("supcon")
    if "encoders" in full:
        assert variant.pop("encoders") == full.pop("encoders").replace("/model", f"-{name.rsplit('-', 1)[1]}/model")
    assert variant.pop("sampling") == ("captions" if term == "nt_xent" else full["sampling"])
    del full["sampling"]
    assert variant == full


@pytest.mark.parametrize("name", [name for name in NAMES if not name.endswith(("-baseline", *VARIANTS))])
def test_a_baseline_differs_in_method_only(name):
    full, baseline = (recipe_values(load_recipe(n, RECIPES)) for n in (name, f"{name}-baseline"))
    assert "supcon" in full["loss_weights"] and full["sampling"] == "pairs"
    assert full["loss_weights"].pop("supcon") > 0
    if "encoders" in full:
        # the authors trained around OpenAI's CLIP as it is
        frozen_clip = full["model"] == "galip" and not name.endswith("emoji")
        ours = full.pop("encoders").replace("/model", "-baseline/model")
        assert baseline.pop("encoders") == ("openai/clip-vit-base-patch32" if frozen_clip else ours)
    assert baseline == full | {"sampling": "independent"}


def test_values_are_read_as_people_write_them(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("base: other\nlearning_rate: 2e-4\nloss_weights: {words: 1, supcon: null}\n")
    (tmp_path / "other.yaml").write_text("phase: encoders\nloss_weights: {sent: 1, supcon: 3}\nbetas: [0, 1e-1]\n")
    recipe = load_recipe(str(path), overrides=["steps=7", "data.max_words=4", "loss_weights.sent=0.5"])
    assert isinstance(recipe, EncoderRecipe)
    assert (
        recipe.learning_rate == 2e-4 and recipe.betas == (0.0, 0.1) and recipe.steps == 7 and recipe.data.max_words == 4
    )
    assert recipe.loss_weights == {"words": 1.0, "sent": 0.5}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stpes=3", "no field 'stpes' .did you mean 'steps'"),
        ("data.nme=x", "no field 'data.nme' .did you mean 'name'"),
        ("steps=many", "'steps' expected int, got str"),
        ("steps=0", "steps is 0; it must be at least 1"),
        ("batch_size=5", "batch_size is 5; pairs need an even number"),
        ("loss_weights.supcn=1", "'supcn', but phase 'gan' has the terms .*did you mean 'supcon'"),
        ("sampling=triples", "'sampling' expected one of"),
        ("phase=third", "phase is 'third'"),
        ("magp_every=0", "magp_every is 0"),
        ("r1_every=0", "r1_every is 0"),
        ("batch_size=1 sampling=independent", "batch_size is 1; a row's wrong caption"),
        ("max_grad_norm=0", "max_grad_norm is 0.0; it must be positive"),
        ("eval_rows=1", "eval_rows is 1; it must be at least 2"),
        ("loss_weights.supcon=-1", "loss_weights.supcon is -1.0; a weight is a number of at least 0"),
        ("loss_weights.supcon=.nan", "loss_weights.supcon is nan"),
        ("loss_weights.supcon=strong", "'loss_weights.supcon' expected float, got str"),
        ("loss_weights.supcon=true", "'loss_weights.supcon' expected float, got bool"),
        ("loss_weights=null", "loss_weights is None; it must be a mapping"),
        ("generator_learning_rate=.inf", "generator_learning_rate is inf; it must be at least 0 and at most 10"),
        ("betas=[0.5,1]", "betas is 1.0; it must be at least 0 and below 1"),
        ("gamma2=0", "gamma2 is 0.0; it must be positive"),
        ("ema_decay=1", "ema_decay is 1.0; it must be at least 0 and below 1, or null for none"),
        ("data.workers=100000", "data.workers is 100,000; it must be at least 0 and at most 256"),
        ("data.max_broken_share=1", "data.max_broken_share is 1.0; it must be at least 0 and below 1"),
        ("batch_size=1000000000000", "batch_size is 1,000,000,000,000; it must be at least 1 and at most 65,536"),
        ("evaluation.metrics=[fid]", "evaluation.metrics names 'fid'; known are frechet"),
        ("evaluation.images=1", "evaluation.images is 1; it must be at least 2"),
        ("evaluation=imagenet-lite0", "evaluation is imagenet-lite0; it must be a mapping"),
        ("best_metric=kid", "best_metric is 'kid', but phase 'gan' evaluates frechet_encoder"),
        (
            "best_metric=precision_recall evaluation.metrics=[precision_recall]",
            "evaluates frechet_encoder, recall@1, recall@10, precision, recall .did you mean 'precision'",
        ),
        (
            "best_metric=density_coverage evaluation.metrics=[kid,density_coverage]",
            "evaluates frechet_encoder, recall@1, recall@10, kid, density, coverage .did you mean",
        ),
        ("loss_weights.nt_xent=1", "'nt_xent', which contrasts two captions of one image, and sampling is 'pairs'"),
        ("steps=010", "'steps' expected int, got str"),
        ("steps=1:30", "'steps' expected int, got str"),
        ("gamma1=1:30.5", "'gamma1' expected float, got str"),
        ("steps=2026-11-25", "'steps' expected int, got str"),
        ("steps=1" + "0" * 400, r"steps is 10,000[0,]+\.\.\.; it must be at least 1 and at most 1,000,000,000"),
        ("steps=1" + "0" * 5000, r"not valid YAML: 10+\.\.\. is no integer"),
        ("gamma1=1" + "0" * 400, "gamma1 is inf; it must be positive"),
        ("gamma1=-1" + "0" * 400, "gamma1 is -inf; it must be positive"),
        ("steps=" + "x" * 5000, "'steps' expected int, got str"),
        ("phase=[gan]", r"phase is \['gan'\]; it must be one of"),
        ("phase=null", "phase is None; it must be one of"),
        ("augmentation=[blur]", r"'augmentation\[0\]' expected one of \('color', 'translation', 'cutout'\), got blur"),
        ("data.max_words=few", "'data.max_words' expected int, got str"),
        ("model_config.noise_dim=0", "model_config.noise_dim is 0; it must be at least 1 and at most 65,536"),
        ("model_config.image_size=16777216", "model_config.image_size is 16777216; it must be .* at most 4,096"),
        (
            "model_config.text_config.hidden_size=-2",
            "model_config.text_config.hidden_size is -2; it must be at least 1",
        ),
        ("loss_weights.d_adv=null", "loss_weights lacks 'd_adv', without which phase 'gan' trains nothing"),
        (
            "loss_weights.g_adv=null loss_weights.pixels=null loss_weights.words=null loss_weights.sent=null "
            "loss_weights.supcon=null pixel_draws=1",
            "loss_weights names no term of the generator, which would not train: add 'g_adv'",
        ),
        (
            "best_metric=recall@5",
            "best_metric is 'recall@5', but phase 'gan' evaluates frechet_encoder, recall@1,.*did you mean 'recall@1'",
        ),
        ("steps", "'steps' is no override"),
        ("steps=[", "not valid YAML"),
        ("data=3", "data is 3; it must be a mapping"),
    ],
)
def test_mistakes_are_named(override, message):
    with pytest.raises(ValueError, match=message) as error:
        load_recipe("ssagan-emoji", RECIPES, override.split(" "))
    assert len(str(error.value)) < 450


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"image_sise": 64}, "model_config has no key 'image_sise'.*did you mean 'image_size'"),
        ({"text_config": {"hiden_size": 4}}, "model_config.text_config has no key 'hiden_size'"),
        ({"image_size": "big"}, "image_size"),
        ({"image_size": 48}, "image_size is 48"),
    ],
)
def test_architecture_mistakes_are_named(values, message):
    with pytest.raises(ValueError, match=message):
        build_model_config(GANS["ssagan"].config, values)


def test_every_field_is_read_somewhere():
    """As an attribute of something called recipe, data or evaluation; a message is not enough."""
    trees = [ast.parse(path.read_text()) for path in (ROOT / "t2i_supcon" / "training").glob("*.py")]
    found = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    owners = ("recipe", "data", "evaluation")
    read = {node.attr for node in found if ast.unparse(node.value).rpartition(".")[2] in owners}
    for recipe_class in (EncoderRecipe, GANRecipe, DataRecipe, EvaluationRecipe):
        unread = {field.name for field in dataclasses.fields(recipe_class)} - read - {"phase"}
        assert not unread, f"nothing reads {unread}"


def test_shipped_recipes_are_yaml_mappings_with_a_first_line_that_says_what_they_are():
    for name in NAMES:
        text = (RECIPES / f"{name}.yaml").read_text()
        assert text.startswith("# ") and isinstance(yaml.safe_load(text), dict)
