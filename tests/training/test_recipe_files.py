"""The YAML files of recipes: what is read, what is none, and which there are."""

from pathlib import Path

import pytest

from t2i_supcon.training import load_recipe

RECIPES = Path(__file__).parents[2] / "scripts" / "recipes"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps: 1\nsteps: 2\n", "the key 'steps' stands twice"),
        ("loss_weights: {sent: 1, sent: 2}\n", "the key 'sent' stands twice"),
        ("base: [a, b]\n", "base is .*it must be the name or the path of one recipe"),
        ("base: recipe.yaml\n", "this recipe is its own base"),
        ("base: nowhere\n", "there is no recipe 'nowhere'"),
        ("a: " + "[" * 3000 + "]" * 3000, "nested more than 20 deep"),
        (
            "a: &a [x, x]\n" + "".join(f"{c}: &{c} [*{b}, *{b}, *{b}, *{b}]\n" for b, c in zip("abcdefgh", "bcdefghi")),
            "aliases",
        ),
        ("- steps\n", "a recipe is a mapping"),
        ("", "a recipe is a mapping"),
    ],
)
def test_files_that_are_no_recipe_are_named(text, message, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        load_recipe(str(path), RECIPES)
    assert len(str(caught.value)) < 3000


def test_text_in_another_encoding_is_named(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_bytes("# für\nphase: gan\n".encode("latin-1"))
    with pytest.raises(ValueError, match="recipe.yaml is not UTF-8 text"):
        load_recipe(str(path))


def test_unknown_recipes_list_the_known(tmp_path):
    with pytest.raises(FileNotFoundError, match="no recipe 'ssagan-emojy' .did you mean 'ssagan-emoji'.*damsm-emoji"):
        load_recipe("ssagan-emojy", RECIPES)
    with pytest.raises(FileNotFoundError, match="no recipe file"):
        load_recipe(str(tmp_path / "none.yaml"))


def test_null_over_a_base_means_none_in_data_and_removal_among_weights(tmp_path):
    path = tmp_path / "mine.yaml"  # its base is one of the named recipes
    path.write_text(
        "base: damsm-cub\nsampling: independent\nloss_weights: {supcon: null}\n"
        "data: {name: photos, label_column: null}\nmodel_config: {text_config: {dropout: null}}\n"
    )
    recipe = load_recipe(str(path), RECIPES)
    assert recipe.data.label_column is None and recipe.data.name == "photos"
    assert "supcon" not in recipe.loss_weights and "dropout" not in recipe.model_config.get("text_config", {})
    further = load_recipe("attngan-emoji", RECIPES, ["model_config=null", "init_from=runs/a/model"])
    assert further.model_config == {} and further.init_from == "runs/a/model"
    with pytest.raises(ValueError, match="exclude each other.*: set model_config: null"):
        load_recipe("attngan-emoji", RECIPES, ["init_from=runs/a/model"])
    assert load_recipe("damsm-emoji", RECIPES, ["data.label_column=null"]).data.label_column is None


def test_integers_are_read_as_written(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("phase: encoders\nloss_weights: {sent: 1}\nsteps: 10_000\nseed: 0x10\nlearning_rate: 1e-3\n")
    recipe = load_recipe(str(path))
    assert (recipe.steps, recipe.seed, recipe.learning_rate) == (10_000, 16, 1e-3)
