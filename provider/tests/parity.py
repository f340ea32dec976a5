"""What mlx-lm answers, greedily: parity.py MODEL PROMPTS PRECISION writes a JSON line for each prompt."""
import json
import sys

import mlx.core as mx
from mlx_lm import load
from mlx_lm.generate import generate_step

folder, prompts, precision = sys.argv[1:]
mx.set_default_device(mx.cpu)
model, tokenizer = load(folder)
if precision == "f32":
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
