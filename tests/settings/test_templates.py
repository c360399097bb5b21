"""The templates of conf give the texts of the conversations they are named after, letter by letter."""

import jinja2.sandbox
import pytest
import yaml
from repository import CONF

from recap_spark.settings.template import Template

TEMPLATES = CONF / "captioners" / "templates"

VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
VISION = (
    "You are a helpful language and vision assistant. You are able to understand the visual content that the "
    "user provides, and assist the user with a variety of tasks using natural language."
)
ASKED = "<|start_header_id|>user<|end_header_id|>\n\n<image>\nSay.<|eot_id|>"
ANSWERS = "<|start_header_id|>assistant<|end_header_id|>\n\n"
SYSTEM = "<|start_header_id|>system<|end_header_id|>\n\n{}<|eot_id|>"

EXPECTED = {
    "llava_llama_3": SYSTEM.format(VISION) + ASKED + ANSWERS,
    "llama3": SYSTEM.format(VICUNA) + ASKED + ANSWERS,
    "llama3_instruct": ASKED + ANSWERS,
    "v1": f"{VICUNA} USER: <image>\nSay. ASSISTANT:",
    "plain": "<image>\nSay.\n",
}


def template(name: str) -> Template:
    return Template(name=name, **yaml.safe_load((TEMPLATES / f"{name}.yml").read_text()))


def rendered(text: str, turns: list[dict]) -> str:
    # As transformers sets up Jinja for chat templates.
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    names = {"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>"}
    return environment.from_string(text).render(messages=turns, add_generation_prompt=True, **names)


QUESTION = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Say."}]}


@pytest.mark.parametrize("name", sorted(path.stem for path in TEMPLATES.glob("*.yml")))
def test_a_template_says_what_its_conversation_says(name):
    assert rendered(template(name).text, [QUESTION]) == "<|begin_of_text|>" + EXPECTED[name]


def test_an_answered_turn_ends_before_the_next_begins():
    answer = {"role": "assistant", "content": [{"type": "text", "text": "A cube."}]}
    again = {"role": "user", "content": [{"type": "text", "text": "More?"}]}
    assert rendered(template("v1").text, [QUESTION, answer, again]).endswith(
        "Say. ASSISTANT: A cube.<|end_of_text|>USER: More? ASSISTANT:"
    )
    assert rendered(template("llama3").text, [QUESTION, answer, again]).endswith(
        ASKED + ANSWERS + "A cube.<|eot_id|>" + ASKED.replace("<image>\nSay.", "More?") + ANSWERS
    )


def test_the_image_goes_by_the_models_own_token():
    text = template("llama3").chat_template("<|reserved_special_token_250|>")
    assert "<image>" not in text
    assert text.count("<|reserved_special_token_250|>") == 1
