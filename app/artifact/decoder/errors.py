"""Why bytes do not become pixels."""


class ImageError(ValueError):
    """The bytes cannot become pixels; the message is one sentence for the person who sent them."""


class UnsupportedImage(ImageError):
    """Not one of the accepted file types."""


class BrokenImage(ImageError):
    """An accepted file type, but damaged or of a kind that has no defined 8-bit meaning."""


class TooManyPixels(ImageError):
    """The header announces more pixels than the limit; nothing was decoded."""
