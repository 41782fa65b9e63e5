"""A file that is not accepted is refused by the name of what it is, whatever its name or type says."""

import base64
import bz2
import gzip
import io
import json
import lzma
import pickle
import struct
import tarfile
import time
import warnings
import zipfile

import numpy as np
import pytest
from PIL import Image

from app.artifact.decoder import unsupported
from app.artifact.decoder.decode import ACCEPTED, UnsupportedImage, decode
from tests.images import drawing, encode, spec

JPEG, PNG, GIF = (encode(drawing(90, 70), kind) for kind in ("JPEG", "PNG", "GIF"))
BASE64 = base64.b64encode(JPEG)
FORM = b'--XbX\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n\r\n' + JPEG + b"\r\n--XbX--\r\n"
SVG = b"<svg xmlns='http://www.w3.org/2000/svg'/>"


def iso(major: bytes, *compatible: bytes) -> bytes:
    """An ISO media file's first box, and some of its second."""
    return struct.pack(">I", 16 + 4 * len(compatible)) + b"ftyp" + major + bytes(4) + b"".join(compatible) + bytes(64)


def tiff(order: str, *tags: tuple[int, int, int], rest: bytes = bytes(200)) -> bytes:
    """A TIFF whose first directory has these tags: (number, type, value)."""
    head = {"<": b"II*\x00", ">": b"MM\x00*"}[order] + struct.pack(f"{order}IH", 8, len(tags))
    fields = [
        struct.pack(f"{order}HHI", tag, kind, 1)
        + struct.pack(f"{order}HH" if kind == 3 else f"{order}I", value, *[0] * (kind == 3))
        for tag, kind, value in tags
    ]
    return head + b"".join(fields) + rest


def archive(kind: str) -> bytes:
    file = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(file, "w") as into:
            into.writestr("cat.jpg", JPEG)
    else:
        with tarfile.open(fileobj=file, mode="w") as into:
            into.addfile(tarfile.TarInfo("cat.jpg"), io.BytesIO())
    return file.getvalue()


def saved(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


FILES: dict[str, tuple[bytes, str]] = {
    # --- nothing, and little
    "nothing": (b"", "The file has no bytes".lower()),
    "a signature's half": (b"\x89PNG", "no known image type: it has only 4 bytes"),
    "one byte": (b"\xff", "it has only 1 byte;"),
    "zeros": (bytes(50_000), "is empty: 50,000 zero bytes"),
    "noise": (bytes(np.random.default_rng(0).integers(0, 256, 5000, np.uint8)), "no known image type;"),
    # --- text
    "text": (b"I am a cat, says the file named cat.jpg", "no known image type: it is text;"),
    "text of UTF-8, cut in a letter": ("é".encode() * 3000, "no known image type: it is text;"),
    "text of UTF-16": ("I am a cat".encode("utf-16"), "it is text;"),
    "base64": (BASE64, "base64 text of a JPEG: send the bytes"),
    "base64 of a PNG": (base64.b64encode(PNG), "base64 text of a PNG"),
    "base64 with line ends": (base64.encodebytes(JPEG), "base64 text of a JPEG"),
    "base64 with CRLF": (base64.encodebytes(JPEG).replace(b"\n", b"\r\n"), "base64 text of a JPEG"),
    "base64 behind a mark": (b"\xef\xbb\xbf" + BASE64, "base64 text of a JPEG"),
    "base64 of something": (base64.b64encode(bytes(range(256))), "is base64 text: "),
    "base64 for URLs": (base64.urlsafe_b64encode(bytes(range(256))), "is base64 text: "),
    "base64 in quotes": (b'"' + BASE64 + b'"', "base64 text of a JPEG"),
    "base64 with quotes and line ends": (b"'" + base64.encodebytes(GIF) + b"'\n", "base64 text of a GIF"),
    "hexadecimal text": (JPEG.hex().encode(), "hexadecimal text"),
    "a data URL": (b"data:image/jpeg;base64," + BASE64, "a data URL"),
    "a data URL in quotes": (b'"data:image/png;base64,' + BASE64 + b'"', "a data URL"),
    "a data URL, upper case and without base64": (b"DATA:,hello", "a data URL"),
    "a URL": (b"https://example.com/cat.jpg", "a URL, and this service fetches nothing"),
    "a blob's URL": (b"blob:http://localhost/6f1", "a URL"),
    "a bucket's URL": (b"s3://bucket/cat.jpg\n", "a URL"),
    "a file's name": (b"@cat.jpg", "a file's name"),
    "a path": (b"/home/me/images/cat.JPEG\n", "a file's name"),
    "JSON with a url": (b'{"url": "https://example.com/cat.jpg"}', "is JSON"),
    "JSON with base64": (json.dumps({"instances": [{"b64": BASE64.decode()}]}, indent=2).encode(), "is JSON"),
    "a JSON list of numbers": (json.dumps(list(JPEG)).encode(), "is JSON"),
    "JSON of UTF-16": ('{"url": 1}'.encode("utf-16"), "is JSON"),
    "a URL-encoded form": (b"file=%FF%D8%FF%E0&x=1", "a URL-encoded form"),
    "a URL-encoded form of base64": (b"image=" + BASE64, "a URL-encoded form"),
    "a form under another type": (FORM, "a multipart form under another Content-Type"),
    "a form behind a line end": (b"\r\n" + FORM, "a multipart form"),
    "Python's text of bytes": (str(JPEG).encode(), "the text that Python prints for bytes"),
    "JavaScript's text of an object": (b"[object File]", "the text that JavaScript prints"),
    "short base64 that is padded": (b"aGVsbG8gd29ybGQ=", "no known image type: it is text;"),
    "a pointer of Git LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "Git LFS"),
    # --- images that were text on their way
    "a JPEG read as UTF-8": (JPEG.decode("utf-8", "replace").encode(), "read as UTF-8 text"),
    "a PNG read as UTF-8": (PNG.decode("utf-8", "replace").encode(), "read as UTF-8 text"),
    "a WebP read as UTF-8": (encode(drawing(), "WEBP").decode("utf-8", "replace").encode(), "read as UTF-8 text"),
    "a GIF read as UTF-8": (GIF.decode("utf-8", "replace").encode(), "read as UTF-8 text"),
    "a BMP read as UTF-8": (encode(drawing(), "BMP").decode("utf-8", "replace").encode(), "read as UTF-8 text"),
    "a TIFF read as UTF-8": (encode(drawing(), "TIFF").decode("utf-8", "replace").encode(), "read as UTF-8 text"),
    "a JPEG read as Latin-1": (JPEG.decode("latin-1").encode(), "read as UTF-8 text"),
    "a PNG read as Latin-1": (PNG.decode("latin-1").encode(), "read as UTF-8 text"),
    "a PNG whose CRLF became LF": (PNG.replace(b"\r\n", b"\n"), "a PNG whose line ends were changed"),
    "a PNG as curl -d sends it": (PNG.replace(b"\r", b"").replace(b"\n", b""), "a PNG whose line ends were changed"),
    "a JPEG behind a line end": (b"\n" + JPEG, "a JPEG behind 1 byte of something else"),
    "a PNG behind a mark": (b"\xef\xbb\xbf" + PNG, "a PNG behind 3 bytes of something else"),
    # --- markup
    "HTML": (b"<!DOCTYPE html><html></html>", "is HTML, a web page or a proxy's error"),
    "HTML, old and in lower case": (b'\r\n<!doctype  html PUBLIC "-//W3C//DTD HTML 4.01//EN">', "is HTML"),
    "HTML without a type": (b"<html>\r\n<head><title>502 Bad Gateway</title></head>", "is HTML"),
    "HTML behind a comment": (b"<!-- 404 --> <HTML lang=en>", "is HTML"),
    "HTML in Latin-1": ("<html><body>Não</body>".encode("latin-1"), "is HTML"),
    "XHTML": (b"<?xml version='1.0'?><!DOCTYPE html><html/>", "is HTML"),
    "SVG": (b"\n" + SVG, "is SVG"),
    "SVG, bare": (b"<svg/>", "is SVG"),
    "SVG with a prolog": (b"<?xml version='1.0'?>\n<!-- by me -->\n" + SVG, "is SVG"),
    "SVG with a type": (b'<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "x.dtd" [<!ENTITY a "b">]>\n' + SVG, "is SVG"),
    "SVG behind a mark": (b"\xef\xbb\xbf" + SVG, "is SVG"),
    "SVG of UTF-16": (SVG.decode().encode("utf-16"), "is SVG"),
    "SVG of UTF-16, big-endian": (b"\xfe\xff" + SVG.decode().encode("utf-16-be"), "is SVG"),
    "SVG under a prefix": (b"<svg:svg xmlns:svg='http://www.w3.org/2000/svg'/>", "is SVG"),
    "XML": (b"<?xml version='1.0'?><annotation><size/></annotation>", "is XML"),
    # --- archives
    "gzip": (gzip.compress(JPEG), "is gzip: unpack it, or say Content-Encoding: gzip"),
    "bzip2": (bz2.compress(JPEG), "a bzip2 archive"),
    "xz": (lzma.compress(JPEG), "an xz archive"),
    "Zstandard": (b"\x28\xb5\x2f\xfd\x24\x10" + bytes(9), "a Zstandard archive"),
    "7z": (b"7z\xbc\xaf\x27\x1c\x00\x04", "a 7z archive"),
    "RAR": (b"Rar!\x1a\x07\x01\x00", "a RAR archive"),
    "ZIP": (archive("zip"), "a ZIP archive"),
    "an empty ZIP": (b"PK\x05\x06" + bytes(18), "a ZIP archive"),
    "tar": (archive("tar"), "a tar archive"),
    # --- ISO media files
    "MP4": (iso(b"isom", b"isom", b"iso2", b"avc1", b"mp41"), "an MP4 video"),
    "QuickTime": (iso(b"qt  ", b"qt  "), "a QuickTime video"),
    "QuickTime without a brand": (b"\x00\x00\x00\x08wide\x00\x00\x01\x00mdat", "a QuickTime video"),
    "M4A": (iso(b"M4A ", b"mp42", b"isom"), "M4A audio"),
    "CR3": (iso(b"crx ", b"crx ", b"isom"), "camera RAW (CR3)"),
    "a brand of nobody": (iso(b"zzzz"), "an ISO media file"),
    "a brand of nobody, of a length that is none": (b"\xff\xff\xff\xffftypzzzz", "an ISO media file"),
    **{
        f"HEIC of {brand}": (iso(brand.encode(), b"mif1", b"heic"), "is HEIC;")
        for brand in ["heic", "heix", "heim", "heis", "hevc", "hevx", "hevm", "hevs"]
    },
    "HEIC of a brand that says little": (iso(b"mif1", b"mif1", b"heic", b"MiHE"), "is HEIC;"),
    "HEIC of a sequence": (iso(b"msf1", b"msf1", b"hevc"), "is HEIC;"),
    "HEIC, which is all that is known": (iso(b"mif1"), "is HEIC;"),
    "HEIC that is also AVIF's": (iso(b"heic", b"avif"), "is HEIC;"),
    "AVIF": (iso(b"avif", b"mif1", b"miaf"), "is AVIF;"),
    "AVIF, a sequence": (iso(b"avis", b"msf1"), "is AVIF;"),
    "AVIF of a brand that says little": (iso(b"mif1", b"avif", b"miaf"), "is AVIF;"),
    "AVIF by Pillow": (encode(drawing(), "AVIF"), "is AVIF;"),
    # --- other images
    "PDF": (b"%PDF-1.7\n", "is PDF"),
    "PDF behind junk": (b"\xffjunk\n" * 9 + b"%PDF-1.4\n", "is PDF"),
    "PDF by Pillow": (encode(drawing(), "PDF"), "is PDF"),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0", "is PostScript"),
    "ICO": (encode(drawing(), "ICO"), "is ICO"),
    "PNM": (encode(drawing(), "PPM"), "is PNM"),
    "JPEG 2000": (encode(drawing(), "JPEG2000"), "is JPEG 2000"),
    "a JPEG 2000 codestream": (b"\xff\x4f\xff\x51\x00\x2f", "is JPEG 2000"),
    "JPEG XL": (b"\x00\x00\x00\x0cJXL \r\n\x87\n", "is JPEG XL"),
    "a JPEG XL codestream": (b"\xff\x0a\xfa\x7f\x01", "is JPEG XL"),
    "PSD": (b"8BPS\x00\x01" + bytes(9), "is PSD"),
    "OpenEXR": (b"\x76\x2f\x31\x01\x02\x00\x00\x00", "is OpenEXR"),
    "Radiance HDR": (b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n", "is Radiance HDR"),
    "DDS": (b"DDS \x7c" + bytes(99), "is DDS"),
    "QOI": (b"qoif\x00\x00\x00\x10", "is QOI"),
    "TGA": (encode(drawing(), "TGA"), "is TGA"),
    "DICOM": (bytes(128) + b"DICM" + bytes(99), "is DICOM"),
    "RAF": (b"FUJIFILMCCD-RAW " + bytes(99), "camera RAW (RAF)"),
    "ORF": (b"IIRO\x08\x00\x00\x00" + bytes(99), "camera RAW (ORF)"),
    "RW2": (b"IIU\x00\x18\x00\x00\x00" + bytes(99), "camera RAW (RW2)"),
    "CR2": (b"II*\x00\x10\x00\x00\x00CR\x02\x00" + bytes(99), "camera RAW (CR2)"),
    "DNG": (tiff("<", (254, 4, 1), (50706, 1, 4)), "camera RAW (DNG)"),
    "NEF": (tiff(">", (254, 4, 1), (271, 2, 8), (330, 4, 99)), "is camera RAW;"),
    "PEF": (tiff(">", (262, 3, 32803)), "is camera RAW;"),
    # --- other things
    "AVI": (b"RIFF\x24\x00\x00\x00AVI LIST", "an AVI video"),
    "WAV": (b"RIFF\x24\x00\x00\x00WAVEfmt ", "WAV audio"),
    "WebM": (b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81", "a Matroska or WebM video"),
    "MP3": (b"ID3\x04\x00\x00\x00\x00", "MP3 audio"),
    "a NumPy array": (saved(np.zeros((4, 4, 3))), "a NumPy array"),
    "a pickle": (pickle.dumps([JPEG]), "a Python pickle"),
    "AppleDouble": (b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X" + bytes(99), "AppleDouble"),
    "Thumbs.db": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(99), "such as Thumbs.db"),
}  # fmt: skip


@pytest.mark.parametrize(("file", "words"), FILES.values(), ids=FILES)
def test_a_foreign_file_is_refused_by_its_name(file: bytes, words: str) -> None:
    with pytest.raises(UnsupportedImage) as refusal, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Truncated File Read")  # Pillow's, of a TIFF that is none any more
        decode(file, spec())
    said = str(refusal.value)
    assert words in said
    assert said.endswith(f"; accepted: {', '.join(ACCEPTED)}")
    assert "\n" not in said


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_tiff_with_a_preview_behind_it_or_of_many_pages_is_no_raw(order: str) -> None:
    """Only what comes first counts: Pillow writes the image first, and so do pyramids of scanners."""
    assert unsupported.raw_in_tiff(tiff(order, (254, 4, 0), (262, 3, 2), (330, 4, 99))) == ""
    assert unsupported.raw_in_tiff(tiff(order, (254, 4, 1), (262, 3, 2))) == ""
    assert unsupported.raw_in_tiff(tiff(order)[:9]) == ""
    assert unsupported.raw_in_tiff(tiff(order, (50706, 1, 4))[:12]) == ""


def test_a_tiff_by_pillow_is_none() -> None:
    pages = [Image.new("RGB", (9, 9)), Image.new("RGB", (5, 5))]
    file = io.BytesIO()
    pages[0].save(file, "TIFF", save_all=True, append_images=pages[1:])
    assert unsupported.raw_in_tiff(file.getvalue()) == ""
    assert decode(file.getvalue(), spec()).format == "TIFF"


SLOW = {
    "a comment without an end": b"<!--" * 3000,
    "comments": b"<!---->" * 3000,
    "a type without an end": b"<!doctype " + b" " * 9000,
    "a type of brackets": b"<!doctype a[" + b"] " * 9000,
    "words": b"ab " * 9000,
    "nearly base64": b"A" * 9000 + b"!",
    "nearly Python's bytes": b"b'" + b"\\" * 9000,
    "nearly a form": b"--" + b"-" * 9000,
    "nearly a file's name": b".jpg" * 3000,
    "nearly hexadecimal": b"ff" * 9000 + b"g",
}


@pytest.mark.parametrize("file", SLOW.values(), ids=SLOW)
def test_no_text_takes_long_to_be_named(file: bytes) -> None:
    best = min(_seconds(file) for _ in range(3))
    assert best < 0.02, "a pattern that tries the same again and again"


def _seconds(file: bytes) -> float:
    started = time.perf_counter()
    unsupported.describe(file)
    return time.perf_counter() - started
