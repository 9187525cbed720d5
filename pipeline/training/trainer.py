"""Train on texts, on prompts with completions, or on chats: a model and its scores come out.

    result = train(TrainSettings(epochs=1), train_documents, validation_documents, base, folder)

What is decided beforehand is in `preparation`, how a model is loaded and saved in `loading`, the
work itself in `loop`.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pipeline.console import say
from pipeline.corpus.new_tokens import extend_tokenizer
from pipeline.corpus.token_cache import load_tokenizer
from pipeline.corpus.tokens import tokenizer_fingerprint
from pipeline.errors import PipelineError, Stopped
from pipeline.files import fingerprint, sha256_file
from pipeline.scoring.bits import HasText
from pipeline.training import checkpoints, leftovers
from pipeline.training.adapters import without_rows
from pipeline.training.base_model import BaseModel, fetch_weights
from pipeline.training.batches import check_isolation
from pipeline.training.best import Best
from pipeline.training.checkpointing import RunCheckpoints
from pipeline.training.configs import read_config
from pipeline.training.data import Sample
from pipeline.training.dataset import show_examples
from pipeline.training.engine import Machine, start_engine
from pipeline.training.estimate import check_disk, check_memory
from pipeline.training.evaluation import EVALUATIONS, Evaluation, Evaluator, evaluation_of
from pipeline.training.flops import flops_per_token, matmul_rate
from pipeline.training.identity import going_on
from pipeline.training.libraries import quiet_libraries
from pipeline.training.loading import load_for_training
from pipeline.training.loop import LAST, Loop, Watchers, eval_every, fit
from pipeline.training.monitor import Monitor
from pipeline.training.news import publishing
from pipeline.training.preparation import Prepared, announce, choose, prepare, tokenize
from pipeline.training.probe import largest_micro_batch
from pipeline.training.publishing_best import BestPublisher
from pipeline.training.remote_copies import RemoteCopies
from pipeline.training.reporters import make_reporters
from pipeline.training.results import TrainResult, save_reports
from pipeline.training.run_log import TRAIN_LOG, run_log
from pipeline.training.save_policy import doomed, most_kept
from pipeline.training.saving import save_trained
from pipeline.training.segments import Series
from pipeline.training.settings import EVEN, TrainSettings

__all__ = ["TrainResult", "TrainSettings", "show", "train"]

BASE = "base"
# For the last checkpoint to arrive elsewhere: a machine that is taken away gives half a minute or
# two, one that is done waits.
STOP_SECONDS, END_SECONDS = 60.0, 900.0


def train(
    settings: TrainSettings,
    train_documents: Iterable[HasText | Sample],
    validation_documents: Iterable[HasText | Sample],
    base: BaseModel,
    output_dir: Path,
    *,
    tokens_dir: Path | None = None,
    jobs: int = 1,
    checkpoints_dir: Path | None = None,
    resume: str = "auto",
    allow_changed: bool = False,
    sync_to: str | None = None,
    publisher: BestPublisher | None = None,
    sha256: Callable[[Path], str] = sha256_file,
    series: Series | None = None,
    command: Sequence[str] = (),
) -> TrainResult:
    """Train an adapter for `base`, or all of it, and measure what it brought.

    Writes into `output_dir`: what was trained (PEFT's `adapter_model.safetensors` and
    `adapter_config.json`, or a whole model), the tokenizer, `metrics.jsonl`, `evaluations.jsonl`,
    `loss.png`, `run.yaml`, `train.log`, `evaluation.json`, and `windows.json`, the held-out token
    windows on which other forms of the model are scored later.

    Args:
        train_documents: documents, or records as samples; all of one kind.
        validation_documents: the same, held out.
        base: the weights of one from the Hub may still be there: they are fetched when everything
            else is checked.
        tokens_dir: a folder for the tokenized data, which is found there the next time.
        jobs: processes that tokenize.
        checkpoints_dir: where checkpoints of this run, and of others, are; None for none.
        resume, allow_changed: see `RunCheckpoints.find`.
        sync_to: where copies of the checkpoints go, and come from: a URL. What was trained is
            there even if the last of them never arrives: `unsent` of the result says so then.
        publisher: gets the best weights so far, each time.
        sha256: the hash of a file of the base model, which may be known already.
        series: which document is in which segment; they are trained one after the other.
        command: what goes on with the run, for `pipeline status`; see `command_line`.

    Raises:
        Stopped: on request, or at the end of a round; the run is saved.
        UsageError: a setting makes no sense, or not with this model, this machine or these
            sources; before anything is loaded.
        PipelineError: nothing to train on or to hold out, a segment without text, several kinds at
            once, sources with a weight and without one, a chat template that does not serve, too
            little memory or disk, a model that cannot keep packed documents apart, or the loss is
            no longer a number.
    """
    with ExitStack() as stack:
        tokens_dir = tokens_dir or Path(stack.enter_context(TemporaryDirectory())) / "tokens"
        chosen = choose(settings, train_documents, validation_documents, base, series)
        make_reporters(settings.report_to)  # what is not installed is not found out after an hour
        run = prepare(settings, chosen, base, tokens_dir, jobs)
        stack.enter_context(run_log(output_dir / TRAIN_LOG, settings.as_dict()))
        announce(run)
        longest = max(run.data.lengths)
        say(check_memory(settings, base.path, run.machine, longest).describe())
        saves = None
        if checkpoints_dir:
            saves = RunCheckpoints.of(
                checkpoints_dir, _identity(run, sha256), settings, run.length.steps,
                sequences=len(run.order), segments=run.segments, command=command,
            )  # fmt: skip
            if sync_to is not None:
                policy = settings.save_policy()
                is_changed = allow_changed and resume != "never"
                copies = RemoteCopies(
                    sync_to, run=saves.run,
                    keep=lambda steps: doomed(steps, policy, best=None, last_good=None),
                    follows=going_on(saves.identity) if is_changed else None,
                    on_arrival=saves.note_copy,
                )  # fmt: skip
                saves.remote = stack.enter_context(copies)
            saves.find(resume, allow_changed=allow_changed)
            run = replace(run, length=replace(run.length, steps=saves.steps))
            if publisher:
                publisher.begin(saves.run, saves.folder)
        kept = 0
        if saves:
            there = sum(1 for _ in checkpoints.whole(saves.folder, hashes=False))
            kept = max(1, most_kept(settings.save_policy(), run.length.steps) - there)
        check_disk(settings, base.path, output_dir, checkpoints=kept)
        if settings.from_scratch is None:  # an hour's download: all that can be refused, was
            fetch_weights(base)
        try:
            result = _train(run, output_dir, saves, publisher)
        except BaseException as error:
            if saves:
                saves.keep_log(output_dir / TRAIN_LOG)
                if isinstance(error, Stopped):
                    try:
                        saves.finish(STOP_SECONDS)
                    finally:
                        if publisher:
                            publisher.stop(STOP_SECONDS)
            raise
        if saves:
            # No remote is to take away what was trained.
            try:
                saves.finish(END_SECONDS)
            except PipelineError as error:
                result = replace(result, unsent=error)
            result = replace(result, checkpoints=saves.folder)
            if text := leftovers.told(saves.root, saves.run):
                say(text)
        return result


def _identity(run: Prepared, sha256: Callable[[Path], str]) -> dict[str, Any]:
    """Everything that decides what comes out of a run."""
    key, lengths = run.data.store.key, run.data.lengths
    data: dict[str, Any] = {"data": fingerprint([key, lengths])}
    if run.segments is not None:  # one by one, so that a series may grow
        key.pop("data")
        data = {"data": fingerprint(key), "segments": run.segments.identity()}
    return run.settings.of_the_result() | {
        "base_model": f"{run.base.name} {run.base.revision or _digest(run.base.path, sha256)}",
        "mixture": [list(stage) for stage in run.mixture.schedule.stages] if run.mixture else None,
        "from_scratch": _digest(Path(s)) if (s := run.settings.from_scratch) else None,
        **data,
        "order": EVEN if run.drawn == EVEN else None,
        "held_out": fingerprint([[w.ids, w.mask] for w in run.held_out]),
        "tokenizer": tokenizer_fingerprint(run.tokenizer),
        "precision": run.precision.name,
        "engine": run.engine.name,
        "processes": 1,
    }


def _digest(path: Path, sha256: Callable[[Path], str] = sha256_file) -> str:
    """A hash of a file, or of a model's weights and configuration."""
    if path.is_file():
        return sha256_file(path)
    files = sorted([*path.glob("*.safetensors"), *path.glob("config.json")])
    return fingerprint([[file.name, sha256(file)] for file in files])


def show(
    settings: TrainSettings,
    train_documents: Iterable[HasText | Sample],
    validation_documents: Iterable[HasText | Sample],
    base: BaseModel,
    n: int,
    tokens_dir: Path,
    jobs: int = 1,
    series: Series | None = None,
) -> list[list[tuple[str, bool]]]:
    """What `train` would train on: the first `n` sequences as text in stretches, each with whether
    it is trained on. Raises as `train` does before it loads the model.
    """
    chosen = choose(settings, train_documents, validation_documents, base, series)
    machine = Machine.detect()
    engine = start_engine(machine, settings)
    quiet_libraries()
    extended = extend_tokenizer(base.path, settings.extra_tokens, tokens_dir.parent / "tokenizers")
    data = tokenize(settings, chosen, extended.path, engine, machine, tokens_dir, jobs)
    return show_examples(data, load_tokenizer(extended.path), n)


def _train(
    run: Prepared, output_dir: Path, saves: RunCheckpoints | None, publisher: BestPublisher | None
) -> TrainResult:
    settings = run.settings
    output_dir.mkdir(parents=True, exist_ok=True)
    with (
        TemporaryDirectory(prefix="best-", dir=output_dir) as best_dir,
        _monitor(run, output_dir, saves) as monitor,
    ):
        model = load_for_training(
            run.engine, run.base, settings, run.precision, cuda=run.machine.cuda,
            extended=run.extended,
        )  # fmt: skip
        if any(len(sequence) > 1 for sequence in run.data.sequences):
            check_isolation(model, run.precision.autocast)
        monitor.flops_per_token = flops_per_token(model, _mean_document(run))
        device = "cuda" if run.machine.cuda else "cpu"
        monitor.machine_flops = matmul_rate(device, run.precision.dtype)
        before = _before(model, run, output_dir, monitor, saves)
        best = None
        if settings.keep_best:
            best = Best(saves.best if saves else Path(best_dir) / "best")
        publish = publishing(run, before, publisher) if publisher else None
        there = publisher.there if publisher else -1
        if publish and best and best.step is not None and best.step > there:
            best.restore(model)  # for a moment: `fit` puts the checkpoint's weights there
            publish(model, evaluation_of(output_dir / EVALUATIONS, best.step, LAST))
        watchers = Watchers(monitor, _evaluator(run, output_dir), best, saves, publish)
        fitted = fit(model, _loop(model, run), watchers, output_dir)
        after = _keep_best(model, output_dir, best)
        summary = monitor.summary(tokens=fitted.tokens, positions=fitted.positions)
    result = TrainResult(run, before, after, fitted, summary, monitor.points, monitor.held_out)
    save_trained(model, run.base, settings, output_dir, run.extended)
    save_reports(result, output_dir)
    say(str(summary))
    return result


def _monitor(run: Prepared, folder: Path, saves: RunCheckpoints | None) -> Monitor:
    settings = run.settings
    done = saves.progress() if saves else None
    if saves:
        saves.carry_over(folder)
    every = eval_every(settings, run.length.steps)
    return Monitor(
        folder, run.length.steps, price_per_hour=settings.price_per_hour,
        reporters=make_reporters(settings.report_to, folder), settings=settings.as_dict(),
        evaluations=math.ceil(run.length.steps / every) if every else 1,
        cuda=run.machine.cuda, skips_overflows=run.precision.name == "float16",
        profile_steps=settings.profile_steps, keep_best=settings.keep_best,
        done=done,
    )  # fmt: skip


def _mean_document(run: Prepared) -> float:
    """Tokens that see each other, on average: of a document, or as much of it as a row has."""
    return float(run.data.tokens / run.data.ledger["rows"])


def _evaluator(run: Prepared, folder: Path, *, of_base: bool = False) -> Evaluator:
    tokenizer = run.tokenizer
    if of_base and run.extended.new:
        tokenizer = load_tokenizer(run.base.path)
    return Evaluator(
        tokenizer,
        run.base_held_out if of_base else run.held_out,
        run.sources,
        [one.given(tokenizer, run.settings.chat_template) for one in run.asked],
        sample_tokens=run.settings.sample_tokens,
        seed=run.settings.seed,
        autocast=run.precision.autocast,
        folder=folder,
        asked=[one.as_value() for one in run.asked],
    )


def _before(
    model: Any, run: Prepared, folder: Path, monitor: Monitor, saves: RunCheckpoints | None
) -> Evaluation:
    """Score what there was before: the base model, in its own tokens. A run that goes on has that
    score already, unless it is another text that is held out."""
    if saves and saves.found and not saves.scores_anew:
        return evaluation_of(folder / EVALUATIONS, 0, BASE)
    (folder / EVALUATIONS).unlink(missing_ok=True)
    found = _evaluate_base(model, run, folder)
    monitor.evaluated(found)
    return found


def _evaluate_base(model: Any, run: Prepared, folder: Path) -> Evaluation:
    with ExitStack() as stack:
        if not run.settings.trains_everything:
            stack.enter_context(model.disable_adapter())
        if run.extended.new and run.settings.from_scratch is None:
            own = read_config(run.base.path).get_text_config(decoder=True).vocab_size
            stack.enter_context(without_rows(model, own))
        return _evaluator(run, folder, of_base=True).evaluate(model, 0, BASE)


def _loop(model: Any, run: Prepared) -> Loop:
    settings = run.settings
    micro_batch = settings.micro_batch_size or largest_micro_batch(
        model,
        max(run.data.lengths),
        settings.sequences_per_step,
        len(run.tokenizer),
        run.precision.autocast,
    )
    return Loop(
        settings=settings, data=run.data, order=run.order, steps=run.length.steps,
        micro_batch=micro_batch, tokenizer=run.tokenizer, pad_id=run.padding[0],
        precision=run.precision, cuda=run.machine.cuda, segments=run.segments,
    )  # fmt: skip


def _keep_best(model: Any, folder: Path, best: Best | None) -> Evaluation:
    """Leave the best weights of the run in the model, and return their scores."""
    last = evaluation_of(folder / EVALUATIONS, None, LAST)
    if best is None or best.step is None or best.step == last.step:
        return last
    best.restore(model)
    kept = evaluation_of(folder / EVALUATIONS, best.step, LAST)
    say(
        f"Kept the weights of step {kept.step}, at {kept.score.bits_per_byte:.4f} bits per byte; "
        f"the last had {last.score.bits_per_byte:.4f}."
    )
    return kept
