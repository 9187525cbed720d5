"""What a model repository is made from."""

from pathlib import Path

from pipeline.hub.model_files import remove_empty_parts


def test_only_empty_folders_of_parts_are_removed(tmp_path: Path) -> None:
    for name in ("adapter", "merged", "mine"):
        (tmp_path / name).mkdir()
    (tmp_path / "merged" / "notes.txt").write_text("mine")
    remove_empty_parts(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["merged", "mine"]
    remove_empty_parts(tmp_path / "not there")
