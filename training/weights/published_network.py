"""A network as its makers publish it: with their weights and for their own classes, trained on nothing here."""

from training.errors import TrainingError
from training.models import registry
from training.recipes import recipe
from training.runs.schema import Origin
from training.runs.trained_model import TrainedModel
from training.weights import published
from training.weights.published import Published

_LIKE = "instant-head"  # the recipe of which it has what it does not say itself; of the size and geometry it says all

_PACKAGED = ", ".join(registry.PACKAGES)


def load(name: str) -> tuple[TrainedModel, Published]:
    """timm/NAME or torchvision/NAME, and what is known of its weights; they are downloaded where they are not here.

    Raises TrainingError for an unknown name, and where the weights or the names of the classes are not to be had.
    """
    found = published.of(registry.require(name))
    if found is None:
        raise TrainingError(f'nobody publishes weights of "{name}"', "a torchvision/ or timm/ model with weights")
    labels, size = found.labels, found.size
    spec = found.input(size)
    geometry = {key: getattr(spec, key) for key in ("channels", "crop_fraction", "interpolation", "fit")}
    own = {"model": name, "weights": "DEFAULT", "input_size": size, **geometry}
    described = recipe.parse(recipe.load(_LIKE).model_dump() | own)
    try:
        state = found.state()
    except TrainingError as error:
        if not found.is_here():  # the hint of `train` names ways that an export does not have
            error.hint = "run it where there is a network, or a network whose weights pip brings: " + _PACKAGED
        raise
    network = registry.published(name, len(labels), size, state)
    origin = Origin(source=found.source, licence=found.licence)
    return TrainedModel(described, labels, spec, network.eval().requires_grad_(False), origin=origin), found
