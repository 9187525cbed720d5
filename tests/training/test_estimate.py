"""What a run needs of memory: against real adapters, real optimizers, and autograd's own count."""

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPT2Config,
    LlamaConfig,
    Qwen3Config,
    Qwen3MoeConfig,
)

from pipeline.errors import PipelineError
from pipeline.training.configs import meta_model
from pipeline.training.engine import Machine
from pipeline.training.estimate import Estimate, check_disk, check_fits, check_memory, estimate
from pipeline.training.optimizer import make_optimizer
from pipeline.training.settings import TrainSettings
from pipeline.training.sizes import Sizes, sizes_of

COMMON: dict[str, Any] = {"vocab_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
WIDE: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 256, "num_key_value_heads": 2}
NAMES = ["llama", "qwen3", "gemma2", "gpt2"]


def tiny(name: str, layers: int = 2) -> Any:
    options = COMMON | {"num_hidden_layers": layers}
    if name == "gpt2":
        no_dropout: dict[str, Any] = {"resid_pdrop": 0, "embd_pdrop": 0, "attn_pdrop": 0}
        ids: dict[str, Any] = {"bos_token_id": 0, "eos_token_id": 0}
        return GPT2Config(**options, **no_dropout, **ids, n_embd=64, n_positions=512)
    heads = {"llama": 16, "qwen3": 32, "gemma2": 16}
    kinds = {"llama": LlamaConfig, "qwen3": Qwen3Config, "gemma2": Gemma2Config}
    return kinds[name](**options, **WIDE, head_dim=heads[name])


SMOLLM2 = LlamaConfig(
    vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30,
    num_attention_heads=9, num_key_value_heads=3, tie_word_embeddings=True,
)  # fmt: skip
LLAMA_8B = LlamaConfig(
    vocab_size=128256, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32,
    num_attention_heads=32, num_key_value_heads=8,
)  # fmt: skip
GB = 1_000_000_000


def sized(config: Any, settings: TrainSettings | None = None) -> Sizes:
    return sizes_of(meta_model(config), settings or TrainSettings())


@pytest.fixture(scope="module")
def smollm2() -> Sizes:
    return sized(SMOLLM2)


@pytest.fixture(scope="module")
def llama_8b() -> Sizes:
    return sized(LLAMA_8B)


def real(config: Any, settings: TrainSettings, dtype: torch.dtype | None = None) -> Any:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    if settings.method == "full":
        return model
    if dtype is not None:
        model = model.to(dtype)
    lora = LoraConfig(
        task_type="CAUSAL_LM", r=settings.rank, target_modules="all-linear",
        use_dora=settings.method == "dora",
    )  # fmt: skip
    return get_peft_model(model, lora)


def kept(model: Any, length: int, autocast: torch.dtype | None) -> int:
    """Bytes that autograd keeps of a sequence of four documents, without the model's own."""
    own = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    found: dict[int, torch.Tensor] = {}  # tensors that are held, so that no address is used twice

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if (address := tensor.untyped_storage().data_ptr()) not in own:
            found[address] = tensor
        return tensor

    ids = torch.arange(length)[None] % 48
    positions = torch.arange(length // 4).repeat(4)[None]
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", autocast, enabled=autocast is not None),
    ):
        model(input_ids=ids, position_ids=positions, use_cache=False)
    return sum(tensor.untyped_storage().nbytes() for tensor in found.values())


@pytest.mark.parametrize("method", ["lora", "dora", "full"])
@pytest.mark.parametrize("half", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_activations_are_what_autograd_keeps_and_up_to_half_more(
    name: str, half: bool, method: str
) -> None:
    dtype = torch.bfloat16 if half else None
    settings = TrainSettings(method=method, rank=2, sequence_length=256)

    def of_layers(n: int) -> tuple[int, int]:
        config = tiny(name, n)
        model = real(config, settings, dtype).train()
        found = estimate(settings, sized(config, settings), half=half, cuda=False)
        return kept(model, 256, dtype), found.activations

    # The logits are the same for any number of layers: they fall out of the difference.
    (few, few_expected), (more, more_expected) = of_layers(1), of_layers(3)
    assert 1.0 <= (more_expected - few_expected) / (more - few) <= 1.5


@pytest.mark.parametrize("method", ["lora", "dora", "full"])
@pytest.mark.parametrize("name", NAMES)
def test_the_number_of_trained_weights_is_exact(name: str, method: str) -> None:
    settings = TrainSettings(method=method, rank=4)
    model = real(tiny(name), settings)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    found = estimate(settings, sized(tiny(name), settings), half=True, cuda=False)
    assert found.trained == trained
    assert found.gradients == 4 * trained


def test_only_what_is_a_target_gets_an_adapter() -> None:
    settings = TrainSettings(rank=4, target_modules=("q_proj",))
    found = estimate(settings, sized(tiny("llama"), settings), half=True, cuda=False)
    assert found.trained == 2 * 4 * (64 + 64)


@pytest.mark.parametrize("name", ["adamw", "adamw-8bit", "adafactor"])
def test_the_states_of_an_optimizer_are_not_more_than_estimated(name: str) -> None:
    settings = TrainSettings(method="full", optimizer=name)
    config = LlamaConfig(**COMMON | {"vocab_size": 2000}, **WIDE)
    model = real(config, settings)
    optimizer = make_optimizer(model, settings)
    ids = torch.arange(16)[None]
    model(input_ids=ids, labels=ids).loss.backward()
    optimizer.step()
    states = sum(
        value.untyped_storage().nbytes()
        for state in optimizer.state.values()
        for value in {id(v): v for v in state.values() if torch.is_tensor(v)}.values()
    )
    found = estimate(settings, sized(config, settings), half=True, cuda=False).optimizer
    # Beside its states one of 8 bits, and adafactor, need copies of the largest matrix.
    passing = 0 if name == "adamw" else 8 * 2000 * 64
    assert 0.97 * states <= found
    assert found - passing <= 1.1 * states


def test_weights_are_as_the_method_keeps_them(llama_8b: Sizes) -> None:
    def weights(method: str, *, half: bool = True) -> float:
        settings = TrainSettings(method=method)
        return estimate(settings, llama_8b, half=half, cuda=True).weights / GB

    assert weights("lora") == pytest.approx(16.06, abs=0.01)
    assert weights("lora", half=False) == pytest.approx(32.12, abs=0.01)
    assert weights("qlora8") == pytest.approx(9.15, abs=0.1)  # embedding and head in 16 bits
    assert weights("qlora") == pytest.approx(5.70, abs=0.1)
    assert weights("full", half=False) == pytest.approx(32.12, abs=0.01)
    assert weights("full") == pytest.approx(32.12 + 13.96, abs=0.01)  # and copies in 16 bits


def test_a_mixture_of_experts_keeps_activations_of_the_experts_that_a_token_passes() -> None:
    config = Qwen3MoeConfig(
        **COMMON, hidden_size=64, intermediate_size=256, moe_intermediate_size=32, num_experts=8,
        num_experts_per_tok=2, num_key_value_heads=2,
    )  # fmt: skip
    assert sized(config).intermediate == 64


# Peaks of resident memory of runs of two steps on SmolLM2-135M, one process each, in MB: of the
# trainer alone, but for the last two, which are whole stages with scoring before and after.
MEASURED = [
    ({"sequence_length": 512}, True, 1835),
    ({"sequence_length": 1024}, True, 2629),  # four documents in a sequence
    ({"sequence_length": 2048}, True, 4404),
    ({"sequence_length": 1024, "gradient_checkpointing": True}, True, 1657),
    ({"sequence_length": 512, "batch_size": 2, "micro_batch_size": 2}, True, 2511),
    ({"sequence_length": 512}, False, 2506),
    ({"sequence_length": 512, "method": "dora"}, True, 2284),
    ({"sequence_length": 1024, "method": "dora"}, True, 3486),
    ({"sequence_length": 512, "method": "qlora"}, True, 1803),
    ({"sequence_length": 1024, "method": "qlora"}, True, 2269),
    ({"sequence_length": 512, "method": "qlora8"}, True, 1771),
    ({"sequence_length": 512, "method": "full"}, True, 3479),
    ({"sequence_length": 1024, "method": "full"}, True, 4051),
    ({"sequence_length": 512, "method": "full", "optimizer": "adafactor"}, True, 2513),
    ({"sequence_length": 512}, True, 2045),
    ({"sequence_length": 512, "method": "full"}, True, 3525),
]


@pytest.mark.parametrize(("options", "half", "measured"), MEASURED)
def test_estimates_are_what_was_measured_and_up_to_a_quarter_more(
    smollm2: Sizes, options: dict[str, Any], half: bool, measured: int
) -> None:
    found = estimate(TrainSettings(**{"rank": 16, **options}), smollm2, half=half, cuda=False)
    assert 0.99 <= found.total / 1e6 / measured <= 1.26


def test_gradients_of_an_earlier_micro_batch_are_there_beside_activations(smollm2: Sizes) -> None:
    one = estimate(TrainSettings(method="full"), smollm2, half=True, cuda=False)
    more = estimate(TrainSettings(method="full", batch_size=2), smollm2, half=True, cuda=False)
    assert more.total - one.total == one.gradients == 4 * smollm2.weights


@settings(max_examples=50)
@given(
    length=st.integers(64, 8192),
    micro=st.integers(1, 16),
    method=st.sampled_from(["lora", "qlora", "dora", "full"]),
)
def test_longer_sequences_and_more_of_them_need_more_memory(
    smollm2: Sizes, length: int, micro: int, method: str
) -> None:
    settings = TrainSettings(sequence_length=length, micro_batch_size=micro, method=method)

    def total(**changes: Any) -> int:
        return estimate(replace(settings, **changes), smollm2, half=True, cuda=True).total

    assert total() <= total(sequence_length=2 * length) and total() <= total(micro_batch_size=20)
    assert total(gradient_checkpointing=True) <= total(gradient_checkpointing=False)
    assert total(method="qlora") < total(method="lora") < total(method="full")


def test_gradient_checkpointing_is_on_with_a_gpu_unless_told_otherwise(smollm2: Sizes) -> None:
    def activations(*, cuda: bool, **options: Any) -> int:
        return estimate(TrainSettings(**options), smollm2, half=True, cuda=cuda).activations

    assert activations(cuda=True) < activations(cuda=False)
    assert activations(cuda=True, gradient_checkpointing=False) == activations(cuda=False)


def test_an_estimate_describes_itself() -> None:
    found = Estimate(
        weights=2 * GB, trainable=GB // 10, gradients=GB // 10, optimizer=GB // 5,
        activations=3 * GB, floor=GB, trained=25_000_000,
    )  # fmt: skip
    assert found.total == 6_400_000_000
    assert found.describe() == (
        "The run needs about 6.40 GB of memory: weights 2.00 GB, what is trained, with gradients "
        "and optimizer 400.0 MB, activations 3.00 GB, the program itself 1.00 GB."
    )


def test_a_run_that_fits_passes(smollm2: Sizes, capsys: pytest.CaptureFixture[str]) -> None:
    found = check_fits(TrainSettings(rank=16), smollm2, 8 * GB, half=True, cuda=False)
    assert 2 * GB < found.total < 3 * GB
    assert capsys.readouterr().err == ""


def test_a_run_that_may_fit_is_warned_of(
    smollm2: Sizes, capsys: pytest.CaptureFixture[str]
) -> None:
    total = estimate(TrainSettings(), smollm2, half=True, cuda=False).total
    check_fits(TrainSettings(), smollm2, round(0.9 * total), half=True, cuda=False)
    assert "It may not fit. With --gradient-checkpointing it needs about" in capsys.readouterr().err


def test_a_run_that_cannot_fit_is_refused_with_what_would(llama_8b: Sizes) -> None:
    def refusal(free: int, **options: Any) -> str:
        with pytest.raises(PipelineError, match=r"the GPU has .* free") as error:
            settings = TrainSettings(**{"rank": 16, **options})
            check_fits(settings, llama_8b, free, half=True, cuda=True)
        return str(error.value.hint)

    assert refusal(40 * GB, method="full").startswith("With --method lora it needs about")
    assert refusal(12 * GB).startswith("With --method qlora it needs about")
    assert refusal(26 * GB, micro_batch_size=8, sequence_length=4096).startswith(
        "With --micro-batch-size 1 it needs"
    )
    assert "--method qlora --sequence-length" in refusal(8 * GB, sequence_length=4096)
    assert refusal(2 * GB).startswith("Choose a smaller base model: even with --method qlora")


def test_what_is_advised_fits(llama_8b: Sizes) -> None:
    settings = TrainSettings(sequence_length=4096, micro_batch_size=4, gradient_checkpointing=False)
    with pytest.raises(PipelineError) as error:
        check_fits(settings, llama_8b, 28 * GB, half=True, cuda=True)
    hint = str(error.value.hint)
    assert hint.startswith("With --micro-batch-size 1 --gradient-checkpointing it needs")
    advised = replace(settings, micro_batch_size=1, gradient_checkpointing=True)
    check_fits(advised, llama_8b, 28 * GB, half=True, cuda=True)


CPU, HALF_CPU = Machine(False, False, False), Machine(False, True, False)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    tiny("llama").save_pretrained(tmp_path / "base")  # no weights
    return tmp_path / "base"


def test_memory_is_checked_by_the_configuration_alone(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = TrainSettings(rank=4)
    for machine in (CPU, HALF_CPU):
        sizes = sized(tiny("llama"), options)
        expected = estimate(options, sizes, half=machine.bf16, cuda=False)
        assert check_memory(options, saved, machine) == expected
    assert check_memory(options, saved, CPU, 100).activations < expected.activations * 2
    monkeypatch.setattr("pipeline.training.estimate.free_memory", lambda *, cuda: 10**8)
    with pytest.raises(PipelineError, match=r"and this machine has 100\.0 MB free"):
        check_memory(options, saved, CPU)


def test_a_new_model_is_estimated_by_its_own_configuration(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "new.json"
    path.write_text(LlamaConfig(**COMMON | {"num_hidden_layers": 7}, **WIDE).to_json_string())
    options = TrainSettings(from_scratch=str(path))
    found = check_memory(options, saved, CPU)
    assert found.trained > 7 * (3 * 64 * 256)  # every weight of it: seven layers


def test_the_disk_is_checked_for_a_whole_model_with_its_best_weights(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = 4 * sized(tiny("llama")).weights
    disk = SimpleNamespace(free=2 * weights)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: disk)
    check_disk(TrainSettings(method="full"), saved, tmp_path)
    disk.free -= 1
    check_disk(TrainSettings(method="full", keep_best=False), saved, tmp_path)
    with pytest.raises(PipelineError, match="The run writes about"):
        check_disk(TrainSettings(method="full"), saved, tmp_path)
    with pytest.raises(PipelineError, match="checkpoints"):
        check_disk(TrainSettings(method="full", keep_best=False), saved, tmp_path, checkpoints=1)
