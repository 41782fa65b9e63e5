"""A network's layers by name, and what they answer while it works."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from training.errors import TrainingError, nearest


@contextmanager
def watching(network: nn.Module, names: Iterable[str]) -> Iterator[dict[str, Tensor]]:
    """While it is entered, every pass through `network` leaves each named layer's output in the yielded table.

    Of a layer that is called several times (torchvision's ResNets share a ReLU), the last output stays.
    """
    seen: dict[str, Tensor] = {}

    def keep(name: str, out: object) -> object:
        if not isinstance(out, Tensor):
            return None
        seen[name] = out
        return out.clone()  # what follows may work in place: `out += identity`, ReLU(inplace=True)

    hooks = [
        layer(network, name).register_forward_hook(lambda _, __, out, name=name: keep(name, out)) for name in names
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def layer(network: nn.Module, name: str) -> nn.Module:
    """The layer of that dotted name. Raises TrainingError for an unknown one."""
    known: dict[str, nn.Module] = dict(network.named_modules())
    if not name or name not in known:
        raise TrainingError(f'there is no layer "{name}"', nearest(name, [each for each in known if each]))
    return known[name]
