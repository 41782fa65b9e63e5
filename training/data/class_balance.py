"""Where classes have unequally many images: how much each counts in the loss, or how often each is shown."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def order(labels: NDArray[np.int64], balance: str, random: np.random.Generator) -> NDArray[np.int64]:
    """A shuffle of all images; with `sampling` as many draws with replacement, every class equally likely."""
    n = len(labels)
    if balance != "sampling":
        return random.permutation(n)
    share = 1 / np.bincount(labels)[labels]
    return random.choice(n, size=n, p=share / share.sum())


def class_weights(labels: NDArray[np.int64], balance: str) -> Tensor:
    """float32[K]: all 1, or with `loss` n / (K n_c), whose mean over the images is 1; every class has an image."""
    counts = np.bincount(labels)
    weights = len(labels) / (len(counts) * counts) if balance == "loss" else np.ones(len(counts))
    return torch.from_numpy(weights).float()
