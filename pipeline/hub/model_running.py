"""How to run a published model: the commands and the Python of its card."""

import json
import re
import shlex
from collections.abc import Iterator

from pipeline.hub.markdown import code_block
from pipeline.hub.told import ADAPTER, BASE_CHANGES, MERGED, Told


def how_to_run(told: Told) -> Iterator[str]:
    """The section of the card on how to run what is in the repository."""
    yield "## Run it"
    folder = shlex.quote(told.shown_id.rpartition("/")[2])
    branch = f" --revision {shlex.quote(told.revision)}" if told.revision else ""
    fetch = f"hf download {shlex.quote(told.shown_id)}{branch} --local-dir {folder}\ncd {folder}"
    prompt = told.prompt
    yield code_block(fetch, "bash")
    if told.modelfile:
        name = re.sub(r"[^a-z0-9._-]+", "-", folder.lower()).strip("-._") or "model"
        asks = shlex.quote(prompt)
        yield "With [Ollama](https://ollama.com):"
        create = f"ollama create {name} -f Modelfile\nollama run {name} {asks}"
        yield code_block(create, "bash")
        if not told.ggufs:
            yield "This is an adapter: `FROM` must name the base model as you have it."
    if told.ggufs:
        gguf = told.ggufs[0]
        context = int(told.proof.get("context") or 0)
        yield "With [llama.cpp](https://github.com/ggml-org/llama.cpp):"
        program = "llama-cli" if told.is_chat else "llama-completion --no-conversation"
        size = f" -c {context}" if context else ""
        heat = f" --temp {told.temperature}" if told.temperature is not None else ""
        command = f"{program} -m {shlex.quote(gguf)}{size}{heat} -p {shlex.quote(prompt)}"
        yield code_block(command, "bash")
    if told.has(MERGED):
        yield "With transformers:"
        yield code_block(_loading(told, MERGED), "python")
    if told.has(ADAPTER):
        yield "With [PEFT](https://huggingface.co/docs/peft), as an adapter on its base:"
        yield code_block(_loading(told, ADAPTER), "python")


def _loading(told: Told, part: str) -> str:
    """The Python that loads a part with stock libraries."""
    repo, branch = json.dumps(told.shown_id), _revision(told.revision)
    where = f"{repo}{branch}, subfolder={json.dumps(part)}"
    names, first, changed = "AutoModelForCausalLM, AutoTokenizer", "", []
    if part == MERGED:
        model = [f"model = AutoModelForCausalLM.from_pretrained({where})"]
    else:
        base = json.dumps(told.base_name, ensure_ascii=False)
        base += _revision(told.base.get("revision") if told.base_is_of_the_hub else None)
        first, given = "from peft import PeftModel\n", base
        if (changes := f"{ADAPTER}/{BASE_CHANGES}") in told.files:
            names = f"AutoConfig, {names}"
            first = f"import json\n\nfrom huggingface_hub import hf_hub_download\n{first}"
            changed = [
                "",
                "# What the training changed of the base beside the adapter.",
                f"with open(hf_hub_download({repo}, {json.dumps(changes)}{branch})) as file:",
                "    changes = json.load(file)",
                f"config = AutoConfig.from_pretrained({base})",
                'for key in changes.keys() - {"extra_tokens"}:',
                "    setattr(config.get_text_config(decoder=True), key, changes[key])",
            ]
            given += ", config=config"
        model = [f"base = AutoModelForCausalLM.from_pretrained({given})"]
        if changed:
            model += [
                "if len(tokenizer) > base.get_input_embeddings().num_embeddings:",
                "    base.resize_token_embeddings(len(tokenizer))",
            ]
        model.append(f"model = PeftModel.from_pretrained(base, {where})")
    tokenizer = f"tokenizer = AutoTokenizer.from_pretrained({where})"
    lines = [f"{first}from transformers import {names}", "", tokenizer, *changed, *model]
    return "\n".join(lines)


def _revision(revision: object) -> str:
    """A revision as one more argument; nothing where none is named."""
    return f", revision={json.dumps(str(revision), ensure_ascii=False)}" if revision else ""
