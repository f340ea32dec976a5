"""What mlx-lm answers, greedily: parity.py MODEL PROMPTS PRECISION [OUT] writes a JSON line for each prompt.

With OUT, the model is quantised first, and written there in two files."""
import contextlib
import json
import os
import shutil
import sys

import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_lm import load
from mlx_lm.generate import generate_step
from mlx_lm.utils import quantize_model

folder, prompts, precision, *out = sys.argv[1:]
mx.set_default_device(mx.cpu)
model, tokenizer = load(folder)
if out:
    config = json.load(open(os.path.join(folder, "config.json")))
    # It reports on standard output, which is for the answers.
    with contextlib.redirect_stdout(sys.stderr):
        model, config = quantize_model(model, config, group_size=32, bits=int(precision[1:]))
    shutil.copytree(folder, out[0], dirs_exist_ok=True, ignore=shutil.ignore_patterns("model.safetensors"))
    json.dump(config, open(os.path.join(out[0], "config.json"), "w"))
    weights = tree_flatten(model.parameters())
    files, where = [dict(weights[::2]), dict(weights[1::2])], {}
    for number, part in enumerate(files, 1):
        name = f"model-{number:05}-of-00002.safetensors"
        mx.save_safetensors(os.path.join(out[0], name), part, metadata={"format": "mlx"})
        where.update(dict.fromkeys(part, name))
    json.dump({"weight_map": where}, open(os.path.join(out[0], "model.safetensors.index.json"), "w"))
if precision != "bf16":
    model.set_dtype(mx.float32)
for line in open(prompts):
    request = json.loads(line)
    prompt = tokenizer.apply_chat_template(
        request["messages"], tools=request.get("tools"), add_generation_prompt=True, return_dict=False
    )
    answer = []
    for token, _ in generate_step(mx.array(prompt), model, max_tokens=200):
        if token in tokenizer.eos_token_ids:
            break
        answer.append(int(token))
    print(json.dumps({"prompt_tokens": len(prompt), "tokens": len(answer), "text": tokenizer.decode(answer)}))
