"""What is said to a language model around an image: its own tokens, by its chat template or plain. Ids here are the model's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from ibllm_pretrained.config import PretrainedTextDecoderConfig
from ibllm_pretrained.tokenizer import Vocabulary

#: Stands for what a user says while a template is rendered: no template changes it.
_SAID = "\ue000said\ue000"
#: Between an image and what is said of it, as in LLaVA (Liu et al. 2023, table 2).
BREAK = "\n"
#: Templates that write a date are given this one, so that a prompt is the same on every day; it is the one that Llama's falls back to.
DATE = "26 Jul 2024"


@attrs.frozen
class Prompt:
    """The ids before the image, and those after it: before what is asked, and after it."""

    before: Sequence[int]
    between: Sequence[int] = ()
    after: Sequence[int] = ()


@attrs.frozen
class Prompts:
    """How captions, answers and questions are asked for.

    Attributes:
        caption: for a caption; nothing is asked between its ids.
        question: for an answer, around the question; None where it takes a chat template that there is not.
        asking: the ids that stand for the question where a question is to be written; empty where a second beginning says it.
    """

    caption: Prompt
    question: Prompt | None
    asking: Sequence[int] = ()

    def pieces(self) -> dict[str, list[int]]:
        """Name (``caption_before``, …, ``asking``) → ids."""
        named = {"caption": self.caption, "question": self.question or Prompt(())}
        found = {f"{name}_{part}": list(ids) for name, prompt in named.items() for part, ids in attrs.asdict(prompt, recurse=False).items()}
        return {**found, "asking": list(self.asking)}


def prompts(config: PretrainedTextDecoderConfig, vocabulary: Vocabulary) -> Prompts:
    """The prompts of a tokenizer. Raises `ValueError` where a caption's needs a chat template that the tokenizer lacks."""
    plain = Prompt([vocabulary.special[1]] if vocabulary.begins else [])
    template = chat(vocabulary) if vocabulary.chat else None
    if config.caption_prompt and template is None:
        raise ValueError(f"caption_prompt = {config.caption_prompt!r}: {NO_TEMPLATE}")
    caption = plain
    if config.caption_prompt and template is not None:
        said = vocabulary.marked_up(BREAK + config.caption_prompt)
        caption = Prompt(template.before, said, template.after)
    if config.prompts == "plain":
        return Prompts(caption, plain)
    if template is None:
        return Prompts(caption, None)
    question = Prompt(template.before, vocabulary.marked_up(BREAK), template.after)
    return Prompts(caption, question, vocabulary.marked_up(config.asking_prompt))


NO_TEMPLATE = 'expected a tokenizer with a chat template (chat_template in tokenizer_config.json, or chat_template.jinja); prompts = "plain" does without'


def chat(vocabulary: Vocabulary) -> Prompt:
    """What a conversation's first turn has before and after what the user says, the beginning of the answer included.

    Raises `ValueError` where the template cannot be rendered with a turn of text.
    """
    before, after = rendered(vocabulary.chat, _SAID).split(_SAID)
    return Prompt(vocabulary.marked_up(before), (), vocabulary.marked_up(after))


def rendered(chat: Mapping[str, str], said: str) -> str:
    """A conversation in which the user says something and the model is to answer, as the template (Jinja, in a sandbox) writes it."""
    from jinja2 import TemplateError
    from transformers.utils.chat_template_utils import render_jinja_template

    names = {name: text for name, text in chat.items() if name != "template"}
    try:
        texts = render_jinja_template(
            [[{"role": "user", "content": said}]], chat_template=chat["template"], add_generation_prompt=True, date_string=DATE, **names
        )
    except (TemplateError, TypeError) as error:
        raise ValueError(f"the tokenizer's chat template cannot be used: {error}") from error
    text = texts[0][0] if isinstance(texts, tuple) else texts[0]
    if str(text).count(said) != 1:
        raise ValueError("the tokenizer's chat template cannot be used: expected one that writes what the user says, once and as it is")
    return str(text)
