"""The whole chain: every stage that is not up to date, in order."""

from typing import Any

import typer

from pipeline import push_best
from pipeline.chunk_inputs import check_overlap, chunk_size_of, minimum_of
from pipeline.command import StageFunction, values_of
from pipeline.corpus.tokenizing import find_tokenizer
from pipeline.errors import PipelineError, UsageError
from pipeline.export.modelfile import Parameters
from pipeline.hub.publishing import check_target
from pipeline.step1_acquire import acquire
from pipeline.step2_preprocess import check_duplicates, check_rules, preprocess
from pipeline.step3_chunk import chunk
from pipeline.step4_upload import upload
from pipeline.step6_train import settings_from, train
from pipeline.step7_quantize import chosen_kinds, quantize
from pipeline.step8_modelfile import SAMPLE, check_wishes, modelfile
from pipeline.step9_publish import chosen_parts, publish
from pipeline.train_inputs import check_data_options
from pipeline.training.base_model import check_base_model
from pipeline.training.early import check_early
from pipeline.workspace import Workspace

STAGE_FUNCTIONS: tuple[StageFunction, ...] = (
    acquire,
    preprocess,
    chunk,
    upload,
    train,
    quantize,
    modelfile,
    publish,
)


def all_stages(**values: Any) -> None:
    """Run every stage that is not up to date, in order: books in, a model that answers out.

    Takes the options of all stages. It stops at the first failure; the same command continues
    there. With no options at all it makes a small model from the sample library.
    """
    check_options(values)
    for function in STAGE_FUNCTIONS:
        try:
            function(**values_of(function, values))
        except UsageError:
            raise  # the same command would not continue
        except PipelineError as error:
            if function is STAGE_FUNCTIONS[0]:
                raise
            name = function.__name__
            way_out = f"The stages before `{name}` are done: the same command continues there."
            error.hint = f"{error.hint} {way_out}" if error.hint else way_out
            raise
    sample = Workspace(values["data_dir"]).directory("modelfile") / SAMPLE
    typer.echo("\n" + sample.read_text("utf-8").rstrip())


def check_options(values: dict[str, Any]) -> None:
    """Raise UsageError or PipelineError for what a later stage would only refuse hours from now."""
    check_rules(values["skip_rule"], values["with_rule"])
    check_duplicates(values["duplicates"])
    size = chunk_size_of(values["chunk_size"], values["tokenizer"])
    minimum_of(size, values["minimum_size"])
    check_overlap(values["overlap"], size)
    if values["tokenizer"] is not None:
        find_tokenizer(values["tokenizer"])
    check_target(values["upload_repo_id"], values["upload_revision"])
    check_target(values["publish_repo_id"], values["publish_revision"])
    chosen_parts(values["include"])
    wanted = values_of(train, values)
    check_early(settings_from(wanted), wanted["resume"])
    push_best.check(values["push_to"], public=values["push_public"])
    check_data_options(
        values["data_dir"], wanted["dataset"], wanted["dataset_revision"], wanted["kind"],
        wanted["chat_template"], wanted["dataset_config"],
    )  # fmt: skip
    check_base_model(values["base_model"], values["train_revision"])
    chosen_kinds(values["quantization"])
    named = ("temperature", "repeat_last_n", "repeat_penalty", "num_predict", "top_k", "top_p",
             "min_p", "sampling_seed")  # fmt: skip
    check_wishes(
        Parameters(*(values[name] for name in named)), values["create"], values["run"],
        values["push"],
    )  # fmt: skip
