"""Photographs without labels, for what needs none: to calibrate INT8, and to compare variants with the checkpoint."""

import io
import re
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from app.artifact.decoder.decode import Preview, decode
from training.data.dataset import Data, Sample
from training.data.folders import listing, names
from training.data.source import reader, require_folder
from training.errors import TrainingError

CALIBRATING, JUDGING = 64, 160  # images that pieces make up for where there are fewer
MOST = 256  # of each
_FEW = 16  # photographs, below which pieces of all calibrate, and other pieces of all judge
_LONGEST = 1024  # pixels of a photograph's side, before a piece is cut from it
_NUMBER = r"#(train|val)-\d+$"  # what a piece has behind its photograph's path
# What the packages of the extra `train` ship beside their code, each with its licence there
_SHIPPED = {
    "sklearn": ("datasets/images/china.jpg", "datasets/images/flower.jpg"),
    "matplotlib": ("mpl-data/sample_data/grace_hopper.jpg",),
}
CREDIT = (
    "china.jpg by danielbuechele and flower.jpg by vultilion (CC BY 2.0, from scikit-learn), "
    "grace_hopper.jpg by the U.S. Navy (public domain, from matplotlib)"
)


def find(source: str | None, seed: int = 0) -> Data:
    """Splits `train`, which calibrates, and `val`, which judges, of the folder `source`, whatever its subfolders are
    called, or of what packages ship. Different photographs are in each; where there are few, other pieces of them:
    a third to all of their area, mirrored or not. All labels are 0: there are none.

    Raises TrainingError where a folder has no image.
    """
    paths, read = _in_folder(source) if source else _shipped()
    order = [paths[place] for place in np.random.default_rng(seed).permutation(len(paths))]
    half = len(order) // 2
    first, second = (order, []) if len(order) < _FEW else (order[half:], order[:half])
    splits = {}
    for name, whole, enough in (("train", first[:MOST], CALIBRATING), ("val", second[:MOST], JUDGING)):
        of = whole or order
        pieces = [f"{of[number % len(of)]}#{name}-{number}" for number in range(enough - len(whole))]
        splits[name] = tuple(Sample(path, 0) for path in (*whole, *pieces))
    return Data(source or "photographs that installed packages ship", (), splits, _with_pieces(read))


def count(data: Data) -> tuple[int, int]:
    """How many photographs there are, and how many images with their pieces."""
    paths = [sample.path for split in data.splits.values() for sample in split]
    return len({re.sub(_NUMBER, "", path) for path in paths}), len(paths)


def _in_folder(source: str) -> tuple[list[str], Callable[[str], bytes]]:
    require_folder(Path(source), source)
    found = listing.listed(Path(source))
    paths = list(found.paths())
    if not paths:
        raise TrainingError(f'"{names.text(source)}" has no images', "name a folder with photographs: --data FOLDER")
    return paths, reader(str(Path(source).resolve()))


def _shipped() -> tuple[list[str], Callable[[str], bytes]]:
    files: dict[str, Path] = {}
    for package, inside in _SHIPPED.items():
        spec = find_spec(package)
        folder = Path(str(spec and spec.origin)).parent
        files |= {path.name: path for path in map(folder.joinpath, inside) if path.is_file()}
    if not files:  # packagers may leave them out
        raise TrainingError("no installed package has photographs", "name a folder with some: --data FOLDER")
    return list(files), lambda name: files[name].read_bytes()


def _with_pieces(read: Callable[[str], bytes]) -> Callable[[str], bytes]:
    """`read`, also of what is a piece: as a BMP, so that its bytes hang on no compressor's version."""

    @cache
    def whole(path: str) -> Image.Image:
        return Image.fromarray(decode(read(path), Preview(_LONGEST)).pixels)

    def read_piece(path: str) -> bytes:
        piece_of = re.sub(_NUMBER, "", path)
        if piece_of == path:
            return read(path)
        image = whole(piece_of)
        generator = np.random.default_rng(list(path.encode()))
        share, shape = generator.uniform(1 / 3, 1), np.exp(generator.uniform(-1, 1) * np.log(4 / 3))
        area = share * image.width * image.height
        width = min(image.width, max(1, round((area * shape) ** 0.5)))
        height = min(image.height, max(1, round((area / shape) ** 0.5)))
        left, top = generator.integers(image.width - width + 1), generator.integers(image.height - height + 1)
        piece = image.crop((int(left), int(top), int(left) + width, int(top) + height))
        if generator.random() < 0.5:
            piece = piece.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        buffer = io.BytesIO()
        piece.save(buffer, "BMP")
        return buffer.getvalue()

    return read_piece
