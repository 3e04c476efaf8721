"""Bodies of the plainer routes: one image and one text, and a verdict on an answer. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass, field

from askonce.faults import InvalidInput
from askonce.v1 import answer_pb2
from gateway.http import parameters
from gateway.http.fields import Warnings, only, read_object, take
from gateway.http.files import read_file

VERDICTS = {"right": answer_pb2.VERDICT_RIGHT, "wrong": answer_pb2.VERDICT_WRONG}
FEEDBACK = ("decision", "verdict", "correct_text", "comment")


@dataclass(frozen=True, slots=True)
class Plain:
    """A request with one image and one text."""

    request: answer_pb2.AnswerRequest
    warnings: list[dict[str, str]] = field(default_factory=list)
    """What the request says that has no effect."""


def read_plain(body: bytes, text: str, max_tokens: str) -> Plain:
    """A body with `image` (base64, data URI or https address) and a text field; names differ between routes."""
    fields = read_object(body)
    settings = {name for name in parameters.READ if name not in ("max_tokens", "max_completion_tokens")}
    only(fields, ("image", text, max_tokens, *settings, *parameters.HARMLESS, *parameters.IGNORED))
    warnings = Warnings()
    request = answer_pb2.AnswerRequest()
    image = take(fields, "image", str, "")
    if not image:
        raise InvalidInput("IMAGE_REQUIRED", "image: send base64, a data URI or an https address.", field="image")
    request.image.CopyFrom(read_file(image, "image"))
    request.question.text = take(fields, text, str, "")
    renamed = {("max_tokens" if name == max_tokens else name): value for name, value in fields.items()}
    parameters.read_params(renamed, request.params, warnings)
    parameters.read_reuse(take(fields, "askonce", dict, {}), request)
    parameters.check_rest(fields, warnings)
    return Plain(request, warnings.items)


def read_feedback(body: bytes) -> answer_pb2.SubmitFeedbackRequest:
    """A body with `decision`, `verdict` ("right" or "wrong"), and optionally `correct_text` and `comment`."""
    fields = read_object(body)
    only(fields, FEEDBACK)
    return answer_pb2.SubmitFeedbackRequest(
        decision=take(fields, "decision", str, ""),
        verdict=VERDICTS.get(take(fields, "verdict", str, ""), answer_pb2.VERDICT_UNSPECIFIED),
        correct_text=take(fields, "correct_text", str, ""),
        comment=take(fields, "comment", str, ""),
    )
