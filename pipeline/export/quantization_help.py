"""Every file type with its size and a word, as `--help` lists them."""

from pipeline.export.quantizations import QUANTIZATIONS, Quantization

LLAMA_8B = 8.03e9  # weights of the model that the averages are of


def type_help() -> str:
    """The help of --quantization: what it is, and a line for each type.

    The table is a paragraph that begins with a backspace, which typer leaves as it is.
    """
    kinds = QUANTIZATIONS.values()
    made = [f"{k.name:<9}{_size(k):>5} {k.description}" for k in kinds if _is_made(k)]
    others = [f"{k.name} {_size(k)}" for k in kinds if not _is_made(k)]
    return (
        "Type of the GGUF, q4_k_m by default; may be repeated. With the size in GB of a model of 8"
        " billion weights:\n\n\b\n" + "\n".join(made) + "\n\nNot made here, as they need an"
        f" importance matrix: {', '.join(others)}."
    )


def _is_made(kind: Quantization) -> bool:
    return not kind.needs_importance_matrix


def _size(kind: Quantization) -> str:
    return f"{kind.bits * LLAMA_8B / 8e9:.1f}"
