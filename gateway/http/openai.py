"""Translates between OpenAI's chat completions and `askonce.v1`. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from askonce.faults import InvalidInput
from askonce.v1 import answer_pb2, content_pb2, job_pb2
from gateway.http import parameters
from gateway.http.fields import Warnings, check_text, only, read_object, take, unsupported
from gateway.http.files import read_file

ROLES = {
    "system": content_pb2.ROLE_SYSTEM,
    "developer": content_pb2.ROLE_SYSTEM,
    "user": content_pb2.ROLE_USER,
    "assistant": content_pb2.ROLE_ASSISTANT,
}
"""The roles of messages, by the wire's."""

INSTRUCTING = ("system", "developer")
DETAILS = ("auto", "low", "high", "original")

FINISH = {
    content_pb2.FINISH_REASON_STOP: "stop",
    content_pb2.FINISH_REASON_LENGTH: "length",
    content_pb2.FINISH_REASON_FILTERED: "content_filter",
    content_pb2.FINISH_REASON_UNANSWERABLE: "stop",
    content_pb2.FINISH_REASON_REPETITION: "repetition",
    content_pb2.FINISH_REASON_TOOL_CALLS: "tool_calls",
    content_pb2.FINISH_REASON_INTERRUPTED: "interrupted",
}
"""OpenAI's words for an end where it has one, else vLLM's, else ours."""

FRAME = ("model", "messages", "stream", "stream_options")
"""Fields of a request besides the parameters."""

MESSAGE = ("role", "content", "name", "refusal", "reasoning_content", "reasoning", "tool_calls", "function_call",
           "annotations", "audio", "tool_call_id")  # fmt: skip
"""Members of a message; those of an assistant's that say nothing are there because clients send back what they got."""


@dataclass(frozen=True, slots=True)
class Chat:
    """A request for a chat completion."""

    request: answer_pb2.AnswerRequest
    model: str
    """The model that the client named; empty for none."""
    stream: bool = False
    include_usage: bool = False
    """Whether a stream ends with a chunk that counts tokens."""
    warnings: list[dict[str, str]] = field(default_factory=list)
    """What the request says that has no effect."""


@dataclass(slots=True)
class Conversation:
    """What the messages of a request come to."""

    turns: list[tuple[str, content_pb2.Turn]] = field(default_factory=list)
    """Roles and turns, those without text left out."""
    files: list[tuple[str, str]] = field(default_factory=list)
    """Images and PDF files in order, each with the field that it stands in."""
    waiting: int = 0
    """Files that came with no text of a user's yet."""
    details: set[str] = field(default_factory=set)
    """The "detail" of the images."""


def read_chat(body: bytes) -> Chat:
    """A body as sent to /v1/chat/completions. Raises InvalidInput."""
    fields = read_object(body)
    only(fields, (*FRAME, *parameters.READ, *parameters.HARMLESS, *parameters.IGNORED))
    warnings = Warnings()
    request = answer_pb2.AnswerRequest()
    details = read_messages(take(fields, "messages", list, []), request, warnings)
    parameters.read_params(fields, request.params, warnings)
    parameters.read_reuse(take(fields, "askonce", dict, {}), request)
    parameters.check_rest(fields, warnings)
    if "low" in details and not request.params.HasField("max_pixels"):
        request.params.max_pixels = parameters.LOW_DETAIL
    options = take(fields, "stream_options", dict, {})
    only(options, ("include_usage", "include_obfuscation"), "stream_options.")
    return Chat(
        request=request,
        model=take(fields, "model", str, ""),
        stream=take(fields, "stream", bool, False),
        include_usage=take(options, "include_usage", bool, False, "stream_options."),
        warnings=warnings.items,
    )


def read_messages(messages: list[Any], request: answer_pb2.AnswerRequest, warnings: Warnings) -> set[str]:
    """Turns messages into a question with its history and its images; returns the "detail" of the images.

    The question is the last message of the user's. What a system message says after it is part of the conversation
    before it: an instruction is no question.
    """
    talk = Conversation()
    last: tuple[str, str, str] = ("", "", "messages")
    for number, message in enumerate(messages):
        where = f"messages[{number}]"
        if not isinstance(message, dict):
            raise InvalidInput("BODY_INVALID", f"{where}: write an object with role and content.", field=where)
        role = take(message, "role", str, "", f"{where}.")
        if role not in ROLES:
            known = ", ".join(ROLES)
            raise InvalidInput("ROLE_UNSUPPORTED", f"{where}.role: write one of {known}.", field=f"{where}.role")
        check_message(message, where, warnings)
        text = read_content(message.get("content"), f"{where}.content", role, talk)
        if text:
            turn = content_pb2.Turn(role=ROLES[role], text=text)
            if role == "user":
                turn.image_count, talk.waiting = talk.waiting, 0
            talk.turns.append((role, turn))
        if role not in INSTRUCTING:
            last = (role, text, f"{where}.content")
    role, text, where = last
    if role != "user":
        raise InvalidInput("QUESTION_EMPTY", f"{where}: the last message must be the user's.", field="messages")
    if not text:
        raise InvalidInput("QUESTION_EMPTY", f"{where}: ask something.", field=where)
    place = max(number for number, (role, _) in enumerate(talk.turns) if role == "user")
    request.question.text = talk.turns[place][1].text
    request.question.history.extend(turn for number, (_, turn) in enumerate(talk.turns) if number != place)
    attach(talk, request)
    return talk.details


def attach(talk: Conversation, request: answer_pb2.AnswerRequest) -> None:
    """Puts the conversation's files into the request: one image as such, several with their places.

    A client that sends the same image again with every turn means one image.
    """
    if not talk.files:
        raise InvalidInput("IMAGE_REQUIRED", "messages: send an image or a PDF file.", field="messages")
    if len({url for url, _ in talk.files}) > 1:
        request.images.extend(read_file(url, where) for url, where in talk.files)
        return
    for turn in request.question.history:
        turn.ClearField("image_count")
    request.image.CopyFrom(read_file(*talk.files[0]))


def check_message(message: Mapping[str, Any], where: str, warnings: Warnings) -> None:
    """Refuses what a message says besides its content and would change the answer. Raises InvalidInput."""
    only(message, MESSAGE, f"{where}.")
    for name in ("tool_calls", "function_call", "audio", "tool_call_id"):
        if message.get(name):
            raise unsupported(f"{where}.{name}")
    for name in ("name", "refusal", "reasoning_content", "reasoning"):
        if message.get(name):
            warnings.add(f"{where}.{name}", "it has no effect")


def read_content(content: Any, where: str, role: str, talk: Conversation) -> str:
    """The text of one message; files found in it are added to the conversation."""
    if content is None:
        return ""
    if isinstance(content, str):
        return take({"content": content}, "content", str, "", where.removesuffix("content"))
    if not isinstance(content, list):
        raise InvalidInput("BODY_INVALID", f"{where}: write a text or a list of parts.", field=where)
    texts = []
    for number, part in enumerate(content):
        here = f"{where}[{number}]"
        if not isinstance(part, dict):
            raise InvalidInput("BODY_INVALID", f"{here}: write an object with type.", field=here)
        text = read_part(part, here, role, talk)
        if text:
            texts.append(text)
    return "\n".join(texts)


def read_part(part: Mapping[str, Any], where: str, role: str, talk: Conversation) -> str:
    """The text of one part; a file in it is added to the conversation. Raises InvalidInput."""
    match take(part, "type", str, "", f"{where}."):
        case "text" | "input_text" | "output_text":
            only(part, ("type", "text", "annotations", "cache_control"), f"{where}.")
            return take(part, "text", str, "", f"{where}.")
        case "refusal" if role == "assistant":
            only(part, ("type", "refusal"), f"{where}.")
            return take(part, "refusal", str, "", f"{where}.")
        case "image_url" | "input_image":
            read_image_part(part, where, talk)
        case "file":
            only(part, ("type", "file", "cache_control"), f"{where}.")
            read_file_part(take(part, "file", dict, {}, f"{where}."), f"{where}.file", talk)
        case "input_file":
            file = {name: value for name, value in part.items() if name not in ("type", "cache_control")}
            read_file_part(file, where, talk)
        case _:
            raise unsupported(f"{where}.type", 'write "text", "image_url" or "file"')
    return ""


def read_image_part(part: Mapping[str, Any], where: str, talk: Conversation) -> None:
    """An image by its link, which OpenAI writes as an object and others as a text. Raises InvalidInput."""
    only(part, ("type", "image_url", "detail", "cache_control"), f"{where}.")
    link: Any = part.get("image_url")
    detail = part.get("detail")
    if isinstance(link, dict):
        only(link, ("url", "detail"), f"{where}.image_url.")
        link, detail = link.get("url"), link.get("detail", detail)
    if not isinstance(link, str) or not link:
        raise InvalidInput("IMAGE_REQUIRED", f"{where}.image_url: write the image's url.", field=where)
    check_text(link, f"{where}.image_url")
    if detail is not None:
        if detail not in DETAILS:
            field = f"{where}.image_url.detail"
            raise InvalidInput("ENUM_UNKNOWN", f"{field}: write one of {', '.join(DETAILS)}.", field=field)
        talk.details.add(detail)
    talk.files.append((link, f"{where}.image_url"))
    talk.waiting += 1


def read_file_part(file: Mapping[str, Any], where: str, talk: Conversation) -> None:
    """A PDF file, or an image, by its content. Raises InvalidInput."""
    only(file, ("file_data", "file_id", "filename"), f"{where}.")
    if file.get("file_id"):
        raise unsupported(f"{where}.file_id", "files are kept nowhere here; send file_data")
    data = take(file, "file_data", str, "", f"{where}.")
    if not data:
        field = f"{where}.file_data"
        raise InvalidInput("IMAGE_REQUIRED", f"{field}: send the PDF file as a data URI.", field=field)
    talk.files.append((data, f"{where}.file_data"))
    talk.waiting += 1


def completion(response: answer_pb2.AnswerResponse, created: int, bill: bool = True) -> dict[str, Any]:
    """A whole chat completion. `bill` says whether the usage of a hit counts what the answer took when it was new."""
    answer = response.answer
    message: dict[str, Any] = {"role": "assistant", "content": answer.text}
    if answer.thinking_text:
        message["reasoning_content"] = answer.thinking_text
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish(answer)}
    return {
        "id": f"chatcmpl-{response.request_id}",
        "object": "chat.completion",
        "created": created,
        "model": answer.model,
        "choices": [choice],
        "usage": usage(response, bill),
        "askonce": provenance(response),
    }


def finish(answer: content_pb2.Answer) -> str:
    """Why an answer ended; the engine's own word where ours does not say it all. Never "stop" for a part of one."""
    word = FINISH.get(answer.finish_reason, "interrupted")
    return (answer.finish_detail or word) if word == "interrupted" else word


def queued(job: job_pb2.Job, bill: bool = True) -> dict[str, Any]:
    """A job: how far it is, and its completion or error once there is one."""
    state = job_pb2.JobState.Name(job.state).removeprefix("JOB_STATE_").lower()
    body: dict[str, Any] = {"id": job.name.rpartition("/")[2], "object": "job", "status": state}
    if job.HasField("response"):
        body["completion"] = completion(job.response, job.end_time.seconds, bill)
    if job.HasField("error"):
        body["error"] = {"message": job.error.message}
    return body


class Chunks:
    """Turns the events of one answer into the chunks of a streamed completion."""

    def __init__(self, request_id: str, created: int, model: str, asked: Chat, bill: bool = True) -> None:
        self._frame = {
            "id": f"chatcmpl-{request_id}", "object": "chat.completion.chunk", "created": created, "model": model,
        }  # fmt: skip
        self._asked = asked
        self._bill = bill
        self._delta: dict[str, Any] = {"role": "assistant"}

    def of(self, event: answer_pb2.StreamAnswerResponse) -> list[dict[str, Any]]:
        """The chunks of one event, none or several."""
        match event.WhichOneof("event"):
            case "text":
                return [self._chunk({"content": event.text})]
            case "thinking_text":
                return [self._chunk({"reasoning_content": event.thinking_text})]
            case "summary":
                last = self._chunk({}, finish(event.summary.answer))
                last["askonce"] = provenance(event.summary)
                if self._asked.warnings:
                    last["warnings"] = self._asked.warnings
                counted = {**self._frame, "choices": [], "usage": usage(event.summary, self._bill)}
                return [last, counted] if self._asked.include_usage else [last]
        return []

    def _chunk(self, delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": {**self._delta, **delta}, "logprobs": None, "finish_reason": reason}
        self._delta = {}
        # Where usage was asked for, every chunk has the field and the last one the counts.
        return {**self._frame, "choices": [choice], **({"usage": None} if self._asked.include_usage else {})}


def usage(response: answer_pb2.AnswerResponse, bill: bool = True) -> dict[str, Any]:
    """Token counts under OpenAI's names: what the answer took when the model wrote it, or, where hits are not billed,
    nothing for a hit."""
    count = response.answer.usage
    if response.provenance.source == content_pb2.SOURCE_CACHE and not bill:
        count = content_pb2.Usage()
    return {
        "prompt_tokens": count.input_token_count,
        "completion_tokens": count.output_token_count,
        "total_tokens": count.input_token_count + count.output_token_count,
        "prompt_tokens_details": {"cached_tokens": count.cached_token_count},
    }


def provenance(response: answer_pb2.AnswerResponse) -> dict[str, Any]:
    """Where the answer came from and why, in the extension object of a reply."""
    found = response.provenance
    hit = found.source == content_pb2.SOURCE_CACHE
    body: dict[str, Any] = {
        "source": "cache" if hit else "model",
        "reason": found.reason,
        "entry": found.entry,
        "decision": found.decision,
        "policy_revision": found.policy_revision,
        "coalesced": found.coalesced,
        "request_id": response.request_id,
        "total_ms": round(found.timings.total.ToNanoseconds() / 1e6, 2),
    }
    if hit:
        count = response.answer.usage
        body["saved"] = {
            "prompt_tokens": count.input_token_count,
            "completion_tokens": count.output_token_count,
            "seconds": round(found.saved_duration.ToNanoseconds() / 1e9, 3),
        }
    return body


def model(name: str, created: int) -> dict[str, Any]:
    """A hosted model in OpenAI's list."""
    return {"id": name, "object": "model", "created": created, "owned_by": "askonce"}
