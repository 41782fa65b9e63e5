"""By how much the self-test lets a variant differ from the checkpoint on the golden images: kernels of other
instruction sets round differently than those that the export measured."""

from training.variants.gates import FP32_GOLDEN_DIFFERENCE

_MARGIN = 1.5  # of what was measured here
_FP32_PROBABILITY = 2 * FP32_GOLDEN_DIFFERENCE  # a constant
_INT8_PROBABILITY = 0.02  # at least: below, it would be refused for nothing
_FP32_SCORE, _INT8_SCORE = 1e-3, 0.1  # at least, of the deviation of val's out-of-distribution scores
_LEAST_DEVIATION = 0.1  # of those scores, however alike val's images are


def of_probability(difference: float, *, int8: bool) -> float:
    """Of a probability that differed by `difference` here."""
    return max(_MARGIN * difference, _INT8_PROBABILITY) if int8 else _FP32_PROBABILITY


def of_score(difference: float, deviation: float, *, int8: bool) -> float:
    """Of an out-of-distribution score that differed by `difference` here; `deviation` is that of val's."""
    return max(_MARGIN * difference, (_INT8_SCORE if int8 else _FP32_SCORE) * max(deviation, _LEAST_DEVIATION))
