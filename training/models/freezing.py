"""A network's stages, from its input to its head: what is frozen, and what is trained at which rate."""

from collections.abc import Iterator

from torch import nn

from training.console.terminal import count
from training.errors import TrainingError
from training.models.heads import Network

# No stages but what holds them: torchvision's two parts, and what has nearly all parameters, like an encoder.
_HOLDERS, _NEARLY_ALL = ("features", "classifier"), 0.9


def stages(network: Network) -> list[list[nn.Module]]:
    """The modules of `features` in order, split before each that has a weight matrix; the head is not among them."""
    found: list[list[nn.Module]] = []
    for module in _opened(network.features, _NEARLY_ALL * _count(network.features)):
        if not found or any(parameter.ndim > 1 for parameter in module.parameters()):
            found.append([])
        found[-1].append(module)
    return found


def _opened(module: nn.Module, limit: float) -> Iterator[nn.Module]:
    for name, child in module.named_children():
        if any(child.children()) and (name in _HOLDERS or _count(child) > limit):
            yield from _opened(child, limit)
        else:
            yield child


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def freeze(network: Network, unfrozen: int | None) -> None:
    """Let only the head and the last `unfrozen` stages learn; None lets everything learn. Raises TrainingError."""
    if unfrozen is not None and unfrozen > len(stages(network)):
        raise TrainingError(
            f"this network has {count(len(stages(network)), 'stage')}, not {unfrozen}", "leave unfrozen_stages out"
        )
    network.requires_grad_(unfrozen is None)
    for module in unfrozen_modules(network, unfrozen):
        module.requires_grad_(True)


def train_mode(network: Network, unfrozen: int | None, freeze_batch_norm: bool) -> None:
    """Training mode, but for what is frozen: batch statistics of the new images would undo what it learnt.

    `freeze_batch_norm` keeps the statistics of what does learn as well: for batches too small to measure them.
    """
    network.train()
    if unfrozen is not None:
        network.features.eval()
        for module in unfrozen_modules(network, unfrozen):
            module.train()
    if freeze_batch_norm:
        for module in network.features.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.eval()


def unfrozen_modules(network: Network, unfrozen: int | None) -> list[nn.Module]:
    """The head and the last `unfrozen` stages; None: all of them."""
    found = stages(network)
    last = found if unfrozen is None else found[max(0, len(found) - unfrozen) :]
    return [network.head, *(module for stage in last for module in stage)]
