"""`pipeline serve`: a real server of llama.cpp on the loopback address."""

import http.client
import json
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import PipelineError
from pipeline.export.llama import complete
from pipeline.export.served import chat_ends
from pipeline.export.server import Server, ServerSettings, open_server
from pipeline.scoring.sampling import Sampling
from pipeline.serve import chosen_gguf, context_of, curl, serve
from pipeline.workspace import Workspace
from tests.chain import ROOT, environment
from tests.test_generate import models  # noqa: F401 - a fixture

PROMPT = "I was walking on the shore"


@pytest.fixture(scope="module")
def gguf(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    """The tiny model as one that goes on from texts: without a chat template."""
    from gguf import GGUFReader

    path = tmp_path_factory.mktemp("served") / "text.gguf"
    data = (models / "base.gguf").read_bytes()
    # The key is renamed in place: what is called otherwise is no template.
    path.write_bytes(data.replace(b"tokenizer.chat_template", b"tokenizer.chat_templat_", 1))
    assert "tokenizer.chat_template" not in GGUFReader(path).fields
    return path


@pytest.fixture(scope="module")
def server(gguf: Path) -> Iterator[Server]:
    sampling = Sampling(temperature=1.3, max_tokens=7)
    with open_server(ServerSettings(gguf, "tale", port=0, sampling=sampling)) as opened:
        yield opened


@pytest.fixture(scope="module")
def chats(models: Path) -> Iterator[Server]:  # noqa: F811
    """The tiny model with its template, which likes what it said before; "e" ends its answers."""
    sampling = Sampling(temperature=0, repeat_penalty=0.2, repeat_last_n=-1, max_tokens=24)
    settings = ServerSettings(
        models / "base.gguf", "tale", port=0, sampling=sampling, chat_ends=("e",)
    )
    with open_server(settings) as opened:
        yield opened


def get(server: Server, **headers: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(server.host, server.port, timeout=60)
    connection.request("GET", "/v1/models", headers={k.title(): v for k, v in headers.items()})
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer


def test_it_completes_as_openai_does_and_writes_what_the_model_writes(
    server: Server, gguf: Path
) -> None:
    assert [model["id"] for model in server.ask("/models")["data"]] == ["tale"]
    answer = server.ask("/completions", {"prompt": PROMPT, "temperature": 0, "max_tokens": 12})
    (choice,) = answer["choices"]
    assert choice["text"] == complete(gguf, PROMPT, temperature=0, max_tokens=12).text
    assert choice["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 12
    assert answer["model"] == "tale", "and not a path of this disk"


def test_requests_that_say_nothing_of_sampling_get_the_settings_of_the_server(
    server: Server,
) -> None:
    def text(**request: Any) -> tuple[str, int]:
        answer = server.ask("/completions", {"prompt": PROMPT, "seed": 3, **request})
        return answer["choices"][0]["text"], answer["usage"]["completion_tokens"]

    spelled = {"temperature": 1.3, "top_k": 40, "top_p": 0.9, "min_p": 0.0, "repeat_penalty": 1.1}
    assert text() == text(**spelled, max_tokens=7)
    assert text()[1] == 7
    assert text() != text(temperature=0)


def test_a_model_of_texts_goes_on_from_what_a_chat_says(server: Server) -> None:
    request = {"temperature": 0, "max_tokens": 6}
    turns = [{"role": "user", "content": PROMPT}]
    chat = server.ask("/chat/completions", {"messages": turns, **request})
    text = server.ask("/completions", {"prompt": PROMPT, **request})
    assert chat["choices"][0]["message"]["content"] == text["choices"][0]["text"]
    assert "/v1/completions" in curl(server)


def test_minus_one_looks_back_at_tokens_and_does_not_switch_the_penalty_off(
    chats: Server, models: Path  # noqa: F811
) -> None:  # fmt: skip
    text = chats.ask("/completions", {"prompt": PROMPT})["choices"][0]["text"]
    assert len(set(text.split())) < len(text.split()) / 2, "a penalty below 1 has it repeat itself"
    none = complete(
        models / "base.gguf", PROMPT, temperature=0, max_tokens=24, repeat_penalty=0.2,
        repeat_last_n=0,
    ).text  # fmt: skip
    assert len(set(none.split())) > len(none.split()) / 2
    assert "e" in text, "what ends a chat does not end a text"


def test_what_ended_answers_in_training_ends_them_whatever_a_request_says(chats: Server) -> None:
    def answer(**request: Any) -> tuple[str, str]:
        turns = [{"role": "user", "content": PROMPT}]
        (choice,) = chats.ask("/chat/completions", {"messages": turns, **request})["choices"]
        return choice["message"]["content"], choice["finish_reason"]

    text, why = answer()
    assert "e" not in text and why == "stop"
    assert answer(stop="no such text") == answer(stop=["e"]) == (text, why)
    if text:
        assert answer(stop=text[0]) == ("", "stop")


def test_a_request_that_nothing_can_go_on_from_is_told_so(server: Server) -> None:
    def refused(body: str, path: str = "completions") -> str:
        connection = http.client.HTTPConnection(server.host, server.port, timeout=60)
        connection.request("POST", f"/v1/{path}", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        error = json.loads(answer.read())["error"]
        connection.close()
        assert (answer.status, error["type"]) == (400, "invalid_request_error")
        return str(error["message"])

    empty = "The prompt is empty, and this model has no token that begins a text."
    for body in ('{"prompt": ""}', '{"prompt": [""], "stream": true}', "{}"):
        assert refused(body) == empty
    assert refused('{"prompt": null}') == "The prompt is no text."
    assert "send them one by one" in refused('{"prompt": ["a", "b"]}')
    assert refused('{"prompt": ') == "The request is no JSON."
    assert refused("[]") == "The request is no JSON object."
    for turns in ("[]", '[{"role": "user", "content": ""}]'):
        assert "are empty" in refused(f'{{"messages": {turns}}}', "chat/completions")
    answer = server.ask("/completions", {"prompt": [PROMPT], "max_tokens": 1})
    assert answer["usage"]["completion_tokens"] == 1, "and the next request is answered"


def test_web_pages_of_strangers_get_nothing(server: Server) -> None:
    allowed = "Access-Control-Allow-Origin"
    assert get(server).status == 200
    assert get(server, host="evil.example").status == 400
    assert get(server, origin="https://evil.example").headers[allowed] is None
    assert get(server, origin="http://localhost:3000").headers[allowed] == "http://localhost:3000"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"host": "127.0.0.1", "port": "taken"}, "Another program uses 127.0.0.1, port"),
        ({"host": "192.0.2.7"}, "cannot listen on 192.0.2.7"),
        ({"host": "no such host"}, "cannot listen on no such host"),
        ({"gguf": "half.gguf"}, "half.gguf is damaged or not whole"),
        ({"gguf": "strange.gguf"}, r"llama.cpp: .*unknown model architecture.* \(log: "),
        ({"gguf": "no.gguf"}, "There is no GGUF file"),
    ],
)
def test_what_is_not_to_be_served_is_one_sentence(
    server: Server, gguf: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    data = gguf.read_bytes()
    (tmp_path / "half.gguf").write_bytes(data[:-1000])
    (tmp_path / "strange.gguf").write_bytes(data.replace(b"llama", b"alpca", 1))
    given = {"port": 0, **options, "gguf": tmp_path / options.get("gguf", "strange.gguf")}
    if given["port"] == "taken":
        given["port"] = server.port
    settings = ServerSettings(alias="x", **given)
    with pytest.raises(PipelineError, match=message), open_server(settings, tmp_path / "log"):
        pass


def told_of_chats(name: str) -> str:
    return json.dumps({"files": {name: {}}, "evaluation": {"chat": {"ends": ["</e>", "", 3]}}})


@pytest.mark.parametrize("damaged", ["[", "[]", '{"files": 3}', '{"files": {"a.gguf": 1}}'])
def test_a_record_beside_a_gguf_that_tells_nothing_is_none(damaged: str, tmp_path: Path) -> None:
    (tmp_path / "proof.json").write_text(damaged)
    assert chat_ends(tmp_path / "a.gguf", {"files": []}) == ()
    (tmp_path / "proof.json").unlink()
    of_stage_7 = json.loads(told_of_chats("a.gguf"))
    assert chat_ends(tmp_path / "a.gguf", of_stage_7) == ("</e>",)
    assert chat_ends(tmp_path / "b.gguf", of_stage_7) == (), "it tells of another file"


def test_it_serves_as_much_context_as_the_model_was_trained_for(gguf: Path, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    with pytest.raises(PipelineError, match="has no GGUF yet"):
        chosen_gguf(workspace, None)
    with pytest.raises(PipelineError, match="There is no file nope"):
        chosen_gguf(workspace, Path("nope"))
    assert context_of(workspace, gguf) == 1024, "by its own header"
    folder = tmp_path / "7_gguf"
    folder.mkdir()
    (folder / gguf.name).write_bytes(gguf.read_bytes())
    (folder / "proof.json").write_text(json.dumps({"files": {gguf.name: {}}, "context": 256}))
    assert context_of(workspace, chosen_gguf(workspace, None)) == 256
    (folder / "proof.json").write_text(told_of_chats(gguf.name))
    assert chat_ends(folder / gguf.name, {}) == ("</e>",)
    (tmp_path / "adapter").mkdir()
    with pytest.raises(PipelineError, match="holds no model"):
        chosen_gguf(workspace, tmp_path / "adapter")


def test_speed_is_told_and_an_open_door_is_warned_of(
    gguf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    serve(tmp_path, gguf=gguf, host="0.0.0.0", port=0, benchmark=2, as_json=True)
    printed = capsys.readouterr()
    report = json.loads(printed.out)
    assert report["tokens"] == 128
    assert len(report["measured"]["tokens/s"]["runs"]) == 2
    assert "Whoever reaches 0.0.0.0 can use this model" in printed.err


def test_it_prints_a_command_that_works_and_ends_with_ctrl_c(
    models: Path, tmp_path: Path  # noqa: F811
) -> None:  # fmt: skip
    arguments = ("--gguf", models / "base.gguf", "--port", 0, "--data-dir", tmp_path, "--alias",
                 "it's")  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline.cli", "serve", *map(str, arguments)], cwd=ROOT,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(),
    )  # fmt: skip
    try:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(4)]
        url = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/v1\n", lines[0])
        assert url, lines
        words = shlex.split("".join(lines[2:]))
        assert words[:2] == ["curl", f"{lines[0].strip()}/chat/completions"], "it has a template"
        connection = http.client.HTTPConnection("127.0.0.1", int(url[1]), timeout=60)
        body = json.loads(words[-1]) | {"max_tokens": 3}
        connection.request("POST", "/v1/chat/completions", json.dumps(body),
                           {"Content-Type": "application/json"})  # fmt: skip
        answer = json.loads(connection.getresponse().read())
        assert answer["choices"][0]["message"]["content"]
        assert answer["model"] == "it's"
        connection.close()
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
        assert process.returncode == 0, told
        assert told.rstrip().endswith("serve: ended")
        with pytest.raises(OSError), socket.create_connection(("127.0.0.1", int(url[1])), 1):
            pass
    finally:
        process.kill()
        process.communicate()
