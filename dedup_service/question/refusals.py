"""Answers that say they can't tell, in English and Chinese.

Such an answer tells nothing about the question: two questions that both got "N/A" have not agreed, and an answer that
the next photo, or the next look, may give is not worth keeping for long. What is quoted in an answer is what the image
says, not what the answer says, and is left out.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping
from functools import lru_cache
from importlib.resources import files

from dedup_service.question.normal import QUOTED

_EDGES = " \t\n.。!！,，;；:：()（）[]【】*_"
_BARE_NO = frozenset(["没有", "无", "没", "none"])
_YES_OR_NO = re.compile(
    r"吗|有没有|是不是|是否|有无|能不能|会不会|^(?:is|are|was|were|do|does|did|has|have|had|can|could|will|would|any)\b"
)


def _compiled(fragments: Mapping[str, str], rules: Iterable[str]) -> re.Pattern[str]:
    return re.compile(re.sub(r"<<(\w+)>>", lambda name: fragments[name[1]], "|".join(rules)))


def _read() -> tuple[re.Pattern[str], ...]:
    lists = tomllib.loads(files("dedup_service.question").joinpath("refusals.toml").read_text("utf-8"))
    said = [lists["whole"], lists["said"]]
    return (
        *(_compiled(lists["fragments"], [*each["en"], *each["zh"]]) for each in said),
        _compiled({}, [*lists["answers"]["any"], *lists["answers"]["start"]]),
    )


_WHOLE, _SAID, _ANSWERS = _read()


def bare_no(answer: str) -> bool:
    """Whether an answer is 没有, 无, "none" and nothing else: a no where it is asked whether there are any, else empty
    value."""
    return answer.casefold().strip(_EDGES) in _BARE_NO


@lru_cache(maxsize=4096)
def cannot_tell(answer: str, question: str = "") -> bool:
    """Whether an answer says that it can't tell: the thing is not in the image, not legible, not known, or the answer
    is an empty value ("N/A", "None", 无). With the question, 没有 and "none" count as an answer where it asks whether
    there are any. Any text is accepted; an empty one tells nothing."""
    text = " ".join(QUOTED.sub(' "" ', answer).casefold().replace("’", "'").split())
    bare = text.strip(_EDGES)
    if not bare:
        return '""' not in text
    if _WHOLE.fullmatch(bare):
        return not (bare_no(bare) and _YES_OR_NO.search(question.casefold().strip()))
    return _ANSWERS.search(text) is None and _SAID.search(bare) is not None
