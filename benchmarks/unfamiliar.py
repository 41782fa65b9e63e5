"""Which score tells images of other things best: `python -m benchmarks.unfamiliar MODEL DATA [--others FOLDER ...]`, a
table in Markdown (docs/unfamiliar.md), a minute of CPU.

MODEL is a run or an artifact whose head is linear; DATA has train/ and test/ with class folders. Familiar are test's
images of the classes that MODEL knows. Other things are test's images of classes that it does not know, scikit-learn's
digits, drawn textures, and squares cut at random from the photographs of each FOLDER; all first as small as DATA's
images, or sharpness would give them away. Every score is low for what is familiar; those of features know train's.
Of an artifact a second table says what doubt fitted on its val, which is found in DATA's train/, does on test.
"""

import argparse
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.special import log_softmax, logsumexp, softmax
from sklearn.covariance import LedoitWolf
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from app import engines
from app.artifact import manifest
from app.artifact.decoder.decode import decode
from app.artifact.doubt import score_of
from training.data import pixels
from training.data.source import index, select
from training.models.heads import Pooled
from training.runs.trained_model import RECORDED, TrainedModel, is_artifact
from training.variants import doubt
from training.variants.proof import answers_of

Floats = NDArray[np.float32]
_NEIGHBOURS = 10
_FALSE_ALARMS = 0.05


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def digits(count: int) -> Iterator[Image.Image]:
    """8 x 8 grey levels, enlarged by the decoder."""
    for grey in load_digits().images[:count]:
        yield Image.fromarray((grey * 255 / 16).astype(np.uint8)).convert("RGB")


def textures(count: int, size: int = 96) -> Iterator[Image.Image]:
    """Waves, checks and coloured noise of many scales, in two colours each."""
    generator = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size] / size
    for number in range(count):
        (sin, cos), scale = np.sin(generator.uniform(0, 7) + np.array([0, 1.57])), 2 ** generator.uniform(1, 5)
        along, across = scale * (cos * x + sin * y), scale * (cos * y - sin * x)
        noise = Image.fromarray(generator.integers(0, 256, (int(scale) + 2,) * 2, dtype=np.uint8)).resize((size, size))
        shade = (
            (1 + np.sin(6.28 * along)) / 2,
            (np.floor(along) + np.floor(across)) % 2,
            np.asarray(noise) / 255,
            (1 + np.sin(6.28 * np.hypot(along, across))) / 2,
        )[number % 4]
        light, dark = generator.integers(0, 256, (2, 3))
        yield Image.fromarray((shade[..., None] * light + (1 - shade[..., None]) * dark).astype(np.uint8))


def crops(folder: Path, count: int) -> Iterator[Image.Image]:
    """Squares of a third to all of the shorter side, of each photograph as many."""
    generator = np.random.default_rng(0)
    paths = sorted(path for path in folder.iterdir() if path.suffix in (".jpg", ".png"))
    for number in range(count):
        with Image.open(paths[number % len(paths)]) as opened:
            image = opened.convert("RGB")
        side = int(min(image.size) * generator.uniform(1 / 3, 1))
        left, top = (int(generator.uniform(0, most - side + 1)) for most in image.size)
        yield image.crop((left, top, left + side, top + side))


class Answers:
    """Of N images: `pooled` float32[N, D], `logits` float32[N, K], `places` float32[N, K, h * w]: logits of each."""

    def __init__(self, model: TrainedModel, pixels: NDArray[np.uint8]) -> None:
        network = model.network
        assert isinstance(network, Pooled)
        assert isinstance(network.head, torch.nn.Linear)
        weight, bias = network.head.weight, network.head.bias
        pooled, places = [], []
        with torch.inference_mode():
            for start in range(0, len(pixels), 32):
                features = network.features(model.normalise(torch.from_numpy(pixels[start : start + 32]))).flatten(2)
                pooled.append(features.mean(dim=2))
                places.append(torch.einsum("kc,ncp->nkp", weight, features) + bias[:, None])
        self.pooled: Floats = torch.cat(pooled).numpy()
        self.places: Floats = torch.cat(places).numpy()
        self.logits: Floats = self.places.mean(axis=2)


def scores(train: Answers, labels: NDArray[np.int64], model: TrainedModel) -> dict[str, Callable[[Answers], Floats]]:
    """Name -> what gives float[N], high for what looks unfamiliar."""
    t = model.temperature
    classes = np.unique(labels)
    means = np.stack([train.pooled[labels == label].mean(axis=0) for label in classes])
    precision = LedoitWolf().fit(train.pooled - means[np.searchsorted(classes, labels)]).precision_

    def mahalanobis(of: Answers) -> Floats:
        apart = of.pooled[:, None] - means
        return np.asarray(np.einsum("nkd,de,nke->nk", apart, precision, apart, optimize=True).min(axis=1))

    def directions(of: Answers) -> Floats:
        return np.asarray(of.pooled / np.linalg.norm(of.pooled, axis=1, keepdims=True))

    near = NearestNeighbors(n_neighbors=_NEIGHBOURS).fit(directions(train))
    origin = -np.linalg.pinv(model.network.head.weight.numpy()) @ model.network.head.bias.numpy()
    centred = train.pooled - origin
    width = centred.shape[1]
    kept = width // 2 if width < 1000 else 512  # of the directions with most variance, as the authors choose
    rest = np.linalg.eigh(centred.T @ centred)[1][:, : width - kept]

    def residual(of: Answers) -> Floats:
        return np.asarray(np.linalg.norm((of.pooled - origin) @ rest, axis=1))

    alpha = float(train.logits.max(axis=1).mean() / residual(train).mean())
    return {
        "1 - probability": lambda of: -softmax(of.logits, axis=1).max(axis=1),
        "entropy": lambda of: -(softmax(of.logits, axis=1) * log_softmax(of.logits, axis=1)).sum(axis=1),
        "max logit": lambda of: -of.logits.max(axis=1),
        "energy": lambda of: -logsumexp(of.logits, axis=1),
        "energy at T": lambda of: -t * logsumexp(of.logits / t, axis=1),
        "max logit of a place": lambda of: -of.places.max(axis=(1, 2)),
        "energy of places": lambda of: -logsumexp(of.places, axis=1).max(axis=1),
        "Mahalanobis": mahalanobis,
        "neighbours": lambda of: near.kneighbors(directions(of))[0][:, -1],
        "ViM": lambda of: alpha * residual(of) - logsumexp(of.logits, axis=1),
    }


def promises(artifact: Path, folder: Path) -> None:
    """What an export today would say of the artifact's variants."""
    described, recorded = manifest.load(artifact), json.loads((artifact / RECORDED).read_text())
    sets = {}
    for split, part in (("val", "train"), ("test", "test")):
        data = select(index(str(folder / part)), split, recorded[split])
        found = pixels.load(data, split, described.input)
        here = np.array([described.labels.index(label) if label in described.labels else -1 for label in data.labels])
        sets[split] = replace(found, labels=here[found.labels])  # DATA may have classes that the model does not know
    loaded = {
        name: engines.load(name, artifact / variant.file, "cpu", 1) for name, variant in described.variants.items()
    }
    on_val = {name: answers_of(engine, sets["val"]) for name, engine in loaded.items()}
    fitted = doubt.fit(sets["val"].labels, list(on_val.values()), score_of(described.heatmap))
    print(f"\nfitted on {fitted.n:,} images of val: {fitted.model_dump_json(exclude={'n'})}\n")
    head = ("variant", "n of test", "unfamiliar", "accepted", "right of these", "coverage", "labels in a set")
    print(f"| {' | '.join(head)} |\n{'|---' * len(head)}|")
    for name, engine in loaded.items():
        said = doubt.measure(fitted, "test", sets["test"].labels, answers_of(engine, sets["test"]), 1.0)
        shares = (said.unfamiliar, said.accepted, said.right, said.coverage, said.set_size)
        print(f"| {name} | {said.n:,} | {' | '.join('-' if share is None else f'{share:.4f}' for share in shares)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--others", type=Path, nargs="*", default=[], help="folders of photographs of other things")
    parser.add_argument("--images", type=int, default=100, help="of each class; of other things four times as many")
    asked = parser.parse_args()
    model, few, many = TrainedModel.load(asked.model), asked.images, 4 * asked.images

    def answers(files: list[Path]) -> Answers:
        return Answers(model, np.stack([decode(path.read_bytes(), model.input).pixels for path in files]))

    def drawn(images: Iterator[Image.Image]) -> Answers:
        pixels = [decode(_png(image.resize(size, Image.Resampling.LANCZOS)), model.input).pixels for image in images]
        return Answers(model, np.stack(pixels))

    def files(split: str, label: str) -> list[Path]:
        return sorted((asked.data / split / label).iterdir())[:few]

    unknown = sorted({folder.name for folder in (asked.data / "test").iterdir()} - set(model.labels))
    with Image.open(files("test", model.labels[0])[0]) as opened:
        size = opened.size
    train = [(path, number) for number, label in enumerate(model.labels) for path in files("train", label)]
    known = answers([path for path, _ in train])
    measures = scores(known, np.array([number for _, number in train]), model)
    familiar = answers([path for label in model.labels for path in files("test", label)])
    others = {"digits": drawn(digits(many)), "textures": drawn(textures(many))}
    others |= {folder.name: drawn(crops(folder, many)) for folder in asked.others}
    if unknown:
        others = {"classes left out": answers([path for label in unknown for path in files("test", label)])} | others
    print(f"familiar: {len(familiar.logits):,} images of {len(model.labels)} classes; left out: {unknown}\n")
    print(f"| AUROC (found at 5 % false alarms) | {' | '.join(others)} | mean |")
    print("|---" * (len(others) + 2) + "|")
    for name, measure in measures.items():
        low, cells, areas = measure(familiar), [], []
        line = np.quantile(low, 1 - _FALSE_ALARMS)
        for other in others.values():
            high = measure(other)
            truth = np.repeat([0, 1], [len(low), len(high)])
            areas.append(float(roc_auc_score(truth, np.concatenate([low, high]))))
            cells.append(f"{areas[-1]:.3f} ({(high > line).mean():.2f})")
        print(f"| {name} | {' | '.join(cells)} | {np.mean(areas):.3f} |")
    if is_artifact(asked.model):
        promises(asked.model, asked.data)


if __name__ == "__main__":
    main()
