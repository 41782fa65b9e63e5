"""Grad-CAM: where in an image a class's logit comes from (Selvaraju et al. 2016, arXiv:1610.02391)."""

import torch
from torch import Tensor, nn

from training.interpretation.activations import require_maps
from training.interpretation.channel_axis import channel_axes
from training.interpretation.hooks import watching


def grad_cam(network: nn.Module, layer: str, x: Tensor, label: int) -> Tensor:
    """ReLU of the layer's channels, weighted by the mean over places of the logit's gradient: float32[h, w], >= 0.

    `x`: one normalised image, float[1, C, H, W]. Where the head is pooling and one linear layer, and `layer` the last
    before them, this is ReLU(heat map - bias) / (h w) with the heat map of `training.models.servable`.
    Raises TrainingError for a layer without maps.
    """
    axis = channel_axes(network, [layer], x).get(layer)
    with torch.enable_grad(), watching(network, [layer]) as seen:
        logits: Tensor = network(x.detach().clone().requires_grad_())
        maps, axis = require_maps(layer, seen, axis)
        (gradient,) = torch.autograd.grad(logits[0, label], maps, materialize_grads=True)
    gradient, maps = gradient.movedim(axis, 1), maps.movedim(axis, 1)
    weights = gradient.mean(dim=(2, 3), keepdim=True)
    return (weights * maps).sum(dim=1)[0].relu().detach()
