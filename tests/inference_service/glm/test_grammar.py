"""Answers have the form that was asked for, whatever the weights."""

from __future__ import annotations

import json

import pytest

from inference_service.engine import BadAskError, Finish, ResponseFormat
from tests.inference_service.glm.conftest import Opening, asking, complete

pytest.importorskip("llguidance", reason="needs llguidance")
pytestmark = pytest.mark.slow

SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {"paid": {"type": "boolean"}, "kind": {"enum": ["bill", "ticket"]}},
        "required": ["paid", "kind"],
        "additionalProperties": False,
    }
)


async def test_random_weights_answer_in_the_schema(opening: Opening) -> None:
    """Greedy and sampled, beside free answers: each whole answer with a schema is a value that it allows."""
    form = ResponseFormat(SCHEMA)
    async with opening() as engine:
        assert "response_format" in engine.info().supported_params
        free = await complete(engine, asking(max_tokens=20))
        for number in range(3):
            how = {"temperature": 1.0, "seed": number} if number else {}
            answer = await complete(engine, asking(max_tokens=200, response_format=form, **how))
            if answer.finish is Finish.STOP and not answer.unfit:
                found = json.loads(answer.text)
                assert set(found) == {"paid", "kind"}
                assert isinstance(found["paid"], bool)
                assert found["kind"] in ("bill", "ticket")
            assert answer.text.startswith("{")
        assert (await complete(engine, asking(max_tokens=20))).text == free.text


async def test_a_schema_that_can_t_be_kept_is_refused(opening: Opening) -> None:
    """What is no schema is the client's fault."""
    async with opening() as engine:
        for schema in ("not json", '{"type": "nothing known"}'):
            with pytest.raises(BadAskError) as caught:
                await complete(engine, asking(response_format=ResponseFormat(schema)))
            assert caught.value.reason == "RESPONSE_FORMAT_INVALID"
