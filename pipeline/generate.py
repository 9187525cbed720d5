"""`pipeline generate`: let a model write, and look at what it makes of a prompt.

pipeline generate "It was a dark night"           the best model of the data directory
pipeline generate --model 6_adapter < prompt.txt  an adapter, on what is piped in
pipeline generate                                 a prompt loop, on a terminal
pipeline generate --compare --samples 2           base and tuned side by side, and saved
"""

import json
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from pipeline import comparison, console, prompts
from pipeline import sampling_options as options
from pipeline.command import DEFAULT_DATA_DIR, DataDir
from pipeline.comparison import NO_TEXT, Sample
from pipeline.errors import UsageError
from pipeline.export.header import metadata, trained_context
from pipeline.export.served import chat_ends
from pipeline.files import write_bytes
from pipeline.memorisation import TrainingText
from pipeline.printing import print_table
from pipeline.scoring.sampling import Sampling
from pipeline.scoring.speed import speed_figures, speed_table
from pipeline.training.adapter_sources import read_evaluation
from pipeline.training.scored_models import Candidate
from pipeline.training.settings import DEFAULT_PROMPTS
from pipeline.workspace import Workspace
from pipeline.writers import (
    Form,
    Writer,
    base_of,
    check_whole,
    open_writer,
    proof_of,
    recorded_form,
    tuned_model,
)

COMPARING = "Comparing and measuring"
COMPARED_TOKENS = 200  # of each text, where nothing else is asked for
BENCHMARK_TOKENS = 128


def generate(
    prompt: Annotated[
        str | None,
        typer.Argument(help="What to go on from (default: what is piped in, or a prompt loop)."),
    ] = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "--gguf",
            help="An adapter's or model's folder, a *.gguf, a Hub id (default: the GGUF of the "
            "data directory, else its adapter).",
        ),
    ] = None,
    prompt_file: Annotated[
        Path | None,
        typer.Option(help=f"A file of prompts, lines of only {prompts.SEPARATOR} between them."),
    ] = None,
    chat: Annotated[
        bool | None,
        typer.Option(
            "--chat/--text",
            help="Put the prompt as the first turn of a chat, or go on from it (default: as the "
            "model was trained).",
        ),
    ] = None,
    echo: Annotated[
        bool | None,
        typer.Option(
            "--echo/--no-echo", help="Also print the prompt (default: where a text goes on)."
        ),
    ] = None,
    max_tokens: Annotated[
        int | None,
        typer.Option(
            help=f"Tokens to write at the most (default: {Sampling.max_tokens}; "
            f"{COMPARED_TOKENS} with --compare).",
            rich_help_panel=options.SAMPLING,
        ),
    ] = None,
    temperature: options.Temperature = Sampling.temperature,
    top_k: options.TopK = Sampling.top_k,
    top_p: options.TopP = Sampling.top_p,
    min_p: options.MinP = Sampling.min_p,
    repeat_penalty: options.RepeatPenalty = Sampling.repeat_penalty,
    repeat_last_n: options.RepeatLastN = Sampling.repeat_last_n,
    seed: options.Seed = Sampling.seed,
    stop: options.Stop = None,
    samples: Annotated[
        int,
        typer.Option(
            "--samples", "-n", min=1,
            help="Texts for each prompt, each with the next seed.",
            rich_help_panel=options.SAMPLING,
        ),
    ] = 1,
    num_ctx: Annotated[
        int,
        typer.Option(
            min=0, help="Tokens that it sees at once; 0: as it was trained.",
            rich_help_panel=options.SAMPLING,
        ),
    ] = 0,
    compare: Annotated[
        bool,
        typer.Option(
            "--compare", help="Put base and tuned model side by side, and save that.",
            rich_help_panel=COMPARING,
        ),
    ] = False,
    base: Annotated[
        str | None,
        typer.Option(
            help="The model to compare with (default: the one it was made from).",
            rich_help_panel=COMPARING,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="The Markdown file of --compare (default: comparison-DATE.md in the data "
            "directory).",
            rich_help_panel=COMPARING,
        ),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", help="Replace an --output that is there.", rich_help_panel=COMPARING
        ),
    ] = False,
    check_overlap: Annotated[
        bool,
        typer.Option(
            "--check-overlap",
            help="Tell the longest stretch of each text that stands in the training text, and the "
            "book (--compare always does).",
            rich_help_panel=COMPARING,
        ),
    ] = False,
    benchmark: Annotated[
        int,
        typer.Option(
            min=0, help=f"Measure the speed of so many runs of {BENCHMARK_TOKENS} tokens.",
            rich_help_panel=COMPARING,
        ),
    ] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:  # fmt: skip
    """Let a model write. It goes on from a text; one that was trained on chats answers.

    The text goes to standard output, as it is written; how fast it was to standard error.
    """
    if prompt is not None and prompt_file is not None:
        raise UsageError("Give a prompt or --prompt-file, not both.")
    if compare and benchmark:
        raise UsageError("Give --compare or --benchmark, not both.")
    if not compare and (base or output or overwrite):
        raise UsageError("--base, --output and --overwrite go with --compare.")
    default = COMPARED_TOKENS if compare else BENCHMARK_TOKENS if benchmark else Sampling.max_tokens
    sampling = Sampling(
        temperature, top_k, top_p, min_p, repeat_penalty, repeat_last_n,
        default if max_tokens is None else max_tokens, seed, tuple(stop or ()),
    )  # fmt: skip
    sampling.check()
    workspace = Workspace(data_dir)
    tuned = tuned_model(workspace, model)
    num_ctx = num_ctx or context_of(workspace, tuned)
    form = form_of(workspace, tuned, chat)
    if compare:
        asked = wanted_prompts(prompt, prompt_file) or comparison.own_prompts(workspace, tuned)
        target = output or default_output(workspace)
        prompts.refuse_existing(target, overwrite=overwrite)
        found = comparison.compare(
            base_of(workspace, tuned, base), tuned, workspace.cache / "base",
            list(dict.fromkeys(asked)), sampling, per_prompt=samples, form=form, context=num_ctx,
            training=TrainingText.of(workspace),
        )  # fmt: skip
        show_comparison(found, target, as_json=as_json)
        return
    asked = wanted_prompts(prompt, prompt_file)
    loops = not asked and not benchmark and not prompts.is_piped()
    if not asked and not loops:
        asked = list(DEFAULT_PROMPTS[:1]) if benchmark else prompts.piped_prompts()
    training = TrainingText.of(workspace) if check_overlap else None
    if check_overlap and training is None:
        console.warn(NO_TEXT)
    with open_writer(tuned, workspace.cache / "base", form, num_ctx) as writer:
        if benchmark:
            measure(writer, asked[0], sampling, benchmark, as_json=as_json)
        elif loops:
            loop(writer, sampling, training, echo=bool(echo))
        else:
            write_all(
                writer, asked, sampling, samples, training, as_json=as_json,
                echo=not writer.form.chat if echo is None else echo,
            )  # fmt: skip


def context_of(workspace: Workspace, tuned: Candidate) -> int:
    """How many tokens a model was trained to see at once, as `pipeline serve` and the Modelfile
    have it, so that each form of it writes the same; 0 where only its files can tell."""
    place = Path(tuned.place).expanduser()
    if tuned.kind == "gguf":
        check_whole(place)
        return trained_context(place, proof_of(workspace))
    evaluation = read_evaluation(place) if place.is_dir() else None
    return max(0, evaluation["sequence_length"]) if evaluation else 0


def form_of(workspace: Workspace, tuned: Candidate, chat: bool | None) -> Form | None:
    """How prompts are put to a model, as far as it is asked for; None is as it was trained.

    A GGUF holds the template of its chats, and stage 7's record what ends an answer.
    """
    if chat is not False and tuned.kind == "gguf":
        place = Path(tuned.place).expanduser()
        ends = chat_ends(place, proof_of(workspace))
        if ends and (chat or "tokenizer.chat_template" in metadata(place)):
            return Form(True, ends=ends)
    if chat and (recorded := recorded_form(tuned)) and recorded.chat:
        return recorded  # with its template and ends
    return None if chat is None else Form(chat)


def wanted_prompts(prompt: str | None, prompt_file: Path | None) -> list[str]:
    """The prompts of the command line; none if it names none."""
    if prompt_file is not None:
        return prompts.read_prompts(prompt_file)
    return [] if prompt is None else [prompt]


def write_all(
    writer: Writer,
    asked: Sequence[str],
    sampling: Sampling,
    per_prompt: int,
    training: TrainingText | None,
    *,
    echo: bool,
    as_json: bool,
) -> None:
    """Write after each prompt as many texts as asked for, with a line between two of them."""
    name = writer.candidate.name
    found: list[Sample] = []
    out = prompts.TextOut(silent=as_json)
    for text in asked:
        for number in range(per_prompt):
            if found:
                out(f"\n{prompts.SEPARATOR}\n\n")
            found.append(written(writer, text, sampling.numbered(number), out, echo=echo))
            comparison.tell_speed(found[-1], name)
    if training is not None:
        found = comparison.searched(training, found)
        comparison.print_copied(found, name)
    if as_json:
        report = {
            "model": name, "kind": writer.candidate.kind, "place": writer.candidate.place,
            "chat": writer.form.chat, "settings": sampling.as_dict(),
            "samples": [one.as_dict() for one in found],
        }  # fmt: skip
        typer.echo(json.dumps(report, ensure_ascii=False, indent=2))


def written(
    writer: Writer, prompt: str, sampling: Sampling, out: prompts.TextOut, *, echo: bool
) -> Sample:
    """One text, shown as it is written."""
    if echo:
        out(prompt)
    try:
        answer = writer.write(prompt, sampling, on_text=out)
    finally:
        out.end()  # what is said of Ctrl-C or an error begins a line of its own
    return Sample(prompt, sampling.seed, answer)


def loop(writer: Writer, sampling: Sampling, training: TrainingText | None, *, echo: bool) -> None:
    """Answer prompt after prompt on a terminal, each with the next seed. None knows the others."""
    name = writer.candidate.name
    does = "answers" if writer.form.chat else "goes on from what you write"
    console.say(f"{name} {does}. Ctrl-C ends an answer, Ctrl-D the loop.")
    number = 0

    def answer(prompt: str) -> None:
        nonlocal number
        numbered = sampling.numbered(number)
        number += 1
        sample = written(writer, prompt, numbered, prompts.TextOut(), echo=echo)
        comparison.tell_speed(sample, name)
        if training is not None:
            comparison.print_copied(comparison.searched(training, [sample]), name)

    prompts.ask_again_and_again(answer)


def measure(writer: Writer, prompt: str, sampling: Sampling, runs: int, *, as_json: bool) -> None:
    """Print how fast the model reads and writes: the mean of some runs, and how they differ.

    A first run, which brings the model into the caches, does not count.
    """
    answers = []
    with console.progress("Measuring", runs + 1, "runs") as advance:
        for _ in range(runs + 1):
            answers.append(writer.write(prompt, sampling, ignore_end=True))
            advance()
    measured = {
        "reading, tokens/s": [one.prompt_tokens_per_second for one in answers[1:]],
        "writing, tokens/s": [one.tokens_per_second for one in answers[1:]],
        "first token, s": [one.prompt_seconds for one in answers[1:]],
    }
    about = (
        f"{writer.candidate.name}: {answers[0].prompt_tokens:,} tokens read, "
        f"{answers[0].tokens:,} written in each run; loaded in "
        f"{console.duration(writer.load_seconds)}"
    )
    if as_json:
        report = {"model": writer.candidate.name, "load_seconds": writer.load_seconds,
                  "prompt_tokens": answers[0].prompt_tokens, "tokens": answers[0].tokens,
                  "measured": speed_figures(measured)}  # fmt: skip
        typer.echo(json.dumps(report, ensure_ascii=False, indent=2))
    else:
        print_table(speed_table(measured))
        typer.echo(about)


def default_output(workspace: Workspace) -> Path:
    """A new name in the data directory, or here where there is none."""
    folder = workspace.root if workspace.root.is_dir() else Path()
    return folder / f"comparison-{datetime.now():%Y%m%d-%H%M%S}.md"


def show_comparison(found: comparison.Comparison, target: Path, *, as_json: bool) -> None:
    """Print what was compared: in columns on a terminal, else as the Markdown that is saved."""
    text = comparison.as_markdown(found)
    write_bytes(target, text.encode())
    if as_json:
        typer.echo(json.dumps(found.as_dict(), ensure_ascii=False, indent=2))
    elif sys.stdout.isatty():
        print_table(comparison.as_table(found))
        if not found.has_training_text:
            typer.echo(NO_TEXT)
    else:
        typer.echo(text, nl=False)
    console.say(f"generate: compared in {target}")
