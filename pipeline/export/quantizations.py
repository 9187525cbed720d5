"""The file types that llama.cpp's quantizer writes, with their size and a word on each.

Bits per weight are for a model of the size and shape of Llama 3.1 8B (llama.cpp,
tools/quantize/README.md; the plain formats follow from their block layout). A small model comes
out larger, because its embeddings weigh more and its rows often do not divide into blocks of 256.
"""

import difflib
from dataclasses import dataclass

from pipeline.errors import UsageError


@dataclass(frozen=True)
class Quantization:
    """One file type: llama.cpp's number for it, bits per weight, and what it is good for."""

    name: str
    ftype: int
    bits: float
    description: str
    needs_importance_matrix: bool = False


_ALL = [
    Quantization("f32", 0, 32.0, "nothing lost; only to look at, twice the size of bf16"),
    Quantization("bf16", 32, 16.0, "the trained weights as they are"),
    Quantization("f16", 1, 16.0, "16 bits; faster than bf16 on older CPUs and GPUs"),
    Quantization("q8_0", 7, 8.5, "as good as the original to the eye"),
    Quantization("q6_k", 18, 6.56, "very near to the original"),
    Quantization("q5_k_m", 17, 5.7, "little lost"),
    Quantization("q5_k_s", 16, 5.57, "little lost, slightly smaller"),
    Quantization("q5_1", 9, 6.0, "older 5-bit format; takes rows of any multiple of 32"),
    Quantization("q5_0", 8, 5.5, "older 5-bit format, simpler"),
    Quantization("q4_k_m", 15, 4.89, "the usual choice: small, fast, quality holds"),
    Quantization("q4_k_s", 14, 4.67, "slightly smaller, slightly worse"),
    Quantization("iq4_nl", 25, 4.68, "4 bits on a curved scale; rows of any multiple of 32"),
    Quantization("iq4_xs", 30, 4.46, "smallest good 4-bit type; slow on old CPUs"),
    Quantization("q4_1", 3, 5.0, "older 4-bit format, with an offset"),
    Quantization("q4_0", 2, 4.5, "older 4-bit format; the fastest on many CPUs"),
    Quantization("mxfp4_moe", 38, 4.25, "for mixture-of-experts models; else like q8_0"),
    Quantization("q3_k_l", 13, 4.3, "loss is felt"),
    Quantization("q3_k_m", 12, 4.0, "loss is felt, smaller"),
    Quantization("q3_k_s", 11, 3.64, "loss is plain"),
    Quantization("iq3_m", 27, 3.76, "better than q3_k_m for its size; slow on CPUs"),
    Quantization("iq3_s", 26, 3.66, "better than q3_k_s for its size; slow on CPUs"),
    Quantization("iq3_xs", 22, 3.5, "large models only", True),
    Quantization("iq3_xxs", 23, 3.25, "large models only", True),
    Quantization("q2_k", 10, 3.16, "large models only; much is lost"),
    Quantization("q2_k_s", 21, 2.97, "large models only; more is lost", True),
    Quantization("iq2_m", 29, 2.93, "large models only", True),
    Quantization("iq2_s", 28, 2.74, "large models only", True),
    Quantization("iq2_xs", 20, 2.59, "large models only", True),
    Quantization("iq2_xxs", 19, 2.38, "large models only", True),
    Quantization("q2_0", 41, 2.25, "for models trained in two bits"),
    Quantization("tq2_0", 37, 2.06, "for models trained with ternary weights (BitNet)"),
    Quantization("tq1_0", 36, 1.69, "for models trained with ternary weights (BitNet)"),
    Quantization("iq1_m", 31, 2.15, "the very largest models only", True),
    Quantization("iq1_s", 24, 2.0, "the very largest models only", True),
    Quantization("q1_0", 40, 1.125, "for models trained in one bit"),
]
QUANTIZATIONS = {quantization.name: quantization for quantization in _ALL}
ALIASES = {"q3_k": "q3_k_m", "q4_k": "q4_k_m", "q5_k": "q5_k_m"}  # llama.cpp's own


def check_quantization(name: str) -> Quantization:
    """The file type of that name; case, hyphens and llama.cpp's short names do not matter.

    Raises:
        UsageError: there is no such type (the nearest names are told), or it is one that cannot
            be made without an importance matrix, which this product does not compute.
    """
    key = name.strip().lower().replace("-", "_")
    quantization = QUANTIZATIONS.get(ALIASES.get(key, key))
    if quantization is None:
        near = difflib.get_close_matches(key, [*QUANTIZATIONS, *ALIASES], n=3, cutoff=0.4)
        raise UsageError(
            f"There is no quantization called {name!r}.",
            f"Did you mean {', '.join(near)}?"
            if near
            else f"There are: {', '.join(QUANTIZATIONS)}.",
        )
    if quantization.needs_importance_matrix:
        # Those under three bits that need none are for models that were trained in so few.
        possible = [q for q in _ALL if q.bits > 3 and not q.needs_importance_matrix]
        nearest = min(possible, key=lambda q: abs(q.bits - quantization.bits))
        raise UsageError(
            f"The quantization {quantization.name} needs an importance matrix, which is not made"
            " here.",
            f"The nearest in size that needs none is {nearest.name}.",
        )
    return quantization
