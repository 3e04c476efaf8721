"""Bodies as OpenAI's clients send and expect them."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from askonce.faults import InvalidInput
from askonce.v1 import answer_pb2, content_pb2
from gateway.http.openai import finish, read_chat
from tests.gateway.http.bodies import DATA, Web, body
from tests.gateway.pictures import picture

pytestmark = pytest.mark.slow


async def test_stream_sends_events_as_openai_does(web: Web) -> None:
    """Chunks, a finish reason, usage where asked for, and [DONE]; the pieces joined are the answer."""
    _, client = web
    asked = body(stream=True, stream_options={"include_usage": True})
    reply = await client.post("/v1/chat/completions", json=asked)
    assert reply.headers["content-type"].startswith("text/event-stream")
    lines = [line.removeprefix("data: ") for line in reply.text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    chunks = [json.loads(line) for line in lines[:-1]]
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    text = "".join(each["choices"][0]["delta"].get("content", "") for each in chunks if each["choices"])
    assert text == "answer 1 to: What is the total?"
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-1]["usage"]["total_tokens"] == 0


async def test_conversation_becomes_history(web: Web) -> None:
    """System message and earlier turns are part of the question; the image may be in the first message."""
    system, client = web
    asked = body()
    asked["messages"] = [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [{"type": "image_url", "image_url": {"url": DATA}}, {"type": "text", "text": "Hi"}],
        },
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "What is the total?"},
    ]
    await client.post("/v1/chat/completions", json=asked)
    question = system.model.requests[0].question
    assert question.text == "What is the total?"
    assert [(turn.role, turn.text) for turn in question.history] == [
        (content_pb2.ROLE_SYSTEM, "Be brief."),
        (content_pb2.ROLE_USER, "Hi"),
        (content_pb2.ROLE_ASSISTANT, "Hello"),
    ]


async def test_parameters_and_cache_mode_are_passed_on(web: Web) -> None:
    """OpenAI's parameters and the extension object reach the wire."""
    system, client = web
    asked = body(max_tokens=7, temperature=0.5, seed=3, stop="END", askonce={"cache_mode": "no_store"})
    assert (await client.post("/v1/chat/completions", json=asked)).status_code == 200
    params = system.model.requests[0].params
    assert (params.max_tokens, params.temperature, params.seed, list(params.stop)) == (7, 0.5, 3, ["END"])
    await system.settled()
    assert system.memory.remembered == []


@pytest.mark.parametrize(
    ("change", "status", "reason"),
    [
        ({"messages": []}, 400, "QUESTION_EMPTY"),
        ({"messages": [{"role": "user", "content": "no image"}]}, 400, "IMAGE_REQUIRED"),
        ({"messages": [{"role": "robot", "content": "x"}]}, 400, "ROLE_UNSUPPORTED"),
        ({"messages": [{"role": "user", "content": 5}]}, 400, "BODY_INVALID"),
        ({"model": "other"}, 404, "MODEL_NOT_FOUND"),
        ({"n": 2}, 400, "FIELD_UNSUPPORTED"),
        ({"temprature": 0.5}, 400, "FIELD_UNKNOWN"),
        ({"askonce": {"cache_mod": "bypass"}}, 400, "FIELD_UNKNOWN"),
        ({"stream_options": {"include_usages": True}}, 400, "FIELD_UNKNOWN"),
        ({"tools": [{}]}, 400, "FIELD_UNSUPPORTED"),
        ({"max_tokens": 0}, 400, "OUT_OF_RANGE"),
        ({"max_tokens": 10**12}, 400, "OUT_OF_RANGE"),
        ({"temperature": "hot"}, 400, "BODY_INVALID"),
        ({"temperature": 3}, 400, "OUT_OF_RANGE"),
        ({"askonce": {"cache_mode": "sometimes"}}, 400, "ENUM_UNKNOWN"),
        ({"askonce": {"cache_mode": "only-if-cached"}}, 404, "NOT_CACHED"),
    ],
)
async def test_bad_bodies_are_told_what_is_wrong(web: Web, change: dict[str, Any], status: int, reason: str) -> None:
    """Every bad body gets a status and a stable reason, and the model is not asked."""
    system, client = web
    reply = await client.post("/v1/chat/completions", json={**body(), **change})
    assert (reply.status_code, reply.json()["error"]["code"]) == (status, reason)
    assert system.model.requests == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("image", "status", "reason"),
    [
        ("data:image/png;base64,@@@", 400, "IMAGE_ENCODING"),
        ("data:image/png,plain", 400, "IMAGE_ENCODING"),
        ("data:image/png;base64," + base64.b64encode(b"GIF89a....").decode(), 400, "IMAGE_TYPE_UNSUPPORTED"),
        ("https://example.com/a.png", 400, "URI_NOT_ALLOWED"),
        ("http://example.com/a.png", 400, "URI_SCHEME_UNSUPPORTED"),
        ("file:///etc/passwd", 400, "IMAGE_ENCODING"),
        ("data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" * 800_000).decode(), 413, "IMAGE_TOO_LARGE"),
        ("A" * 10_000_000, 413, "BODY_TOO_LARGE"),
    ],
)
async def test_bad_images_over_http(web: Web, image: str, status: int, reason: str) -> None:
    """Images that are no images, too large, or somewhere else, are refused as over gRPC."""
    _, client = web
    reply = await client.post("/v1/vision/completion", json={"image": image, "prompt": "x"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (status, reason)


@pytest.mark.parametrize("raw", [b"", b"[]", b"{", b"\xff\xfe", b'"x"', b"[" * 100_000, b'{"image": "\\ud800"}'])
async def test_what_is_no_json_object_is_refused(web: Web, raw: bytes) -> None:
    """Broken bodies are 400 BODY_INVALID."""
    _, client = web
    reply = await client.post("/infer", content=raw, headers={"content-type": "application/json"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "BODY_INVALID")


def said(*messages: dict[str, Any]) -> answer_pb2.AnswerRequest:
    """The request of a conversation."""
    return read_chat(json.dumps({"messages": messages}).encode()).request


IMAGE = {"type": "image_url", "image_url": {"url": DATA}}
OTHER = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{base64.b64encode(picture(3)).decode()}"}}
ASKS = {"role": "user", "content": [IMAGE, {"type": "text", "text": "Total?"}]}


@pytest.mark.parametrize("role", ["system", "developer"])
def test_an_instruction_at_the_end_is_not_the_question(role: str) -> None:
    """The question is the user's last message; what a system message says after it belongs to the conversation."""
    after = said(ASKS, {"role": role, "content": "Be brief."})
    assert after.question.text == "Total?"
    assert [turn.text for turn in after.question.history] == ["Be brief."]
    assert after == said({"role": role, "content": "Be brief."}, ASKS)


@pytest.mark.parametrize(
    ("messages", "reason", "field"),
    [
        ([ASKS, {"role": "assistant", "content": "5"}], "QUESTION_EMPTY", "messages"),
        ([ASKS, {"role": "user", "content": ""}], "QUESTION_EMPTY", "messages[1].content"),
        ([ASKS, {"role": "user", "content": [OTHER]}], "QUESTION_EMPTY", "messages[1].content"),
        ([{"role": "system", "content": [IMAGE, {"type": "text", "text": "x"}]}], "QUESTION_EMPTY", "messages"),
        ([{"role": "user", "content": [{"image_url": {"url": DATA}}]}], "FIELD_UNSUPPORTED",
         "messages[0].content[0].type"),
        ([{"role": "user", "content": [{"type": "input_audio"}]}], "FIELD_UNSUPPORTED", "messages[0].content[0].type"),
        ([{"role": "user", "content": [{"type": "text", "txt": "x"}]}], "FIELD_UNKNOWN", "messages[0].content[0].txt"),
        ([{"role": "user", "contents": "x"}], "FIELD_UNKNOWN", "messages[0].contents"),
        ([{"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}], "FIELD_UNSUPPORTED",
         "messages[0].content[0].file.file_id"),
        ([{"role": "user", "content": [{"type": "file", "file": {"filename": "f"}}]}], "IMAGE_REQUIRED",
         "messages[0].content[0].file.file_data"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": DATA, "detail": "hi"}}]}],
         "ENUM_UNKNOWN", "messages[0].content[0].image_url.detail"),
        ([ASKS, {"role": "assistant", "content": None, "tool_calls": [{}]}, ASKS], "FIELD_UNSUPPORTED",
         "messages[1].tool_calls"),
        ([{"role": "user", "content": "half \ud800"}], "BODY_INVALID", "messages[0].content"),
        (["x"], "BODY_INVALID", "messages[0]"),
    ],
)  # fmt: skip
def test_bad_messages_lead_to_their_place(messages: list[Any], reason: str, field: str) -> None:
    """Whatever is wrong with a conversation is told with its place."""
    with pytest.raises(InvalidInput) as caught:
        said(*messages)
    assert (caught.value.reason, caught.value.field) == (reason, field)


@pytest.mark.parametrize("content", [None, "", []])
def test_an_empty_turn_of_the_assistants_says_nothing(content: Any) -> None:
    """Clients send back what they got, with empty members; that is no turn."""
    turn = {"role": "assistant", "content": content, "tool_calls": [], "refusal": None, "annotations": []}
    question = {"role": "user", "content": "And the date?"}
    assert said(ASKS, turn, question) == said(ASKS, question)


def test_a_refusal_of_the_assistants_is_what_it_said() -> None:
    """A refusal part is the text of its turn."""
    refusal = {"role": "assistant", "content": [{"type": "refusal", "refusal": "I can't."}]}
    assert said(ASKS, refusal, {"role": "user", "content": "Why?"}).question.history[1].text == "I can't."


def test_parts_of_the_newer_protocol_are_read_too() -> None:
    """Parts as the Responses API spells them mean the same."""
    parts = [{"type": "input_image", "image_url": DATA}, {"type": "input_text", "text": "Total?"}]
    assert said({"role": "user", "content": parts}) == said(ASKS)


def test_one_image_sent_with_every_turn_is_one_image() -> None:
    """A client that repeats its image means the same one."""
    question = {"role": "user", "content": [IMAGE, {"type": "text", "text": "And the date?"}]}
    assert said(ASKS, question) == said(ASKS, {"role": "user", "content": "And the date?"})


def test_several_images_keep_their_order_and_place() -> None:
    """Images are numbered through the conversation; each turn of the user's says how many came with it."""
    alone = {"role": "user", "content": [IMAGE]}
    both = {"role": "user", "content": [OTHER, {"type": "text", "text": "And this?"}, IMAGE]}
    found = said(ASKS, {"role": "assistant", "content": "5"}, alone, both)
    assert [image.content for image in found.images] == [picture(), picture(), picture(3), picture()]
    assert [(turn.text, turn.image_count) for turn in found.question.history] == [("Total?", 1), ("5", 0)]
    assert not found.HasField("image")


@pytest.mark.parametrize(
    ("reason", "detail", "word"),
    [
        (content_pb2.FINISH_REASON_STOP, "", "stop"),
        (content_pb2.FINISH_REASON_LENGTH, "max_tokens", "length"),
        (content_pb2.FINISH_REASON_FILTERED, "sensitive", "content_filter"),
        (content_pb2.FINISH_REASON_REPETITION, "", "repetition"),
        (content_pb2.FINISH_REASON_TOOL_CALLS, "", "tool_calls"),
        (content_pb2.FINISH_REASON_INTERRUPTED, "abort", "abort"),
        (content_pb2.FINISH_REASON_INTERRUPTED, "", "interrupted"),
        (content_pb2.FINISH_REASON_UNSPECIFIED, "", "interrupted"),
    ],
)
def test_a_part_of_an_answer_never_ends_with_stop(
    reason: content_pb2.FinishReason.ValueType, detail: str, word: str
) -> None:
    """The word for an end is OpenAI's, else the engine's own."""
    assert finish(content_pb2.Answer(finish_reason=reason, finish_detail=detail)) == word
