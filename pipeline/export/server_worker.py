"""The process in which the server runs: `python -m pipeline.export.server_worker`.

llama-cpp-python's server, with what its own command line does not give: the settings come through
stdin, requests that say nothing of sampling get the guide's, one without a prompt is told so, and
web pages of strangers get nothing.
"""

import asyncio
import errno
import os
import socket
import sys
from collections.abc import Callable
from typing import Any

import llama_cpp
import uvicorn

from pipeline.export.conversation import Request, Requests, open_answers

GRACE = 3  # seconds that answers may take to end
PLAIN = "plain"  # the name of the chat format of models without a template
_LOCAL_PAGE = r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?"


def main() -> int:
    """Serve until stdin closes or a signal comes."""
    emit = open_answers()
    server: Server | None = None

    def end() -> None:
        if server is None:
            os._exit(0)
        server.should_exit = True

    request = Requests(on_end=end).next()
    try:
        # Before the model, which may take minutes to load.
        listener = listen(request["host"], request["port"])
    except OSError as error:
        in_use = error.errno == errno.EADDRINUSE
        emit("error", kind="port" if in_use else "address", message=error.strerror or str(error))
        return 1
    with listener:
        try:
            app = make_app(request)
        except (ValueError, RuntimeError, OSError) as error:
            emit("error", kind="model", message=" ".join(str(error).split()))
            return 1
        about = about_model() | {"port": listener.getsockname()[1]}
        config = uvicorn.Config(app, timeout_graceful_shutdown=GRACE)
        server = Server(config, lambda: emit("ready", **about))
        asyncio.run(server.serve(sockets=[listener]))
    sys.stderr.flush()
    os._exit(0)  # a thread that still writes an answer nobody reads need not come to its end


def listen(host: str, port: int) -> socket.socket:
    """A socket that takes connections there. Raises OSError."""
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":  # elsewhere it would let two programs have one port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()
    except OSError:
        listener.close()
        raise
    return listener


class Server(uvicorn.Server):
    """A server that tells when it has started."""

    def __init__(self, config: uvicorn.Config, on_start: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_start = on_start

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then tell."""
        await super().startup(sockets)
        self._on_start()


def make_app(request: Request) -> Any:
    """The application, with the model loaded. Raises ValueError if llama.cpp cannot load it."""
    _without_extra_buffers()
    _end_chats(request["chat_ends"])
    _set_defaults(request["sampling"], request["alias"])
    _register_plain_format()
    _check_prompts(is_plain=not request["has_template"])
    from fastapi.middleware.cors import CORSMiddleware
    from llama_cpp.server.app import create_app
    from llama_cpp.server.settings import ModelSettings, ServerSettings
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    sampling = request["sampling"]
    model = ModelSettings(
        model=request["gguf"],
        model_alias=request["alias"],
        n_ctx=request["context"],
        n_threads=request["draw_threads"],
        n_threads_batch=request["threads"],
        last_n_tokens_size=max(0, sampling["repeat_last_n"]),
        logits_all=False,  # they would take 4 GB with the context and vocabulary of an 8B model
        use_mlock=False,
        chat_format="chat_template.default" if request["has_template"] else PLAIN,
    )
    app = create_app(
        # A second request waits for the first instead of cutting it off.
        server_settings=ServerSettings(interrupt_requests=False),
        model_settings=[model],
    )
    # As it comes, any web page that is open in a browser could use the model.
    kept = [middleware for middleware in app.user_middleware if middleware.cls != CORSMiddleware]
    kept.append(
        Middleware(
            CORSMiddleware, allow_origin_regex=_LOCAL_PAGE, allow_methods=["*"], allow_headers=["*"]
        )
    )
    if request["is_local"] and ":" not in request["host"]:
        hosts = ["localhost", request["host"]]
        kept.insert(0, Middleware(TrustedHostMiddleware, allowed_hosts=hosts))
    app.user_middleware = kept
    if sampling["repeat_last_n"] < 0:  # as far back as there is anything
        loaded = _loaded()
        loaded.last_n_tokens_size = loaded.n_ctx()
    return app


def _loaded() -> Any:
    """The model that the application serves."""
    from llama_cpp.server import app as server

    proxy: Any = server._llama_proxy
    return proxy()


def about_model() -> dict[str, Any]:
    """What the parent wants to know of the model that was loaded."""
    model = _loaded()
    vocabulary = llama_cpp.llama_model_get_vocab(model.model)
    ends = [
        token for token in range(model.n_vocab())
        if llama_cpp.llama_vocab_is_eog(vocabulary, token)
    ]  # fmt: skip
    return {"chat": model.chat_format != PLAIN, "end_tokens": ends}


def _without_extra_buffers() -> None:
    """Switch off the repacked weights that crash on processors with AMX."""
    original = llama_cpp.llama_cpp.llama_model_default_params

    def parameters() -> Any:
        found = original()
        found.use_extra_bufts = False
        return found

    llama_cpp.llama_cpp.llama_model_default_params = parameters


def _set_defaults(sampling: dict[str, Any], alias: str) -> None:
    """Make these the sampling of requests that say nothing of it, and `alias` the model's name:
    left alone, an answer would give the path of the file on this disk.

    To be called before the application is imported, which reads them then.
    """
    from llama_cpp.server import types

    for request in (types.CreateCompletionRequest, types.CreateChatCompletionRequest):
        fields = request.model_fields
        for name in ("temperature", "top_k", "top_p", "min_p", "repeat_penalty", "max_tokens"):
            fields[name].default = sampling[name]
        fields["model"].default = alias
        if sampling["stop"]:
            fields["stop"].default = list(sampling["stop"])
        request.model_rebuild(force=True)


def _end_chats(ends: list[str]) -> None:
    """Have these texts end answers in chats, besides the stops of a request.

    To be called before the application is imported, like `_set_defaults`, which rebuilds the type.
    """
    from llama_cpp.server import types
    from pydantic import AfterValidator

    if not ends:
        return

    def with_ends(stop: str | list[str] | None) -> list[str]:
        own = [stop] if isinstance(stop, str) else stop or []
        return list(dict.fromkeys([*own, *ends]))

    field = types.CreateChatCompletionRequest.model_fields["stop"]
    field.metadata.append(AfterValidator(with_ends))
    field.validate_default = True


def _check_prompts(*, is_plain: bool) -> None:
    """Answer requests that no model can go on from with a sentence and 400; left alone, they fail
    inside of llama.cpp. `is_plain`: chats have no template that would give them a beginning.

    To be called before the application is imported, which makes its routes then.
    """
    from fastapi.responses import JSONResponse
    from llama_cpp.server.errors import RouteErrorHandler

    original = RouteErrorHandler.get_route_handler

    def get_route_handler(route: Any) -> Any:
        handle = original(route)

        async def checked(request: Any) -> Any:
            why = None
            if request.url.path.endswith("/completions"):
                try:
                    # The request keeps what was read, so it can be read again.
                    why = refusal(await request.json(), is_plain=is_plain)
                except ValueError:
                    why = "The request is no JSON."
            if why is None:
                return await handle(request)
            error = {
                "message": why, "type": "invalid_request_error", "param": "prompt", "code": None
            }  # fmt: skip
            return JSONResponse({"error": error}, status_code=400)

        return checked

    RouteErrorHandler.get_route_handler = get_route_handler  # type: ignore[method-assign,assignment]


def refusal(body: Any, *, is_plain: bool) -> str | None:
    """Why no model can go on from a request; None if one can. An empty prompt is good for those
    that were trained with a token that begins a text."""
    if not isinstance(body, dict):
        return "The request is no JSON object."
    if "messages" in body:
        turns = body["messages"] if isinstance(body["messages"], list) else []
        told = [turn.get("content") for turn in turns if isinstance(turn, dict)]
        if any(told) or (turns and not is_plain) or (is_plain and _begins_texts()):
            return None
        return "The messages are empty."
    prompt = body.get("prompt", "")
    prompts = prompt if isinstance(prompt, list) else [prompt]
    if not all(isinstance(one, str) for one in prompts):
        return "The prompt is no text."
    if len(prompts) > 1:
        return "There is more than one prompt in the request: send them one by one."
    if any(prompts) or _begins_texts():
        return None
    return "The prompt is empty, and this model has no token that begins a text."


def _begins_texts() -> bool:
    """Whether the model was trained with a token at the beginning of each text."""
    from llama_cpp.server import app as server

    proxy: Any = server._llama_proxy
    vocabulary = llama_cpp.llama_model_get_vocab(proxy().model)
    first = llama_cpp.llama_vocab_bos(vocabulary)
    return bool(llama_cpp.llama_vocab_get_add_bos(vocabulary)) and first >= 0


def _register_plain_format() -> None:
    """For models that only continue texts: the turns of a chat are one text, as Ollama's
    `TEMPLATE {{ .Prompt }}` has it. Left alone they would get the template of another model."""
    from llama_cpp import llama_chat_format

    @llama_chat_format.register_chat_format(PLAIN)
    def plain(messages: list[Any], **_: Any) -> Any:
        text = "\n\n".join(str(message.get("content") or "") for message in messages)
        return llama_chat_format.ChatFormatterResponse(prompt=text)


if __name__ == "__main__":
    sys.exit(main())
