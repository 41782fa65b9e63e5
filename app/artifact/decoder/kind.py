"""What a file is, by its first bytes; names and Content-Type are never asked."""

from app.artifact.decoder import unsupported
from app.artifact.decoder.errors import UnsupportedImage

# The values are Pillow's names.
_SIGNATURES = {
    b"\xff\xd8": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"BM": "BMP",
    b"II*\x00": "TIFF",
    b"MM\x00*": "TIFF",
    b"II+\x00": "TIFF",  # BigTIFF
    b"MM\x00+": "TIFF",
}
_BMP_HEADERS = b"\x0c\x10\x28\x34\x38\x40\x6c\x7c"  # sizes of a bitmap's second header
ACCEPTED = ("JPEG", "PNG", "WebP", "BMP", "GIF", "TIFF")
_WANTED = f"accepted: {', '.join(ACCEPTED)}"


def kind_of(data: bytes) -> str:
    """Pillow's name of the file type. Raises UnsupportedImage."""
    for signature, name in _SIGNATURES.items():
        # "BM" alone is too common a beginning
        if data.startswith(signature) and (name != "BMP" or (len(data) > 14 and data[14] in _BMP_HEADERS)):
            if name == "TIFF" and (raw := unsupported.raw_in_tiff(data)):
                raise UnsupportedImage(f"the file is {raw}; {_WANTED}")
            if name == "BMP" and len(data) > int.from_bytes(data[2:6], "little"):
                refuse_text(data)  # its pixels are only moved by it
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    raise UnsupportedImage(f"{unsupported.describe(data)}; {_WANTED}")


def refuse_text(data: bytes) -> None:
    """To be called with a broken file. Raises UnsupportedImage where it is one because it was text on its way."""
    if unsupported.was_text(data):
        raise UnsupportedImage(f"the file is {unsupported.AS_TEXT}; {_WANTED}")
