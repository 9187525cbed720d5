"""A plain TRL script, as its documentation shows it: what our stage 6 is measured beside.

    python -m bench.plain_trl JOB.json

The file names the base model's folder, a JSONL file of rows with a `text`, where the adapter goes,
and the arguments of SFTConfig and LoraConfig; whatever it does not name is TRL's default. Nothing
of this project is used. The last line printed is JSON: seconds, real tokens, steps, and the peak of
this process's memory in bytes.
"""

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any


def train(job: dict[str, Any]) -> dict[str, float]:
    """Train as told; what it took."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    rows = [json.loads(line) for line in Path(job["rows"]).read_text("utf-8").splitlines()]
    trainer = SFTTrainer(
        model=job["model"],
        args=SFTConfig(
            output_dir=job["output"],
            use_cpu=not torch.cuda.is_available(),  # without it TRL's bf16 is refused on a CPU
            report_to="none",
            **job["sft"],
        ),
        train_dataset=Dataset.from_list(rows),
        peft_config=LoraConfig(task_type="CAUSAL_LM", **job["lora"]),
    )
    start = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - start
    trainer.save_model()
    logs = [log["num_tokens"] for log in trainer.state.log_history if "num_tokens" in log]
    return {
        "seconds": seconds,
        "tokens": logs[-1],
        "steps": trainer.state.global_step,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(train(json.loads(Path(sys.argv[1]).read_text("utf-8")))) + "\n")
