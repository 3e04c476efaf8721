"""Writes the judge's prompts in the model's tokens and names the tokens of its verdicts."""

from __future__ import annotations

from dataclasses import dataclass

from inference_service.glm.prompt import Prompter
from inference_service.judge_prompt import NO, SCRIPTS, YES, Put, Script, puts
from inference_service.sanitising import sanitised


@dataclass(frozen=True, slots=True)
class JudgePrompt:
    """One put of a pair, as tokens; those before `prefix` are the same for every pair of the script."""

    ids: list[int]
    prefix: int
    put: Put


@dataclass(frozen=True, slots=True)
class VerdictTokens:
    """First tokens of the words for the two verdicts."""

    yes: tuple[int, ...]
    no: tuple[int, ...]


class Judge:
    """Writes the judge's prompts. Safe to use from several threads."""

    def __init__(self, prompter: Prompter) -> None:
        self.prompter = prompter
        yes, no = self._first_tokens(YES), self._first_tokens(NO)
        self.verdicts = VerdictTokens(tuple(sorted(yes - no)), tuple(sorted(no - yes)))
        self._prefixes: dict[Script, list[int]] = {}
        for script in SCRIPTS:
            one, other = self._whole(Put(script, "a", "b")), self._whole(Put(script, "1", "2"))
            shared = next(
                (place for place, (x, y) in enumerate(zip(one, other, strict=False)) if x != y),
                min(len(one), len(other)),
            )
            self._prefixes[script] = one[: max(0, shared - 4)]  # tokens near the border may merge with what follows

    @property
    def able(self) -> bool:
        """Whether the vocabulary can tell the verdicts apart."""
        return bool(self.verdicts.yes and self.verdicts.no)

    def prompts(self, left: str, right: str) -> list[JudgePrompt]:
        """All puts of a pair."""
        return [self.prompt(put) for put in puts(left, right)]

    def prompt(self, put: Put) -> JudgePrompt:
        """One put."""
        ids, known = self._whole(put), self._prefixes[put.script]
        return JudgePrompt(ids, len(known) if ids[: len(known)] == known else 0, put)

    def _first_tokens(self, words: tuple[str, ...]) -> set[int]:
        """First tokens of every way to write the words; one that is only white space says nothing."""
        forms = {
            space + form for word in words for form in (word, word.capitalize(), word.upper()) for space in ("", " ")
        }
        with self.prompter.lock:
            firsts = {ids[0] for form in forms if (ids := self.prompter.tokens(form))}
        return {token for token in firsts if self.prompter.vocabulary.spelling.bytes_of(token).strip()}

    def _whole(self, put: Put) -> list[int]:
        text = put.text(lambda part: sanitised(part, self.prompter.vocabulary.guarded))
        rendered = self.prompter.rendered([{"role": "user", "content": [{"type": "text", "text": text}]}], False)
        with self.prompter.lock:
            return self.prompter.tokens(rendered)
