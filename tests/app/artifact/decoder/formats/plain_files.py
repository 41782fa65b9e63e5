"""Files with nothing odd about them, for tests that add something."""

from app.artifact.decoder.decode import decode
from tests.images import difference, drawing, encode, spec

RGB = drawing(40, 30, seed=5)
PNG, JPEG, GIF = (encode(RGB, kind) for kind in ("PNG", "JPEG", "GIF"))
PROGRESSIVE = encode(RGB, "JPEG", progressive=True)


def same(found: bytes, plain: bytes) -> None:
    assert difference(decode(found, spec()), decode(plain, spec())) == 0
