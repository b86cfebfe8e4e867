"""OpenAI's edits and variations of images: as a form, whose files stream, or as JSON.

Source: OpenAI, API reference, "Create image edit" (`image[]`, `mask`, `markup`; nested members in brackets) and "Create image
variation".
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from tallygate.dialects.dialect import FormDialect, RequestFacts
from tallygate.dialects.form import Form, FormRules
from tallygate.dialects.image_tokens import IMAGES_IN_MAX, PARTIALS_MAX
from tallygate.dialects.openai_chat import CHOICES_MAX
from tallygate.dialects.openai_images import IMAGES_IN, ImagesRequest, OpenAiImages, facts_of
from tallygate.domain.errors import RequestRejectedError

_TEXTS: Final = (
    "model",
    "prompt",
    "negative_prompt",
    "quality",
    "size",
    "image_size",
    "resolution",
    "width",
    "height",
    "output_format",
)
_NUMBERS: Final = {
    "n": (1, CHOICES_MAX),
    "batch_size": (1, CHOICES_MAX),
    "num_images": (1, CHOICES_MAX),
    "num_outputs": (1, CHOICES_MAX),
    "partial_images": (0, PARTIALS_MAX),
    "frame_count": (1, CHOICES_MAX),
}
_AUTHOR: Final = "svg[model]"
_FLAGS: Final[Mapping[str, bool]] = {"true": True, "false": False, "1": True, "0": False, "": False}
_SEVERAL: Final = "image[]"
_NUMERAL: Final = re.compile(r"0|[1-9]\d{0,8}", re.ASCII)


class ImageForm:
    """Implements `FormDialect`. While files are still to come, as many are held as the API takes."""

    rules = FormRules(
        fields=frozenset({*_TEXTS, *_NUMBERS, _AUTHOR, "svg[reasoning][effort]", "stream"}),
        files=frozenset({"image", _SEVERAL, "mask", "markup"}),
        needed=frozenset({"model", "prompt"}),  # what comes before them, as OpenAI's example for curl has its files, is kept
        files_max=IMAGES_IN_MAX + 2,  # a mask, and a markup
    )

    def read(self, form: Form, *, path: Mapping[str, str]) -> RequestFacts:
        fields = form.fields
        for name, _ in form.others:
            if name.partition("[")[0] in IMAGES_IN:
                message = (
                    f"'{name}' names images that are not counted in a form: send such a request as JSON, or the images as files."
                )
                raise RequestRejectedError(message, param=name)
        members: dict[str, Any] = {name: fields[name] for name in _TEXTS if name in fields}
        members |= {name: _number(fields[name], name) for name in _NUMBERS if name in fields}
        members |= {"model": _model(form, path), "stream": _flag(fields, "stream")}
        if _AUTHOR in fields:
            members["svg"] = {"model": fields[_AUTHOR]}
        request = ImagesRequest(**members)
        images_in = len(form.files)
        if any(file.end < 0 for file in form.files):
            images_in = max(images_in, self.rules.files_max)
        others = [value for _, value in form.others]
        return facts_of(request, {"others": others} if others else {}, images_in=images_in)


class OpenAiImageEdits(OpenAiImages):
    """POST /v1/images/edits and /v1/images/variations."""

    name = "openai_image_edits"
    form: FormDialect | None = ImageForm()


def _model(form: Form, path: Mapping[str, str]) -> str | None:
    """The model that a form names, or the deployment in the path. Raises RequestRejectedError where both are named and differ."""
    named, deployment = form.fields.get("model"), path.get("model")
    if named and deployment and named != deployment:
        raise RequestRejectedError(f"The path names the deployment '{deployment[:200]}': leave 'model' out.", param="model")
    return deployment or named


def _number(text: str, name: str) -> int:
    least, most = _NUMBERS[name]
    if _NUMERAL.fullmatch(text) is None or not least <= int(text) <= most:
        raise RequestRejectedError(f"Invalid value for '{name}': expected a number from {least} to {most}.", param=name)
    return int(text)


def _flag(fields: Mapping[str, str], name: str) -> bool:
    found = _FLAGS.get(fields.get(name, "").lower())
    if found is None:
        raise RequestRejectedError(f"Invalid value for '{name}': expected true or false.", param=name)
    return found
