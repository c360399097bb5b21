"""Conversation templates: how a prompt and an image become the text that a captioner was trained to answer"""

from __future__ import annotations

from dataclasses import dataclass

IMAGE = "<image>"
"""Where the image goes in a template of conf/captioners/templates, whatever token the model has for it."""


@dataclass(frozen=True, kw_only=True)
class Template:
    """One conversation template. A changed text is another version: captions name the one they were made
    with.
    """

    name: str
    version: int
    text: str  # Jinja, as transformers' chat templates, with `<image>` for the image

    def chat_template(self, image_token: str) -> str:
        """The text for a model whose image token is this one."""
        return self.text.replace(IMAGE, image_token)

    def label(self) -> str:
        """Name and version, as the table of captioners keeps them."""
        return f"{self.name}@{self.version}"
