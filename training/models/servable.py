"""The graph that is served: raw pixels in, probabilities out, with everything the network needs in between."""

import copy
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.models.heads import Pooled

LUMA = (0.299, 0.587, 0.114)  # Rec. 601


class Outputs(NamedTuple):
    """probabilities float32[N, K], logits float32[N, K] before the temperature, heatmap float32[N, K, h, w] or None."""

    probabilities: Tensor
    logits: Tensor
    heatmap: Tensor | None


class Normalise(nn.Module):
    """RGB 0..255, [N, H, W, 3] -> float32[N, C, H, W], channel by channel (x / 255 - mean) / std; with `enlarge` made
    so many pixels wide and high, bilinearly."""

    def __init__(self, mean: Sequence[float], std: Sequence[float], enlarge: int = 0) -> None:
        super().__init__()
        self.enlarge = enlarge
        self.grey = len(mean) == 1
        self.luma: Tensor
        self.scale: Tensor
        self.offset: Tensor
        for name, values in (
            ("luma", torch.tensor(LUMA)),
            ("scale", 1 / (255 * torch.tensor(std))),
            ("offset", torch.tensor(mean) / torch.tensor(std)),
        ):
            self.register_buffer(name, values[:, None, None], persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Any dtype with values 0..255; the result is channels-last in memory."""
        # permuted first: with its three channels last, ONNX Runtime takes 15 times as long to normalise an image
        x = pixels.permute(0, 3, 1, 2).float()
        if self.grey:
            x = (x * self.luma).sum(dim=1, keepdim=True)
        x = x * self.scale - self.offset
        if self.enlarge:
            x = F.interpolate(x, (self.enlarge, self.enlarge), mode="bilinear", align_corners=False)
        return x


class Servable(nn.Module):
    """A network with its normalisation before it, and temperature, softmax and class activation maps behind it.

    The eager form of this module is the checkpoint that every exported variant must agree with.
    Temperature scaling: Guo et al. 2017, arXiv:1706.04599. Activation maps: Zhou et al. 2016, arXiv:1512.04150,
    here with the bias, so that the mean over h, w of a class's map is its logit.
    """

    def __init__(self, network: nn.Module, normalise: Normalise, temperature: float = 1.0) -> None:
        super().__init__()
        self.normalise = copy.deepcopy(normalise).to("cpu")
        self.network = copy.deepcopy(network).float().to("cpu").eval().requires_grad_(False)
        self.temperature = temperature
        self.eval()

    def forward(self, pixels: Tensor) -> Outputs:
        """uint8[N, H, W, 3] RGB at the model's input size -> Outputs."""
        x = self.normalise(pixels)
        heatmap = None
        head = self.network.head if isinstance(self.network, Pooled) else None
        if isinstance(head, nn.Linear):
            features: Tensor = self.network.features(x)  # type: ignore[operator]
            logits = head(features.mean(dim=(2, 3)))
            heatmap = torch.einsum("kc,nchw->nkhw", head.weight, features) + head.bias[:, None, None]
        else:
            logits = self.network(x)
        return Outputs(torch.softmax(logits / self.temperature, dim=1), logits, heatmap)
