"""Files of records on their way through stage 2: checked and normalised, nothing cut."""

from pathlib import Path
from typing import Any

from pipeline.corpus.record_files import bare_name, characters, kind_of, read_records
from pipeline.files import encode_json
from pipeline.preprocessing.recipe import brought_up_to_date, facts_of, from_catalog
from pipeline.run import StageRun


def pass_records(run: StageRun, path: Path, known: dict[str, Any]) -> dict[str, Any]:
    """Check and normalise the records of one file; returns its row for the report.

    Raises PipelineError naming file and line for what is no record.
    """
    about = facts_of(known)
    key = run.key(run.workspace.fact(path).sha256, about)
    plan = run.plan(path.name, key)
    if plan != "write":
        row = brought_up_to_date(dict(run.row(path.name) or {"file": path.name}), about)
        return row if plan != "deleted" else row | _DELETED
    records = size = 0
    with run.scratch() as folder:
        with (folder / path.name).open("wb") as file:
            for record in read_records(path):
                file.write(encode_json(record) + b"\n")
                records += 1
                size += characters(record)
        row = {
            "file": path.name, "document_id": bare_name(path.name), "verdict": "kept",
            "kind": kind_of(path.name), "records": records,
            "characters_in": size, "characters_out": size, "removed": {}, "warnings": [],
        } | from_catalog(about)  # fmt: skip
        run.take(path.name, folder / path.name, key, row)
    return row


_DELETED: dict[str, Any] = {
    "verdict": "deleted", "reason": "deleted by hand", "records": 0, "characters_out": 0,
}  # fmt: skip
