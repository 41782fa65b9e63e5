"""A network that is taken apart answers as the whole did, or is refused."""

import pytest
import torch
from torch import Tensor, nn

from training.errors import TrainingError
from training.models.heads import Network, with_own_head


class Whole(nn.Module):
    """A network as a zoo has it: `after` comes behind its last layer."""

    def __init__(self, after: nn.Module) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 4))
        self.last, self.after = nn.Linear(4, 5), after

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.after(self.last(self.features(x)))
        return logits

    def split(self) -> Network:
        return Network(self.features, 4, 5)


def test_the_last_layer_comes_back_as_the_head() -> None:
    torch.manual_seed(0)
    whole = Whole(nn.Identity())
    image = torch.rand(2, 3, 8, 8)
    assert torch.allclose(with_own_head(whole, whole.last, whole.split, 8)(image), whole(image))


@pytest.mark.parametrize("after", [nn.Softmax(dim=1), nn.Threshold(0.0, 0.0)])
def test_what_is_more_than_a_last_layer_is_refused(after: nn.Module) -> None:
    torch.manual_seed(0)
    whole = Whole(after)
    with pytest.raises(TrainingError, match="not one linear layer behind all else"):
        with_own_head(whole, whole.last, whole.split, 8)
