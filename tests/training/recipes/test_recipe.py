"""Recipes: flat TOML keys, overrides, and errors that name what was meant."""

from pathlib import Path

import pytest

from training.errors import TrainingError
from training.models.registry import MODELS
from training.recipes import recipe

MINIMAL = 'model = "residual-cnn"\ninput_size = 16\nepochs = 2\noptimizer = "sgd"\nlr = 0.1\nschedule = "cosine"\n'


@pytest.mark.parametrize("name", recipe.names())
def test_every_shipped_recipe_loads_and_names_a_registered_model(name: str) -> None:
    assert recipe.load(name).model in MODELS


def test_an_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(TrainingError, match='there is no recipe "digit"') as refusal:
        recipe.load("digit")
    assert refusal.value.hint == 'did you mean "digits"?'


def test_an_unlike_recipe_name_lists_all() -> None:
    with pytest.raises(TrainingError) as refusal:
        recipe.load("zzzz")
    assert all(name in refusal.value.hint for name in recipe.names())


def test_a_recipe_can_be_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(MINIMAL + "weight_decay = 5e-4\n")
    loaded = recipe.load(str(file))
    assert (loaded.model, loaded.epochs, loaded.weight_decay) == ("residual-cnn", 2, 0.0005)


def test_a_file_that_is_no_toml_says_so(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("model: residual-cnn\n")
    with pytest.raises(TrainingError, match="is not TOML"):
        recipe.load(str(file))


def test_an_unknown_key_names_the_nearest() -> None:
    with pytest.raises(TrainingError, match='"learning_rat" is no recipe key'):
        recipe.load("digits", ["learning_rat=1"])
    with pytest.raises(TrainingError) as refusal:
        recipe.load("digits", ["epoch=1"])
    assert refusal.value.hint == 'did you mean "epochs"?'


@pytest.mark.parametrize(
    "override",
    ["epochs=0", "epochs=many", "lr=0", "lr=-1", "batch_size=1", "optimizer=lion", "channels=2", "val_fraction=1"],
)
def test_a_bad_value_is_named_with_its_key(override: str) -> None:
    key, _, value = override.partition("=")
    with pytest.raises(TrainingError, match=rf"recipe key {key}: .*{value}"):
        recipe.load("digits", [override])


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(MINIMAL.replace("lr = 0.1\n", ""))
    with pytest.raises(TrainingError, match="recipe key lr"):
        recipe.load(str(file))


def test_overrides_are_toml_values_or_bare_words() -> None:
    texts = ["epochs=3", "lr=1e-3", "flip=true", "jitter=[0.1, 0.2, 0.3]", "optimizer=adam", 'schedule="cosine"']
    loaded = recipe.load("digits", texts)
    assert (loaded.epochs, loaded.lr, loaded.flip) == (3, 0.001, True)
    assert (loaded.jitter, loaded.optimizer, loaded.schedule) == ((0.1, 0.2, 0.3), "adam", "cosine")


def test_an_override_changes_only_its_key() -> None:
    assert recipe.load("digits", ["epochs=99"]) == recipe.load("digits").model_copy(update={"epochs": 99})


def test_an_override_without_a_value_says_how_to_write_one() -> None:
    with pytest.raises(TrainingError, match='"epochs" is not key=value') as refusal:
        recipe.load("digits", ["epochs"])
    assert "--set epochs=10" in refusal.value.hint


def test_a_recipe_survives_json() -> None:
    loaded = recipe.load("residual-cnn-adam")
    assert recipe.parse(loaded.model_dump(mode="json")) == loaded


@pytest.mark.parametrize("override", ["cutout=17", "crop_padding=17"])
def test_what_is_larger_than_the_image_is_refused(override: str) -> None:
    key, _, value = override.partition("=")
    with pytest.raises(TrainingError, match=f"{key} {value} is larger than the image, whose input_size is 16"):
        recipe.load("digits", [override])


@pytest.mark.parametrize("override", ["rotation=181", "hue=0.6", "resized_crop=1", "erasing=1.5", "balance=both"])
def test_augmentation_beyond_its_range_is_refused(override: str) -> None:
    key, _, value = override.partition("=")
    with pytest.raises(TrainingError, match=rf"recipe key {key}: .*{value}"):
        recipe.load("digits", [override])


def test_a_nested_key_names_its_own_nearest() -> None:
    with pytest.raises(TrainingError, match=r'"phases\.0\.unfrozen" is no recipe key') as refusal:
        recipe.load("progressive-unfreezing", ["phases=[{share=1, lr=1e-3, unfrozen=1}]"])
    assert refusal.value.hint == 'did you mean "unfrozen_stages"?'


@pytest.mark.parametrize("override", ["lr=0.5", "unfrozen_stages=3", "schedule=onecycle"])
def test_what_phases_decide_is_not_set_beside_them(override: str) -> None:
    with pytest.raises(TrainingError, match="is a matter of this recipe's phases"):
        recipe.load("progressive-unfreezing", [override])


def test_phases_need_an_epoch_each() -> None:
    with pytest.raises(TrainingError, match="3 phases need an epoch each") as refusal:
        recipe.load("progressive-unfreezing", ["epochs=2"])
    assert refusal.value.hint == "--set epochs=3"
