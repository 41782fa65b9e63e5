"""What lies in a data set's folder: image files and subfolders, without what systems and other programs leave there."""

import os
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from app.artifact.decoder.header import ImageError, kind_of
from training.data.folders import names
from training.errors import TrainingError, reason

# Such a file was meant as an image: if it cannot be read, that is said. Any other is one if its bytes say so.
_CALLED_IMAGE = re.compile(
    r"\.(?:jpe?g|jpe|jfif|png|gif|bmp|dib|webp|tiff?|hei[cf]|avif|jxl|jp2|j2k|psd|svg|ico|tga|p[pgbn]m|exr|hdr|dcm"
    r"|dng|cr[23]|nef|arw|orf|raf|rw2)",
    re.IGNORECASE,
)
_HEAD_BYTES = 64  # what `kind_of` looks at
# Of macOS, Windows, NAS systems (Synology, QNAP), file systems, Python; whatever begins with a dot goes as well.
_SYSTEM_FOLDERS = frozenset(
    {"__macosx", "network trash folder", "temporary items", "$recycle.bin", "system volume information", "@eadir"}
    | {"#recycle", "#snapshot", "@recycle", "@tmp", "@recently-snapshot", "lost+found", "lost.dir", "__pycache__"}
)
_FOUND = re.compile(r"found\.\d{3}")  # what chkdsk makes of lost clusters
_SYSTEM_FILES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "picasa.ini", "icon\r"})
_MOST_WAYS = 1000  # that lead to one folder: links among n folders make n! of them

_Identity = tuple[int, int]  # device and inode
_Chain = tuple[_Identity, "_Chain | None"]  # of a folder and those above it


@dataclass
class Folder:
    """`path` is UTF-8 and relative to the root, which is "". `images` and `folders` are sorted; `total` counts the
    images here and below; `others` are files that are no images, by ending; `lost` links that were not followed."""

    path: str
    images: list[str] = field(default_factory=list)
    folders: dict[str, "Folder"] = field(default_factory=dict)
    total: int = 0
    others: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Without the folders above."""
        return self.path.rpartition("/")[2]

    @property
    def filled(self) -> dict[str, "Folder"]:
        """The subfolders that hold images, somewhere."""
        return {name: folder for name, folder in self.folders.items() if folder.total}

    @property
    def flat(self) -> bool:
        """Whether there are images, and all lie here."""
        return bool(self.images) and not self.filled

    def below(self) -> Iterator["Folder"]:
        """This folder and all in it, in the order of their names."""
        left = [self]
        while left:
            folder = left.pop()
            yield folder
            left += reversed(folder.folders.values())

    def paths(self) -> Iterator[str]:
        """Of every image here and below."""
        return (joined(folder.path, image) for folder in self.below() for image in folder.images)


def joined(folder: str, name: str) -> str:
    """The path of what lies in a folder."""
    return "/".join(filter(None, (folder, name)))


def listed(root: Path) -> Folder:
    """Everything below `root`; opens only files that are not called like images. Links are followed.

    Raises TrainingError for a folder that may not be read: how many images it has, nobody knows.
    """
    above: _Chain | None = None
    for parent in reversed(root.resolve().parents):
        above = _identity(parent), above
    top, ways = Folder(""), Counter[_Identity]()
    left = [(top, str(root), above)]
    for folder, where, above in left:
        try:
            with os.scandir(where) as found:
                shown = (entry for entry in found if not entry.name.startswith("."))
                identity, entries = _identity(where), sorted(shown, key=lambda entry: entry.name)
        except OSError as error:
            raise TrainingError(
                f'"{names.text(where)}" cannot be read: {reason(error)}',
                "give yourself the right to read it, or move it out of the data",
            ) from error
        chain = identity, above
        for entry in entries:
            try:
                is_folder = entry.is_dir()
            except OSError:  # links in a circle
                is_folder = False
            folded = entry.name.casefold()
            if not is_folder:
                _add_file(folder, entry)
            elif folded not in _SYSTEM_FOLDERS and not _FOUND.fullmatch(folded):
                name = names.text(entry.name)
                if entry.is_symlink() and _leads_back(entry.path, chain, ways):
                    folder.lost.append(name)
                    continue
                folder.folders[name] = Folder(joined(folder.path, name))
                left.append((folder.folders[name], entry.path, chain))
    for folder, _, _ in reversed(left):
        folder.total = len(folder.images) + sum(each.total for each in folder.folders.values())
    return top


def _leads_back(link: str, chain: _Chain, ways: Counter[_Identity]) -> bool:
    """Whether it leads to one of the folders that it lies in. Raises TrainingError where links multiply a folder."""
    target, above = _identity(link), chain
    ways[target] += 1
    if ways[target] > _MOST_WAYS:
        raise TrainingError(f'more than {_MOST_WAYS:,} links lead to what "{names.text(link)}" names', "remove some")
    step: _Chain | None = above
    while step:
        if step[0] == target:
            return True
        step = step[1]
    return False


def _identity(path: str | Path) -> _Identity:
    status = Path(path).stat()
    return status.st_dev, status.st_ino


def _add_file(folder: Folder, entry: os.DirEntry[str]) -> None:
    path = Path(entry.path)
    is_image = bool(_CALLED_IMAGE.fullmatch(path.suffix))
    with suppress(OSError, ImageError):
        if not is_image and entry.is_file():  # a pipe has no end
            with path.open("rb") as file:
                is_image = bool(kind_of(file.read(_HEAD_BYTES)))
    if is_image:
        folder.images.append(names.text(entry.name))
    elif entry.is_symlink() and not path.exists():
        folder.lost.append(names.text(entry.name))
    elif entry.name.casefold() not in _SYSTEM_FILES:
        folder.others[names.text(path.suffix.lower())] += 1
