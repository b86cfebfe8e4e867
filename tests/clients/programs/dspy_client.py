"""DSPy's language model over chat, Responses and Anthropic."""

import json
import os

import dspy

URL, KEY = os.environ["GATEWAY_URL"], os.environ["GATEWAY_KEY"]
MODELS = {
    "chat": dspy.LM("openai/gpt-4o-mini", api_base=f"{URL}/v1", api_key=KEY, cache=False),
    "responses": dspy.LM("openai/gpt-4o-mini", api_base=f"{URL}/v1", api_key=KEY, cache=False, model_type="responses"),
    "anthropic": dspy.LM("anthropic/claude-haiku-4-5", api_base=f"{URL}/v1", api_key=KEY, cache=False),
}
for name, model in MODELS.items():
    (answer,) = model("[[sim tokens=12]] Hello")
    print(json.dumps([f"{name} plain", answer["text"] if isinstance(answer, dict) else answer]))
