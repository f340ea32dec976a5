"""A program that knows nothing of Glassbloom: it takes where to ask and the key from the environment."""

import openai

answer = openai.OpenAI(max_retries=0).chat.completions.create(
    model="bloom-tiny-1m",
    messages=[{"role": "user", "content": "What is the capital of France?"}],
    temperature=0,
)
print(answer.choices[0].message.content)
