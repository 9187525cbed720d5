"""`pipeline serve`: an OpenAI-compatible server on this machine, for other programs.

pipeline serve                                    the GGUF of the data directory, on port 8000
pipeline serve --gguf model.gguf --port 0         another one, on any port that is free
pipeline serve --benchmark 5                      how fast it answers, and no more
"""

import json
import shlex
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline import console
from pipeline import sampling_options as options
from pipeline.command import DEFAULT_DATA_DIR, DataDir
from pipeline.errors import PipelineError
from pipeline.export.header import trained_context
from pipeline.export.served import chat_ends
from pipeline.export.server import Server, ServerSettings, open_server
from pipeline.printing import print_table
from pipeline.scoring.sampling import Sampling
from pipeline.scoring.speed import speed_figures, speed_table
from pipeline.training.scored_models import find_candidate
from pipeline.training.settings import DEFAULT_PROMPTS
from pipeline.workspace import Workspace
from pipeline.writers import check_whole, finished_gguf, proof_of

BENCHMARK_TOKENS = 128


def serve(
    data_dir: DataDir = DEFAULT_DATA_DIR,
    gguf: Annotated[
        Path | None, typer.Option(help="Another GGUF than that of the data directory.")
    ] = None,
    host: Annotated[
        str, typer.Option(help="The address to listen on; 127.0.0.1 is this machine alone.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 8000,
    alias: Annotated[
        str | None, typer.Option(help="The model's name in requests (default: the file's).")
    ] = None,
    num_ctx: Annotated[
        int | None,
        typer.Option(min=1, help="Tokens that it sees at once (default: as it was trained)."),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads at work (default: as suits the machine).")
    ] = None,
    temperature: options.Temperature = Sampling.temperature,
    top_k: options.TopK = Sampling.top_k,
    top_p: options.TopP = Sampling.top_p,
    min_p: options.MinP = Sampling.min_p,
    repeat_penalty: options.RepeatPenalty = Sampling.repeat_penalty,
    repeat_last_n: options.RepeatLastN = Sampling.repeat_last_n,
    max_tokens: options.MaxTokens = Sampling.max_tokens,
    log: Annotated[
        Path | None, typer.Option(help="Keep what the server and llama.cpp print in this file.")
    ] = None,
    benchmark: Annotated[
        int,
        typer.Option(
            min=0, help=f"Only measure so many requests of {BENCHMARK_TOKENS} tokens, and end."
        ),
    ] = 0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the figures of --benchmark as JSON.")
    ] = False,
) -> None:
    """Serve a GGUF with llama.cpp's OpenAI-compatible server, until Ctrl-C.

    What is said here of sampling holds for requests that do not say otherwise.

    For a model of texts that is /v1/completions; one with a template for chats also takes
    /v1/chat/completions.
    """
    sampling = Sampling(temperature, top_k, top_p, min_p, repeat_penalty, repeat_last_n, max_tokens)
    sampling.check()
    workspace = Workspace(data_dir)
    path = chosen_gguf(workspace, gguf)
    settings = ServerSettings(
        path, alias or path.stem, host, port, num_ctx or context_of(workspace, path), threads,
        sampling, chat_ends(path, proof_of(workspace)),
    )  # fmt: skip
    if not settings.is_local:
        console.warn(
            f"Whoever reaches {host} can use this model: the server asks nobody for a password."
        )
    try:
        with open_server(settings, log) as server:
            if benchmark:
                measure(server, benchmark, as_json=as_json)
                return
            console.say(f"serve: {path}, {settings.context:,} tokens of context")
            typer.echo(f"{server.url}\n\n{curl(server)}\n")
            console.say("Ctrl-C ends it.")
            server.wait()
    except KeyboardInterrupt:
        console.say("serve: ended")


def chosen_gguf(workspace: Workspace, gguf: Path | None) -> Path:
    """The GGUF that is named, else that of the data directory.

    Raises PipelineError if there is none, or it is none.
    """
    if gguf is not None:
        if not gguf.expanduser().exists():  # it is no name of the Hub
            raise PipelineError(f"There is no file {gguf}.", "Is the path right?")
        candidate = find_candidate(str(gguf))
        if candidate.kind != "gguf":
            raise PipelineError(
                f"{gguf} is no GGUF, and llama.cpp serves nothing else.",
                "`pipeline quantize` makes one of an adapter; `pipeline generate` needs none.",
            )
        check_whole(Path(candidate.place))
        return Path(candidate.place)
    found = finished_gguf(workspace)
    if found is None:
        raise PipelineError(
            f"{workspace.directory('modelfile')} has no GGUF yet.",
            "Run `pipeline all` first, or name one with --gguf.",
        )
    return found


def context_of(workspace: Workspace, gguf: Path) -> int:
    """How many tokens the model was trained to see at once; see `trained_context`."""
    return trained_context(gguf, proof_of(workspace))


def curl(server: Server) -> str:
    """A request to try, as a command."""
    prompt = DEFAULT_PROMPTS[0]
    if server.chat:
        path, body = "chat/completions", {"messages": [{"role": "user", "content": prompt}]}
    else:
        path, body = "completions", {"prompt": prompt}  # type: ignore[dict-item]
    data = json.dumps({"model": server.alias, **body, "max_tokens": 200}, ensure_ascii=False)
    return (
        f"curl {server.url}/{path} -H 'Content-Type: application/json' \\\n  -d {shlex.quote(data)}"
    )


def measure(server: Server, runs: int, *, as_json: bool) -> None:
    """Print how fast completions come, as a client sees it: the mean and how runs differ.

    A first request, which brings the model into the caches, does not count.
    """
    request: dict[str, Any] = {
        "model": server.alias, "prompt": DEFAULT_PROMPTS[0], "max_tokens": BENCHMARK_TOKENS,
        "logit_bias": {str(token): -100.0 for token in server.end_tokens},
    }  # fmt: skip
    seconds, speeds, tokens = [], [], 0
    with console.progress("Measuring", runs + 1, "requests") as advance:
        for run in range(runs + 1):
            start = time.perf_counter()
            usage = server.ask("/completions", request | {"seed": run})["usage"]
            took = time.perf_counter() - start
            tokens = usage["completion_tokens"]
            if run:
                seconds.append(took)
                speeds.append(tokens / took)
            advance()
    measured = {"request, s": seconds, "tokens/s": speeds}
    if as_json:
        report = {"model": server.alias, "tokens": tokens, "measured": speed_figures(measured)}
        typer.echo(json.dumps(report, ensure_ascii=False, indent=2))
    else:
        print_table(speed_table(measured))
        typer.echo(f"{server.alias}: {tokens} tokens in each request")
