"""The table of a proof: base, adapter, merged model and each GGUF on the same held-out text."""

from collections.abc import Mapping
from typing import Any

COLUMNS = ["model", "size", "bits per byte", "to merged", "top-1", "KL", "tokens/s"]


def proof_table(proof: Mapping[str, Any]) -> dict[str, Any]:
    """The table of a proof.json as `pipeline.printing.print_table` takes it.

    Where nothing was proven, or the proof was stopped half-way, cells hold a dash.
    """
    sizes, of_training = proof.get("sizes", {}), proof["evaluation"]["bits_per_byte"]
    is_same_text = proof.get("text", {}).get("whole", True)
    compared = proof.get("checks", {}).get("merged_model_is_the_trained_one", {})
    reference = proof.get("merged", {}).get("bits_per_byte")

    def trained(name: str) -> dict[str, Any]:
        bits = of_training.get(name) if is_same_text else None
        known = bits is not None and reference is not None
        return {
            "bits_per_byte": bits,
            "bits_per_byte_difference": float(bits or 0) - float(reference or 0) if known else None,
        }

    adapter = trained("adapter")
    if bits := proof.get("trained", {}).get("bits_per_byte"):  # of a part of the text
        adapter = {"bits_per_byte": bits, "bits_per_byte_difference": bits - float(reference or 0)}
    rows = {
        "base": {"bytes": sizes.get("base"), **trained("base")},
        "adapter": {
            "bytes": sizes.get("adapter"), **adapter,
            **{key: compared.get(key) for key in ("kl", "top1")},
        },
        "merged": {"bytes": sizes.get("merged"), "bits_per_byte": reference},
        **proof["files"],
    }  # fmt: skip
    if alone := proof.get("adapter"):
        # Nothing was merged: there is nothing that the scores could be compared with.
        rows.pop("merged")
        rows[alone["file"]] = {**alone, "bits_per_byte_difference": None}
    return {
        "columns": COLUMNS,
        "long": ["model"],
        "rows": [_cells(name, facts) for name, facts in rows.items()],
    }


def _cells(name: str, facts: Mapping[str, Any]) -> dict[str, str]:
    size, bits = facts.get("bytes"), facts.get("bits_per_byte")
    difference, top1 = facts.get("bits_per_byte_difference"), facts.get("top1")
    kl, speed = facts.get("kl"), facts.get("tokens_per_second")
    return {
        "model": name,
        "size": "-" if size is None else f"{size / 1e6:,.1f} MB",
        "bits per byte": "-" if bits is None else f"{bits:.4f}",
        "to merged": "-" if difference is None else f"{difference:+.4f}",
        "top-1": "-" if top1 is None else f"{top1:.1%}",
        "KL": "-" if kl is None else f"{kl:.5f}",
        "tokens/s": "-" if speed is None else f"{speed:,.0f}",
    }


def proof_line(proof: Mapping[str, Any]) -> str:
    """The sentence under the table: of what text it speaks, and what was not looked at."""
    if not proof["proven"]:
        return f"Nothing is proven: {proof.get('why', 'it was not looked at')}."
    text = proof["text"]
    kind = "held-out text" if text.get("held_out", True) else "text that is not the held-out one"
    said = f"{text['bytes']:,} bytes of {kind}, {text['places']:,} places compared."
    said += _told_training(proof)
    files = [*proof["files"].values(), proof.get("adapter") or {}]
    checks = [file["checks"] for file in files if "checks" in file]
    if checks and all(check["token_ids"]["equal"] for check in checks):
        said += (
            f" Token ids of {checks[0]['token_ids']['bytes']:,} bytes are those of the training."
        )
    compared = proof.get("checks", {}).get("merged_model_is_the_trained_one", {})
    if "kl" in compared:
        said += f" Merging changed {compared['kl']:.5f} nats per token."
    elif compared:
        said += f" Merged and trained model were not compared: {compared['left_out']}."
    ends = [check["ends"] for check in checks if "ends" in check]
    if why := next((each["left_out"] for each in ends if "left_out" in each), None):
        said += f" Whether files end where they should was not looked at: {why}."
    return said


def _told_training(proof: Mapping[str, Any]) -> str:
    """What training measured of another stretch of text, where cells of the table hold a dash."""
    measured = proof.get("evaluation", {}).get("bits_per_byte", {})
    known = [
        f"{name} {measured[name]:.4f}" for name in ("base", "adapter")
        if measured.get(name) is not None
    ]  # fmt: skip
    if not known:
        return " Training scored neither base nor adapter."
    if proof["text"].get("whole", True):
        return ""
    return (
        " Training scored more of the held-out text, which cannot be set beside this:"
        f" {', '.join(known)} bits per byte."
    )
