"""Writes the judge's prompts in the model's tokens and names the tokens of its verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from inference_service.glm.prompt import Prompter
from inference_service.judge_prompt import CHINESE_SCRIPT, ENGLISH_SCRIPT, Script, script_for
from inference_service.sanitising import sanitised


@dataclass(frozen=True, slots=True)
class JudgePrompt:
    """One pair in one order, as tokens; those before `prefix` are the same for every pair of the script."""

    ids: list[int]
    prefix: int
    script: Script


@dataclass(frozen=True, slots=True)
class VerdictTokens:
    """First tokens of the words for the two verdicts."""

    same: tuple[int, ...]
    different: tuple[int, ...]


class Judge:
    """Writes the judge's prompts and reads its verdicts."""

    def __init__(self, prompter: Prompter) -> None:
        self.prompter = prompter
        self.verdicts: dict[Script, VerdictTokens] = {}
        self.prefixes: dict[Script, list[int]] = {}
        for script in (ENGLISH_SCRIPT, CHINESE_SCRIPT):
            same, different = self.first_tokens(script.same), self.first_tokens(script.different)
            self.verdicts[script] = VerdictTokens(tuple(sorted(same - different)), tuple(sorted(different - same)))
            one, other = self.whole(script, "a", "b"), self.whole(script, "1", "2")
            shared = next(
                (place for place, (x, y) in enumerate(zip(one, other, strict=False)) if x != y),
                min(len(one), len(other)),
            )
            self.prefixes[script] = one[: max(0, shared - 4)]  # tokens near the border may merge with what follows

    @property
    def able(self) -> bool:
        """Whether the vocabulary can tell the verdicts apart."""
        return all(each.same and each.different for each in self.verdicts.values())

    def first_tokens(self, words: Sequence[str]) -> set[int]:
        with self.prompter.lock:
            return {ids[0] for word in words if (ids := self.prompter.tokens(word))}

    def whole(self, script: Script, left: str, right: str) -> list[int]:
        text = script.instruction + script.pair.format(left=left, right=right)
        rendered = self.prompter.rendered([{"role": "user", "content": [{"type": "text", "text": text}]}], False)
        with self.prompter.lock:
            return self.prompter.tokens(rendered)

    def prompts(self, left: str, right: str) -> list[JudgePrompt]:
        """The pair in both orders."""
        guard = self.prompter.vocabulary.guarded
        left, right = (" ".join(sanitised(text, guard).split()) for text in (left, right))
        script = script_for(left, right)
        made = []
        for first, second in ((left, right), (right, left)):
            ids = self.whole(script, first, second)
            known = self.prefixes[script]
            made.append(JudgePrompt(ids, len(known) if ids[: len(known)] == known else 0, script))
        return made
