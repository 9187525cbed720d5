"""What can be refused of a training run before there is any data, or even a base model."""

from pathlib import Path

from pipeline.errors import UsageError
from pipeline.training.base_model import FROM_HUB, BaseModel, check_weights
from pipeline.training.configs import context_of, new_config
from pipeline.training.engine import Machine, choose_engine, choose_precision
from pipeline.training.length import check_batch
from pipeline.training.libraries import quiet_libraries
from pipeline.training.loading import check_machine, check_method
from pipeline.training.optimizer import check_optimizer
from pipeline.training.reporters import make_reporters
from pipeline.training.rope import parse_scaling, rope_change
from pipeline.training.settings import TrainSettings

RESUMES = ("auto", "never")
_OF_THE_MACHINE = ("engine", "precision", "split_model")


def check_early(settings: TrainSettings, resume: str) -> None:
    """Raise UsageError or PipelineError for what training would only refuse when its turn comes.

    `settings` are checked in themselves already. Takes no time with the defaults: torch is only
    imported for a setting that depends on this machine, or for a model to be made from nothing.
    """
    if settings.rope_scaling is not None:
        parse_scaling(settings.rope_scaling)
    check_batch(settings)
    check_optimizer(settings)
    make_reporters(settings.report_to)
    _check_resume(resume)
    _check_machine(settings)
    if settings.from_scratch is not None:
        _check_new_model(settings, Path(settings.from_scratch))


def check_model(settings: TrainSettings, base: BaseModel) -> None:
    """Raise UsageError or PipelineError for what cannot be done with a model from the Hub on this
    machine, by its configuration alone, or if its weights cannot be fetched.

    One from elsewhere is all there, and looked at when training begins.
    """
    if base.source != FROM_HUB:
        return
    quiet_libraries()
    settings.check_against(base.path)
    check_method(settings, base.path, Machine.detect())
    if settings.from_scratch is None:
        check_weights(base)


def _check_resume(resume: str) -> None:
    if resume not in RESUMES and not (resume and Path(resume).expanduser().exists()):
        raise UsageError(
            f"--resume {resume!r} is not there.", "Give auto, never, or the path of a checkpoint."
        )


def _check_machine(settings: TrainSettings) -> None:
    depends = any(getattr(settings, n) != getattr(TrainSettings, n) for n in _OF_THE_MACHINE)
    if not depends:  # what is in the machine changes nothing
        check_machine(settings, Machine(cuda=False, bf16=False, unsloth=False))
        return
    machine = Machine.detect()
    choose_engine(machine, settings.engine, settings)
    choose_precision(machine, settings.precision)
    check_machine(settings, machine)


def _check_new_model(settings: TrainSettings, path: Path) -> None:
    quiet_libraries()
    config = new_config(path, settings.sequence_length)
    change = rope_change(config, settings.rope_scaling, settings.sequence_length)
    context = change.context if change else context_of(config)
    if context is not None and settings.sequence_length > context:
        raise UsageError(
            f"--sequence-length {settings.sequence_length} exceeds the {context} tokens that the "
            f"model of --from-scratch {path} sees.",
            f"Choose {context} or less, or add --rope-scaling auto.",
        )
