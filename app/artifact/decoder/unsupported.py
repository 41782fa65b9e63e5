"""What a file is that is not accepted, so that the refusal can name what was sent; and, where it helps, what to do."""

import binascii
import codecs
import re
import struct

_NAMES: tuple[tuple[str, int, tuple[bytes, ...]], ...] = (  # what it is, where its signature is, and which it may be
    ("PDF", 0, (b"%PDF",)),
    ("PostScript", 0, (b"%!PS", b"\xc5\xd0\xd3\xc6")),
    ("gzip: unpack it, or say Content-Encoding: gzip", 0, (b"\x1f\x8b",)),
    ("a ZIP archive", 0, (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")),
    ("a bzip2 archive", 0, tuple(b"BZh%d1AY&SY" % level for level in range(1, 10))),
    ("an xz archive", 0, (b"\xfd7zXZ\x00",)),
    ("a Zstandard archive", 0, (b"\x28\xb5\x2f\xfd",)),
    ("an LZ4 archive", 0, (b"\x04\x22\x4d\x18",)),
    ("a 7z archive", 0, (b"7z\xbc\xaf\x27\x1c",)),
    ("a RAR archive", 0, (b"Rar!\x1a\x07",)),
    ("a tar archive", 257, (b"ustar",)),
    ("DICOM", 128, (b"DICM",)),
    ("NIfTI", 344, (b"n+1\x00", b"ni1\x00")),
    ("FITS", 0, (b"SIMPLE  =",)),
    ("PSD", 0, (b"8BPS",)),
    ("GIMP's XCF", 0, (b"gimp xcf",)),
    ("JPEG XL", 0, (b"\xff\x0a", b"\x00\x00\x00\x0cJXL ")),
    ("JPEG 2000", 0, (b"\x00\x00\x00\x0cjP  ", b"\xff\x4f\xff\x51")),
    ("ICO", 0, (b"\x00\x00\x01\x00",)),
    ("TGA or a cursor", 0, (b"\x00\x00\x02\x00", b"\x00\x00\x0a\x00")),
    ("JPEG XR", 0, (b"II\xbc\x01",)),
    ("ICNS", 0, (b"icns",)),
    ("OpenEXR", 0, (b"\x76\x2f\x31\x01",)),
    ("Radiance HDR", 0, (b"#?RADIANCE", b"#?RGBE")),
    ("DDS", 0, (b"DDS ",)),
    ("QOI", 0, (b"qoif",)),
    ("PNM", 0, tuple(b"P%c%c" % (kind, space) for kind in b"1234567Ff" for space in b"\n\r\t #")),
    ("MNG or JNG", 0, (b"\x8aMNG", b"\x8bJNG")),
    ("BPG", 0, (b"BPG\xfb",)),
    ("FLIF", 0, (b"FLIF",)),
    ("DjVu", 0, (b"AT&TFORM",)),
    ("SGI", 0, (b"\x01\xda\x00", b"\x01\xda\x01")),
    ("WMF", 0, (b"\xd7\xcd\xc6\x9a",)),
    ("EMF", 40, (b" EMF",)),
    ("camera RAW (RAF)", 0, (b"FUJIFILMCCD-RAW",)),
    ("camera RAW (ORF)", 0, (b"IIRO", b"IIRS", b"MMOR")),
    ("camera RAW (RW2)", 0, (b"IIU\x00",)),
    ("camera RAW (X3F)", 0, (b"FOVb",)),
    ("camera RAW (MRW)", 0, (b"\x00MRM",)),
    ("camera RAW (CRW)", 6, (b"HEAPCCDR",)),
    ("an AVI video", 8, (b"AVI ",)),
    ("WAV audio", 8, (b"WAVE",)),
    ("a Matroska or WebM video", 0, (b"\x1a\x45\xdf\xa3",)),
    ("an MPEG video", 0, (b"\x00\x00\x01\xba", b"\x00\x00\x01\xb3")),
    ("an FLV video", 0, (b"FLV\x01",)),
    ("a QuickTime video", 4, (b"moov", b"mdat", b"wide", b"pnot")),
    ("Ogg audio or video", 0, (b"OggS",)),
    ("FLAC audio", 0, (b"fLaC",)),
    ("MP3 audio", 0, (b"ID3", b"\xff\xfb", b"\xff\xf3")),
    ("a NumPy array", 0, (b"\x93NUMPY",)),
    ("a Python pickle", 0, tuple(b"\x80%c" % protocol for protocol in range(2, 6))),
    ("HDF5", 0, (b"\x89HDF\r\n\x1a\n",)),
    ("Parquet", 0, (b"PAR1",)),
    ("an SQLite database", 0, (b"SQLite format 3\x00",)),
    ("a program", 0, (b"\x7fELF", b"MZ\x90\x00")),
    ("a compound file of Windows, such as Thumbs.db", 0, (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",)),
    ("AppleDouble, which macOS writes beside the file itself", 0, (b"\x00\x05\x16\x07", b"\x00\x05\x16\x00")),
    ("a pointer of Git LFS: fetch the file itself (git lfs pull)", 0, (b"version https://git-lfs",)),
    ("a PNG whose line ends were changed on the way: send it as binary (curl needs --data-binary)", 0, (b"\x89PNG",)),
)
_ANY_HEIF = {b"mif1", b"mif2", b"msf1", b"heif"}
_BRANDS = (  # of ISO media files, ISO/IEC 14496-12; the first row that has one of the file's decides
    ("AVIF", {b"avif", b"avis"}),
    ("HEIC", {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}),
    ("HEIC", _ANY_HEIF),
    ("camera RAW (CR3)", {b"crx "}),
    ("JPEG XL", {b"jxl "}),
    ("JPEG 2000", {b"jp2 ", b"jpx "}),
    ("a QuickTime video", {b"qt  "}),
    ("M4A audio", {b"M4A ", b"M4B "}),
    ("an MP4 video", {b"isom", b"iso2", b"iso4", b"iso5", b"iso6", b"mp41", b"mp42", b"avc1", b"M4V ", b"dash"}),
    ("a 3GP video", {b"3gp4", b"3gp5", b"3gp6", b"3g2a"}),
)
_INSIDE = ((b"\xff\xd8\xff", "JPEG"), (b"\x89PNG\r\n\x1a\n", "PNG"), (b"GIF8", "GIF"), (b"RIFF", "WebP"))
_HEAD_BYTES, _NEAR_BYTES, _LEAST_BYTES = 4096, 256, 8
_MARKS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))
_URL_SAFE = str.maketrans("-_", "+/")
_REPLACED = "\N{REPLACEMENT CHARACTER}"
_BYTES = "send the bytes of the file"
AS_TEXT = "bytes that were read as UTF-8 text on their way: read and send the file as binary"
_PROLOG = re.compile(
    r"(\s+|<\?.*?\?>|<!--.*?-->|<!doctype\s+(?!\s|html\b)[^\[>]*(\[.*?\]\s*)?>)*", re.DOTALL | re.IGNORECASE
)
_TEXTS = tuple(  # by how it begins, behind what may stand before markup; the first that fits
    (name, re.compile(pattern, re.DOTALL | re.IGNORECASE))
    for name, pattern in (
        ("HTML, a web page or a proxy's error", r"<(!doctype\s+html|html|head|body|script|title)\b"),
        ("SVG", r"<([\w.-]{1,64}:)?svg\b"),
        ("XML", r"<[a-z_][\w.:-]*[\s/>]"),
        ("a multipart form under another Content-Type: say multipart/form-data with its boundary", r"--\S+\s+content-"),
        (f"a data URL: {_BYTES} that its base64 stands for", r"[\"']?data:[\w./+-]*[;,]"),
        (f"a URL, and this service fetches nothing: {_BYTES}", r"[\"']?(blob:)?(https?|ftp|file|s3|gs)://\S"),
        (
            f"a file's name: {_BYTES} (curl needs the @: --data-binary @cat.jpg)",
            r"\S{1,255}\.(jpe?g|png|webp|bmp|gif|tiff?)\s*\Z",
        ),
        (f"the text that Python prints for bytes: {_BYTES}", r"b[\"'].*\\x|bytearray\(b"),
        (f"JSON: {_BYTES}, as they are or in a form", r"[{\[]\s*([\"{\[\]}\d-]|true|false|null)"),
        (
            f"a URL-encoded form: {_BYTES}, as they are or as multipart/form-data",
            r"[a-z_][\w.%\[\]-]{0,63}=[^=\s]\S*\s*\Z",
        ),
        (f"the text that JavaScript prints for an object: {_BYTES}", r"\[object \w+\]|undefined\s*\Z"),
        (f"hexadecimal text: {_BYTES} themselves", r"(0x|\\x)?([0-9a-f]{2}){8,}\s*\Z"),
    )
)
_PLAIN = re.compile(r"[^\x00-\x08\x0e-\x1a\x1c-\x1f\x7f-\x9f]*")
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")
_BASE64_LINE, _SURELY_BASE64 = 40, 200  # characters
_SUBFILE_TYPE, _PHOTOMETRIC, _SUB_FILES, _DNG_VERSION = 254, 262, 330, 50706
_OF_SENSORS = (32803, 34892)  # a colour filter array, linear raw
_MOST_TAGS = 256


def describe(data: bytes) -> str:
    """What the file is, in words that "; accepted: ..." can follow."""
    if not data:
        return "the file has no bytes"
    if not data.strip(b"\x00"):
        return f"the file is empty: {len(data):,} zero bytes"
    if found := _name(data):
        return f"the file is {found}"
    head = _decoded(data[:_HEAD_BYTES])
    about = ": it is text" if head is not None and _PLAIN.fullmatch(head) else ""
    if len(data) < _LEAST_BYTES:
        about = f": it has only {_bytes(len(data))}"
    return f"the file is no known image type{about}"


def raw_in_tiff(data: bytes) -> str:
    """What kind of camera RAW a TIFF is, or empty: of such a one, readers of TIFF see a preview or nothing at all."""
    if data[2:3] == b"+":  # BigTIFF, whose directory is another
        return ""
    if data[8:10] == b"CR":
        return "camera RAW (CR2)"
    order = "<" if data.startswith(b"II") else ">"
    try:
        (place,) = struct.unpack_from(f"{order}I", data, 4)
        (count,) = struct.unpack_from(f"{order}H", data, place)
    except struct.error:
        return ""
    entries = data[place + 2 : place + 2 + 12 * min(count, _MOST_TAGS)]
    tags: dict[int, int] = {}
    for tag, kind, _, value in struct.iter_unpack(f"{order}HHI4s", entries[: len(entries) // 12 * 12]):
        tags[tag] = struct.unpack_from(f"{order}H" if kind == 3 else f"{order}I", value)[0]
    if _DNG_VERSION in tags:
        return "camera RAW (DNG)"
    preview = tags.get(_SUBFILE_TYPE) == 1 and _SUB_FILES in tags  # the first of its images, as in NEF and ARW
    return "camera RAW" if preview or tags.get(_PHOTOMETRIC) in _OF_SENSORS else ""


def was_text(data: bytes) -> bool:
    """Whether a reader of text has put U+FFFD for what is not UTF-8: in a broken file, for a good one may have both."""
    text = _decoded(data[:_HEAD_BYTES])
    return text is not None and _REPLACED in text


def _name(data: bytes) -> str:
    """Empty where nobody knows."""
    if data[4:8] == b"ftyp":
        return _iso(data)
    for name, place, signatures in _NAMES:
        if data.startswith(signatures, place) and len(data) > 4:
            return name
    if b"%PDF-" in data[:1024]:
        return "PDF"
    head = _decoded(data[:_HEAD_BYTES])
    if was_text(data) or (head is not None and head.startswith(("\xff\xd8\xff", "\x89PNG"))):
        return AS_TEXT
    return _written(head if head is not None else data[:_HEAD_BYTES].decode("latin-1")) or _behind(data)


def _iso(data: bytes) -> str:
    """By the brand that it is foremost; mif1 and the like only say that it is an image, and others of which kind."""
    length = min(int.from_bytes(data[:4]), _NEAR_BYTES)
    brands = {data[place : place + 4] for place in range(16, length, 4)} | {data[8:12]}
    for looked_at in ({data[8:12]} - _ANY_HEIF, brands):
        for name, known in _BRANDS:
            if not known.isdisjoint(looked_at):
                return name
    return "an ISO media file"


def _decoded(head: bytes) -> str | None:
    """As text, without its mark; None where it is none. The last letter may be cut in two."""
    mark, encoding = next(((mark, encoding) for mark, encoding in _MARKS if head.startswith(mark)), (b"", "utf-8"))
    try:
        return codecs.getincrementaldecoder(encoding)().decode(head[len(mark) :])
    except UnicodeDecodeError:
        return None


def _written(text: str) -> str:
    """What a text is for, or empty."""
    prolog = _PROLOG.match(text)
    text = text[prolog.end() if prolog else 0 :]
    if found := next((name for name, pattern in _TEXTS if pattern.match(text)), ""):
        return found
    lines = text.strip(" \t\r\n\"'").translate(_URL_SAFE).split()
    if not lines or min(map(len, lines[:-1]), default=_BASE64_LINE) < _BASE64_LINE:
        return ""
    compact = "".join(lines)
    if not _BASE64.fullmatch(compact):
        return ""
    begins = binascii.a2b_base64(compact[: min(64, len(compact) // 4 * 4)])
    kind = next((f" of a {kind}" for signature, kind in _INSIDE if begins.startswith(signature)), "")
    of_all_sorts = any(map(str.isupper, compact)) and any(map(str.islower, compact)) and any(map(str.isdigit, compact))
    sure = kind or (len(compact) >= _SURELY_BASE64 and of_all_sorts)
    return f"base64 text{kind}: {_BYTES} that it stands for" if sure else ""


def _behind(data: bytes) -> str:
    for signature, kind in _INSIDE:
        if (place := data.find(signature, 0, _NEAR_BYTES)) > 0:
            return f"a {kind} behind {_bytes(place)} of something else: send it from its first byte"
    return ""


def _bytes(count: int) -> str:
    return f"{count} byte{'s' if count > 1 else ''}"
