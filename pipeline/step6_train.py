"""Stage 6: train an adapter, or a whole model, on `4_dataset` and score it on what is held out.

    pipeline train                                         SmolLM2-135M, one pass over the data
    pipeline train --base-model meta-llama/Llama-3.1-8B --method qlora --epochs 2
    pipeline train --dataset your-name/horror-novel-chunks --tokens 2000000
    pipeline train --mix novels=0.7,letters=0.3 --mix 500:novels=0.2,letters=0.8
    pipeline train --dataset chats.jsonl --show 3

Whole documents are put together again from their chunks, tokenized with one end token each and cut
into blocks, so nothing is lost. Of prompts with completions, and of chats, only what the model has
to write is trained on. `6_adapter` gets what was trained, `metrics.jsonl`, `loss.png`, `train.log`,
and `evaluation.json`: bits per byte of the held-out text before and after.
"""

from dataclasses import fields
from pathlib import Path
from typing import Any

from typer import Exit

from pipeline import push_best
from pipeline import train_options as options
from pipeline import train_watch_options as watching
from pipeline.command import DEFAULT_DATA_DIR, DataDir, Force, Jobs, OverwriteEdited
from pipeline.command import run_script as run_script
from pipeline.console import many
from pipeline.corpus.new_tokens import read_tokens
from pipeline.errors import PipelineError, UsageError
from pipeline.parallel import default_jobs
from pipeline.run import StageRun, open_run
from pipeline.train_inputs import (
    absolute,
    base_files,
    dataset_files,
    kind_to_train,
    print_examples,
)
from pipeline.training.base_model import (
    DEFAULT_BASE_MODEL,
    check_base_model,
    resolve_base_model,
)
from pipeline.training.command_line import this_training
from pipeline.training.early import check_early, check_model
from pipeline.training.remote_last import send_last
from pipeline.training.requests import STOP, is_supervised
from pipeline.training.run_folders import ASIDE
from pipeline.training.segments import find_series
from pipeline.training.settings import TrainSettings
from pipeline.training.sources import read_samples, read_template
from pipeline.training.supervisor import run_until_done
from pipeline.training.trainer import END_SECONDS, TrainResult
from pipeline.training.trainer import show as show_training
from pipeline.training.trainer import train as train_model
from pipeline.workspace import Workspace

VERSION = 4
CHECKPOINTS = "checkpoints"


def train(
    data_dir: DataDir = DEFAULT_DATA_DIR,
    base_model: options.BaseModelName = DEFAULT_BASE_MODEL,
    revision: options.Revision = None,
    dataset: options.Dataset = None,
    dataset_revision: options.DatasetRevision = None,
    dataset_config: options.DatasetConfig = None,
    kind: options.Kind = "auto",
    overlong: options.Overlong = TrainSettings.overlong,
    stride: options.Stride = TrainSettings.stride,
    packing: options.Packing = TrainSettings.packing,
    chat_template: options.ChatTemplate = None,
    eos: options.Ends = TrainSettings.eos,
    extra_tokens: options.ExtraTokens = None,
    mix: options.Mix = None,
    show: options.Show = 0,
    method: options.Method = TrainSettings.method,
    rank: options.Rank = TrainSettings.rank,
    alpha: options.Alpha = None,
    rslora: options.RsLora = TrainSettings.rslora,
    dropout: options.Dropout = TrainSettings.dropout,
    target_modules: options.TargetModules = None,
    rope_scaling: options.RopeScaling = None,
    from_scratch: options.FromScratch = None,
    split_model: options.SplitModel = False,
    gradient_checkpointing: options.GradientCheckpointing = None,
    precision: options.Precision = TrainSettings.precision,
    engine: options.Engine = TrainSettings.engine,
    max_steps: options.MaxSteps = None,
    epochs: options.Epochs = None,
    tokens: options.Tokens = None,
    sequence_length: options.SequenceLength = TrainSettings.sequence_length,
    batch_size: options.BatchSize = TrainSettings.batch_size,
    batch_tokens: options.BatchTokens = None,
    micro_batch_size: options.MicroBatchSize = None,
    learning_rate: options.LearningRate = None,
    scheduler: options.Scheduler = TrainSettings.scheduler,
    warmup: options.Warmup = TrainSettings.warmup,
    decay: options.Decay = TrainSettings.decay,
    optimizer: options.Optimizer = TrainSettings.optimizer,
    weight_decay: options.WeightDecay = TrainSettings.weight_decay,
    beta1: options.Beta1 = TrainSettings.beta1,
    beta2: options.Beta2 = TrainSettings.beta2,
    max_grad_norm: options.MaxGradNorm = TrainSettings.max_grad_norm,
    order: options.Order = TrainSettings.order,
    seed: options.Seed = TrainSettings.seed,
    eval_tokens: watching.EvalTokens = TrainSettings.eval_tokens,
    eval_every: watching.EvalEvery = None,
    keep_best: watching.KeepBest = TrainSettings.keep_best,
    sample_prompt: watching.SamplePrompt = None,
    sample_tokens: watching.SampleTokens = TrainSettings.sample_tokens,
    report_to: watching.ReportTo = None,
    price_per_hour: watching.PricePerHour = None,
    profile_steps: watching.ProfileSteps = 0,
    save_steps: watching.SaveSteps = None,
    save_minutes: watching.SaveMinutes = TrainSettings.save_minutes,
    keep_last: watching.KeepLast = TrainSettings.keep_last,
    keep_every: watching.KeepEvery = None,
    resume: watching.Resume = "auto",
    allow_changed: watching.AllowChanged = False,
    sync_to: watching.SyncTo = None,
    push_to: watching.PushTo = None,
    push_public: watching.PushPublic = False,
    steps_per_round: watching.StepsPerRound = None,
    segments_per_round: watching.SegmentsPerRound = None,
    missing_segment: options.MissingSegment = TrainSettings.missing_segment,
    until_done: watching.UntilDone = False,
    jobs: Jobs = None,
    force: Force = False,
    overwrite_edited: OverwriteEdited = False,
) -> None:
    """Train a model on the dataset; score it on what is held out before and after.

    Runs on a GPU (with unsloth, if installed) or on the CPU. The default base model, SmolLM2-135M,
    is small enough for a laptop; for a real writer rent a GPU and take one of 7 or 8 billion
    parameters.
    """
    settings = settings_from(locals())
    check_early(settings, resume)
    push_best.check(push_to, public=push_public)
    workspace = Workspace(data_dir)
    base_model = absolute(base_model)
    check_base_model(base_model, revision)
    inputs = dataset_files(workspace, dataset, dataset_revision, dataset_config)
    chosen_kind, tables = kind_to_train(workspace, dataset, inputs, kind)
    series = find_series(tables, workspace if dataset is None else None)
    chosen = settings.of_the_result() | {
        "base_model": base_model, "base_files": base_files(workspace, base_model),
        "revision": revision, "dataset": dataset and absolute(dataset),
        "dataset_revision": dataset_revision, "kind": chosen_kind,
    }  # fmt: skip
    if dataset_config is not None:
        chosen["dataset_config"] = dataset_config
    if series is not None:
        chosen["segments"] = series.mark
    if settings.from_scratch is not None:
        chosen["from_scratch"] = workspace.fact(Path(settings.from_scratch)).sha256
    work: dict[str, Any] = {
        "tokens_dir": workspace.cache / "tokens", "jobs": jobs or default_jobs(), "series": series,
    }  # fmt: skip
    checkpoints = workspace.directory("train") / CHECKPOINTS
    if show:
        training, held_out = read_samples(tables, chosen_kind, seed, eos=settings.eos)
        base = resolve_base_model(base_model, workspace.cache / "base", revision, weights=False)
        print_examples(show_training(settings, training, held_out, base, show, **work))
        return
    if until_done and not is_supervised():
        if resume != "auto" or force:
            raise UsageError(
                "--until-done would start anew each time with --resume or --force.",
                "Start once without --until-done; then --until-done goes on from there.",
            )
        keep_training(checkpoints)
        return
    unsent: PipelineError | None = None
    with push_best.pushing(
        workspace, push_to, public=push_public, overwrite=overwrite_edited
    ) as push:
        if push:
            push.tell(chosen, inputs)
        with open_run(
            workspace, "train", version=VERSION, settings=chosen, inputs=inputs, force=force,
            overwrite_edited=overwrite_edited,
        ) as run:  # fmt: skip
            if not run.is_fresh:
                training, held_out = read_samples(tables, chosen_kind, seed, eos=settings.eos)
                # Its weights come when everything is checked that can be without them.
                cache = workspace.cache / "base"
                base = resolve_base_model(base_model, cache, revision, weights=False)
                check_model(settings, base)
                with run.scratch() as folder:
                    result = train_model(
                        settings, training, held_out, base, folder, checkpoints_dir=checkpoints,
                        resume="unfinished" if force and resume == "auto" else resume,
                        allow_changed=allow_changed, sync_to=sync_to,
                        publisher=push.publisher if push else None, command=this_training(),
                        sha256=lambda path: workspace.fact(path).sha256, **work,
                    )  # fmt: skip
                    run.adopt(folder)
                count(run, result)
                unsent = result.unsent
        report(run)
        if push:
            push.result(run)
        if unsent:
            raise unsent
        if run.is_fresh and sync_to and (name := run.counts.get("run")):
            send_last(checkpoints / name, sync_to, END_SECONDS)


def count(run: StageRun, result: TrainResult) -> None:
    """Put the figures of a training into the stage's record."""
    run.counts |= {
        "steps": result.steps,
        "tokens": result.tokens,
        "ledger": result.ledger,
        **({"segments": len(parts.parts)} if (parts := result.run.segments) else {}),
        **({"run": result.checkpoints.name} if result.checkpoints else {}),
        "bits_per_byte": {
            "base": result.base.bits_per_byte,
            "adapter": result.adapter.bits_per_byte,
        },
    }


def keep_training(checkpoints: Path) -> None:
    """Run this command again and again, without --until-done, until training is done.

    Raises typer.Exit with the exit code of the last run, if it is not 0.
    """

    def reached() -> str:
        there = [path for path in checkpoints.glob("*/step-*") if ASIDE not in path.parent.name]
        return " ".join(sorted(f"{path.parent.name}/{path.name}" for path in there))

    if code := run_until_done(checkpoints.parent / STOP, reached):
        raise Exit(code)


def settings_from(given: dict[str, Any]) -> TrainSettings:
    """The settings of a run from this stage's parameters, which have the same names but for a few.

    Raises UsageError for the first that makes no sense, and for a file that cannot be read.
    """
    same = {field.name: given.get(field.name) for field in fields(TrainSettings)}
    values: dict[str, Any] = same | {
        "max_steps": _steps(given),
        "log_every": TrainSettings.log_every,
        "eos": given["eos"].removeprefix("per-"),
        "mix": tuple(given["mix"] or ()),
        "target_modules": tuple(given["target_modules"] or ()),
        "report_to": tuple(given["report_to"] or ()),
        "sample_prompts": tuple(given["sample_prompt"] or TrainSettings.sample_prompts),
        "extra_tokens": read_tokens(Path(t)) if (t := given["extra_tokens"]) else (),
        "from_scratch": _file(c) if (c := given["from_scratch"]) else None,
        "chat_template": read_template(given["chat_template"]),
    }  # fmt: skip
    settings = TrainSettings(**values)
    settings.check()
    return settings


def _steps(given: dict[str, Any]) -> int | None:
    """The steps of --max-steps; None for auto, one pass, which is what there is without it."""
    steps = given["max_steps"]
    if steps is None or isinstance(steps, int):
        return steps
    if steps.strip().lower() == "auto":
        for name in ("epochs", "tokens"):
            if given[name] is not None:
                raise UsageError(f"Give --max-steps or --{name}, not both.")
        return None
    if not steps.strip().isdecimal():
        raise UsageError(f"--max-steps must be a number of steps, or auto, not {steps!r}.")
    return int(steps)


def _file(name: str) -> str:
    path = Path(name).expanduser()
    if not path.is_file():
        raise UsageError(f"--from-scratch {name} is not there.", "Give a config.json.")
    return str(path.resolve())


def report(run: StageRun) -> None:
    """Print the line that sums the stage up."""
    bits = run.counts["bits_per_byte"]
    run.report(
        f"{many(run.counts['steps'], 'step')}, {many(run.counts['tokens'], 'token')}, adapter in "
        f"{run.directory}; held-out bits per byte {bits['base']:.4f} before, "
        f"{bits['adapter']:.4f} after"
    )


if __name__ == "__main__":
    run_script(train)
