"""What a dataset repository is to hold, and how it gets into a stage's directory.

Each file is known by what it is made from, so that only what changed is written, and a file that a
person edited stays. Shards and texts are copied, not linked: an edit of one must not reach the
other. Weights, which nobody edits, are linked: they take no room twice.
"""

import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from pipeline.console import progress
from pipeline.files import fingerprint, link_or_copy, sha256_bytes
from pipeline.hub.client import files_to_push
from pipeline.hub.listing import Content
from pipeline.hub.scanning import FindMentions, Scan, join_scans, parts_of, scan_parquet
from pipeline.parallel import default_jobs, map_in_order
from pipeline.run import StageRun
from pipeline.workspace import Workspace

SCAN = "scan"  # under which the gate's finding is noted about a Parquet file
WEIGHTS = (".gguf", ".safetensors")
WORTH_PROCESSES = 32_000_000  # bytes of Parquet files to search
Known = dict[str, Scan]  # findings by the sha256 of the file


def put(run: StageRun, contents: Mapping[str, Content], known: Known, version: int) -> None:
    """Make `contents` (name -> content) the outputs of the stage; what is current is left alone.

    `known` are the findings of the gate, noted with each file so that it need not be read again.
    """
    for name, content in contents.items():
        sha256 = content_hash(run.workspace, content)
        key = fingerprint([version, sha256])
        if run.plan(name, key) != "write":
            continue
        if isinstance(content, bytes):
            run.write(name, content, key)
            continue
        with run.scratch() as folder:
            copy = folder / content.name
            (link_or_copy if content.suffix in WEIGHTS else shutil.copyfile)(content, copy)
            scan = known.get(sha256)
            run.take(name, copy, key, {SCAN: scan.as_row(), "sha256": sha256} if scan else None)


def put_made(run: StageRun, part: str, key: str, make: Callable[[Path], object]) -> None:
    """Make the files that `make` writes into a folder the outputs below `part`, which take work:
    it is not called if they are all there, made from `key`."""
    mine = {name: row for name, row in run.notes().items() if row.get("part") == part}
    is_whole = bool(mine) and all(row.get("of") == len(mine) for row in mine.values())
    if is_whole and all(run.has(name, key) for name in mine):
        return
    with run.scratch() as folder:
        make(folder)
        made = sorted(path for path in folder.rglob("*") if path.is_file())
        for path in made:
            name = f"{part}/{path.relative_to(folder).as_posix()}"
            if run.plan(name, key) != "edited":
                run.take(name, path, key, {"part": part, "of": len(made)})


def as_they_stand(
    workspace: Workspace, stage: str, contents: Mapping[str, Content]
) -> dict[str, Content]:
    """What would be published: `contents`, with what a person made of each file in its place, and
    the files that a person put beside them."""
    record = workspace.record(stage)
    directory = workspace.directory(stage)
    standing = dict(contents)
    if record is not None:
        there = files_to_push(directory)
        standing |= {name: path for name, path in there.items() if name not in record.outputs}
    for name in contents:
        output = record.outputs.get(name) if record else None
        if output is not None and workspace.is_edited(directory, output):
            standing[name] = directory / name
    return standing


def known_scans(workspace: Workspace, stage: str, version: int) -> Known:
    """The findings that the stage's record has, if this version of the code made them."""
    record = workspace.record(stage)
    known: Known = {}
    if record is None or record.version != version:
        return known
    for output in record.outputs.values():
        if output.row and SCAN in output.row:
            known[str(output.row.get("sha256"))] = Scan.from_row(output.row[SCAN])
    return known


def scan_all(
    workspace: Workspace, contents: Mapping[str, Content], find: FindMentions, known: Known
) -> list[Scan]:
    """The findings in each Parquet file of `contents` in order, out of `known` where it is there;
    new ones are added to it."""
    parquet = [c for c in contents.values() if isinstance(c, Path) and c.suffix == ".parquet"]
    hashes = {path: content_hash(workspace, path) for path in parquet}
    new = [path for path in parquet if hashes[path] not in known]
    parts = [part for path in new for part in parts_of(path)]
    found: dict[Path, list[Scan]] = {path: [] for path in new}
    is_large = sum(path.stat().st_size for path in new) > WORTH_PROCESSES
    jobs = min(default_jobs(), len(parts)) if is_large else 1
    with progress("publish gate", len(parts), "parts") as advance:
        scans = map_in_order(partial(scan_parquet, find=find), parts, jobs)
        for (path, _), scan in zip(parts, scans, strict=True):
            found[path].append(scan)
            advance(note=path.name)
    known |= {hashes[path]: join_scans(scans) for path, scans in found.items()}
    return [known[sha256] for sha256 in hashes.values()]


def content_hash(workspace: Workspace, content: Content) -> str:
    """The sha256 of a content; that of a file is remembered."""
    if isinstance(content, bytes):
        return sha256_bytes(content)
    return workspace.fact(content).sha256
