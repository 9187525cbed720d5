"""A step on a CPU gives the loss and the gradients of the libraries' own code."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from pipeline.training.fast import attention, fast_on_cpu
from pipeline.training.fast import loss as loss_module
from tests.tiny_models import tiny_tokenizer
from tests.training.architectures import KINDS
from tests.training.fast.steps import BF16, adapted, batch, distance, step

CHECKPOINTING = {"use_reentrant": False}
# A router that rounds sends a token to another expert, which is another function.
DENSE = [kind for kind in KINDS if kind not in ("mixtral", "qwen2_moe")]


@pytest.fixture
def everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small blocks, so that there are several, and attention in float32, too."""
    monkeypatch.setattr(attention, "DTYPES", ("torch.float32", "torch.bfloat16"))
    monkeypatch.setattr(attention, "BLOCK", 8)
    monkeypatch.setattr(loss_module, "ROWS", 5)


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize("packed", [True, False], ids=["packed", "padded"])
@pytest.mark.parametrize("kind", KINDS)
def test_in_float32_loss_and_every_gradient_are_the_plain_ones(kind: str, packed: bool) -> None:
    model, inputs = adapted(kind), batch(packed=packed)
    loss, wanted = step(model, inputs)
    with fast_on_cpu(model, None) as fast_loss:
        found, gradients = step(model, inputs, fast_loss)
    assert found == pytest.approx(loss, rel=1e-5)
    assert gradients.keys() == wanted.keys()
    longest = max(gradient.norm().item() for gradient in wanted.values())
    for name, gradient in gradients.items():
        assert (gradient - wanted[name]).norm() < 1e-5 * longest, name


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize("packed", [True, False], ids=["packed", "padded"])
@pytest.mark.parametrize("kind", DENSE)
def test_in_bfloat16_they_are_no_further_from_exact_ones_than_the_plain_ones(
    kind: str, packed: bool
) -> None:
    model, inputs = adapted(kind, BF16), batch(packed=packed)
    plain, usual = step(model, inputs, cast=BF16)
    with fast_on_cpu(model, BF16) as fast_loss:
        found, gradients = step(model, inputs, fast_loss, cast=BF16)
    loss, exact = step(copy.deepcopy(model).float(), inputs)
    assert distance(gradients, exact) < 1.5 * distance(usual, exact)
    assert abs(found - loss) < 2 * abs(plain - loss) + 2e-3 * loss


@pytest.mark.usefixtures("everywhere")
def test_rows_of_one_sequence_learn_as_if_each_were_alone() -> None:
    model, inputs = adapted(), batch(packed=True)
    with fast_on_cpu(model, None) as fast_loss:
        _, together = step(model, inputs, fast_loss)
        alone: dict[str, torch.Tensor] = {}
        for i, start, end in ((0, 0, 9), (0, 9, 23), (0, 23, 27), (1, 0, 20)):
            row = {name: x[i : i + 1, start:end] for name, x in inputs.items()}
            for name, gradient in step(model, row, fast_loss)[1].items():
                alone[name] = alone.get(name, 0) + gradient
    assert distance(together, alone) < 1e-5


def test_the_same_step_twice_gives_the_same_bits_with_checkpointing_too() -> None:
    model, inputs = adapted(dtype=BF16), batch(packed=True)
    with fast_on_cpu(model, BF16) as fast_loss:
        first = step(model, inputs, fast_loss)
        second = step(model, inputs, fast_loss)
        base = model.get_base_model()
        base.gradient_checkpointing_enable(CHECKPOINTING)
        base.enable_input_require_grads()
        again = step(model, inputs, fast_loss)
    assert first[0] == second[0] == again[0]
    for name, gradient in first[1].items():
        assert torch.equal(gradient, second[1][name])
        assert torch.equal(gradient, again[1][name])


def test_scores_and_samples_within_are_those_without() -> None:
    model = adapted(dtype=BF16).eval()
    inputs = batch(packed=False)

    def look() -> list[torch.Tensor]:
        with torch.no_grad(), torch.autocast("cpu", BF16):
            scores = model(**inputs).logits
            with model.disable_adapter():
                of_base = model(**inputs).logits
            sample = model.generate(
                input_ids=inputs["input_ids"][:1, :9], max_new_tokens=8, do_sample=False,
                return_dict_in_generate=True, output_logits=True,
            )  # fmt: skip
        return [scores, of_base, sample.sequences, *sample.logits]

    wanted = look()
    with fast_on_cpu(model, BF16) as fast_loss:
        step(model.train(), batch(packed=True), fast_loss)
        model.eval()
        assert all(map(torch.equal, look(), wanted))


def test_everything_is_as_it_was_afterwards() -> None:
    model, inputs = adapted(), batch(packed=True)
    before = step(model, inputs)
    parts = {name: set(vars(part)) for name, part in model.named_modules()}
    with pytest.raises(KeyError), fast_on_cpu(model, None) as fast_loss:
        step(model, inputs, fast_loss)
        raise KeyError
    left = {name: set(vars(part)) - parts[name] for name, part in model.named_modules()}
    assert {name: more for name, more in left.items() if more} == {
        "base_model.model": {"_loss_function"}  # the plain one, asked for by name
    }
    after = step(model, inputs)
    assert before[0] == after[0]
    assert all(torch.equal(before[1][name], after[1][name]) for name in before[1])


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_run_with_accumulation_is_the_plain_run(tmp_path: Path, checkpointing: bool) -> None:
    def run(*, fast: bool) -> tuple[list[float], dict[str, torch.Tensor]]:
        model = adapted()
        if checkpointing:
            model.get_base_model().gradient_checkpointing_enable(CHECKPOINTING)
            model.get_base_model().enable_input_require_grads()
        with fast_on_cpu(model, None) as fast_loss:
            trainer = _trainer(model, fast_loss if fast else None, tmp_path)
            trainer.train()
        losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
        return losses, {n: p for n, p in model.named_parameters() if p.requires_grad}

    losses, weights = run(fast=True)
    wanted, plain = run(fast=False)
    assert len(losses) == 3 and losses[-1] < losses[0]
    assert losses == pytest.approx(wanted, rel=1e-4)
    assert distance(weights, plain) < 1e-4


def _trainer(model: Any, fast_loss: Any, folder: Path) -> Any:
    class Trainer(SFTTrainer):  # type: ignore[misc, unused-ignore]
        def compute_loss(self, model: Any, inputs: Any, *args: Any, **rest: Any) -> Any:
            items = rest.get("num_items_in_batch")
            loss = fast_loss(model, inputs, items) if fast_loss else None
            return super().compute_loss(model, inputs, *args, **rest) if loss is None else loss

    def collate(rows: list[dict[str, int]]) -> dict[str, Any]:
        (row,) = rows
        return batch(packed=True, seed=row["index"])

    arguments = SFTConfig(
        output_dir=str(folder), max_steps=3, per_device_train_batch_size=1, bf16=False,
        gradient_accumulation_steps=2, gradient_checkpointing=False, use_cpu=True,
        dataset_kwargs={"skip_prepare_dataset": True}, remove_unused_columns=False,
        max_length=None, logging_steps=1, save_strategy="no", report_to="none",
        disable_tqdm=True, learning_rate=1e-3, train_sampling_strategy="sequential",
    )  # fmt: skip
    data = Dataset.from_dict({"index": list(range(6))})
    return Trainer(
        model=model, args=arguments, data_collator=collate, train_dataset=data,
        processing_class=tiny_tokenizer(),
    )  # fmt: skip


def test_a_model_with_a_loss_of_its_own_has_no_fast_one() -> None:
    with fast_on_cpu(adapted("gemma2"), None) as fast_loss:
        assert fast_loss is None
