"""Made-up ledgers with a known truth: what the audit's benchmark and tests are held against.

Traffic as a receipt desk would see it: two languages, three tenants, exact repeats, copies of images, rephrased
questions, look-alikes, a week and the week before. The wrong-answer rate is set, so an estimate can be checked.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dedup_service.ledger.database import open_database
from dedup_service.ledger.records import Decision, digest, pair_key
from dedup_service.policy.reuse import combine, stratum_of
from dedup_service.store.records import image_id

INTENTS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("total", ("What is the total amount?", "How much is it in all?", "总金额是多少？", "一共多少钱？", "total?",
               "How much did it cost?")),
    ("tax", ("What is the amount before tax?", "Net amount?", "税前金额是多少？", "不含税多少钱？")),
    ("date", ("When was this issued?", "What is the invoice date?", "开票日期是哪天？", "日期？",
              "What date is on it?")),
    ("company", ("Who issued this receipt?", "Which company is it from?", "开票公司是哪家？", "商家名称是什么？")),
    ("address", ("Where is the shop?", "What is the address?", "地址是什么？", "店在哪里？")),
    ("number", ("What is the invoice number?", "发票号码是多少？", "Invoice no.?")),
    ("cat", ("Is there a cat in the picture?", "图里有猫吗？", "Can you see a cat?")),
    ("count", ("How many people are there?", "图中有几个人？", "Number of people?")),
)  # fmt: skip
TENANTS = ("acme", "globex", "initech")
DAY = 86_400.0


@dataclass(frozen=True)
class Made:
    """A ledger that was made, and the truth about it."""

    url: str
    decisions: int
    hits: int
    wrong: int
    """Hits whose stored answer was wrong."""
    planted: tuple[str, ...]
    """Ids of the wrong reuses planted beside those that the rate brought."""

    @property
    def wrong_rate(self) -> float:
        """The true share of wrong answers among the hits."""
        return self.wrong / max(1, self.hits)


def answer_to(intent: str, image: int) -> str:
    """The right answer to a question of an intent about an image."""
    draw = int.from_bytes(hashlib.blake2b(f"{intent}{image}".encode(), digest_size=6).digest(), "big")
    if intent in ("total", "tax"):
        return f"RM {draw % 90_000 / 100 + 1:.2f}"
    if intent == "date":
        return f"2026-{draw % 12 + 1:02d}-{draw % 28 + 1:02d}"
    if intent == "company":
        return ("晨光文具店", "Old Town Kopitiam", "京东便利店", "Sunrise Hardware Sdn Bhd")[draw % 4]
    if intent == "address":
        return f"{draw % 300 + 1} Jalan Besar, Johor" if draw % 2 else f"上海市人民路{draw % 300 + 1}号"
    if intent == "number":
        return f"INV-{draw % 1_000_000:06d}"
    return ("yes" if draw % 2 else "no") if intent == "cat" else str(draw % 9 + 1)


def language_of(text: str) -> str:
    """The language of one of the questions."""
    return "zh" if any("一" <= character <= "鿿" for character in text) else "en"


def make_ledger(
    path: Path,
    *,
    decisions: int,
    wrong_rate: float = 0.005,
    exploration_rate: float = 0.02,
    label_noise: float = 0.0,
    planted: int = 0,
    drift: float = 0.0,
    end: float = 1_790_000_000.0,
    seed: int = 7,
) -> Made:
    """Writes a ledger of `decisions` over the two weeks before `end` (seconds since the epoch).

    About `wrong_rate` of the hits are wrong, more often where the risk was estimated higher. Exploration labels a share
    of `exploration_rate` of the hits and errs with probability `label_noise`. `planted` hits are wrong in ways that the
    recorded scores do not show: another field's question, a look-alike taken for a copy, a poisoned entry. `drift`
    lowers the second week's question scores.
    """
    open_database(f"sqlite:///{path}").dispose()
    draw = np.random.default_rng(seed)
    rows = Rows(draw, decisions, wrong_rate, exploration_rate, label_noise, planted, drift, end)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA synchronous=OFF")
    columns = rows.decision_columns()
    insert = f"INSERT INTO decisions ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
    for decided, labelled in rows.chunks():
        connection.executemany(insert, decided)
        connection.executemany("INSERT INTO labels VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", labelled)
        connection.commit()
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return Made(f"sqlite:///{path}", decisions, rows.hits, rows.wrong, tuple(rows.planted_ids))


class Rows:
    """Draws decisions and labels, chunk by chunk."""

    def __init__(
        self,
        draw: np.random.Generator,
        decisions: int,
        wrong_rate: float,
        exploration_rate: float,
        label_noise: float,
        planted: int,
        drift: float,
        end: float,
    ) -> None:
        self.draw = draw
        self.decisions = decisions
        self.wrong_rate = wrong_rate
        self.exploration_rate = exploration_rate
        self.label_noise = label_noise
        self.drift = drift
        self.start = end - 14 * DAY
        self.hits = 0
        self.wrong = 0
        self.plants = (
            set(np.linspace(decisions * 0.55, decisions * 0.98, planted).astype(int).tolist()) if planted else set()
        )
        self.planted_ids: list[str] = []
        self.images = max(20, decisions // 12)

    @staticmethod
    def decision_columns() -> list[str]:
        """The table's columns in the order in which `row_of` gives them."""
        return [*Decision.__dataclass_fields__, "pair"]

    def chunks(self) -> Iterator[tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]]:
        """Rows of decisions and of labels."""
        for start in range(0, self.decisions, 20_000):
            size = min(20_000, self.decisions - start)
            decided: list[tuple[Any, ...]] = []
            labelled: list[tuple[Any, ...]] = []
            uniform: NDArray[np.float64] = self.draw.random((size, 12))
            for i, u in enumerate(uniform.tolist()):
                decision, right = self.one(start + i, u)
                decided.append(row_of(decision))
                if (label := self.label(decision, right, u)) is not None:
                    labelled.append(label)
            yield decided, labelled

    def one(self, number: int, u: list[float]) -> tuple[Decision, bool | None]:
        """One decision, and whether its stored answer is right for it; None without one."""
        share = number / max(1, self.decisions)
        moment = self.start + share * 14 * DAY
        identity = f"{int(moment * 1e6):014x}{number:018x}"
        tenant = TENANTS[0 if u[0] < 0.6 else 1 if u[0] < 0.9 else 2]
        image = int(self.images * u[1] ** 3)  # a few images are asked about most
        intent, phrases = INTENTS[int(len(INTENTS) * u[2] ** 1.5)]
        asked = phrases[int(len(phrases) * u[3])]
        if number in self.plants:
            self.planted_ids.append(identity)
            return self.planted(identity, tenant, moment, image, len(self.planted_ids)), False
        kind = u[4]
        if kind < 0.12:
            return self.decision(identity, tenant, moment, image, asked, reason="IMAGE_UNKNOWN", u=u), None
        if kind < 0.50:
            return self.hit(identity, tenant, moment, image, intent, asked, asked, "BYTES", 1.0, "EXACT", 1.0, u)
        if kind < 0.62:
            score = 1 - 0.004 * u[5]
            return self.hit(identity, tenant, moment, image, intent, asked, asked, "PERCEPTUAL", score, "EXACT", 1.0, u)
        if kind < 0.80:
            stored = phrases[int(len(phrases) * u[6])]
            tier = "KNOWN" if u[7] < 0.6 else "NEIGHBOUR"
            score = 1 - 0.03 * u[5] ** 2 - self.drift * 0.02 * (share > 0.5)
            return self.hit(identity, tenant, moment, image, intent, asked, stored, "BYTES", 1.0, tier, score, u)
        return self.near_miss(identity, tenant, moment, image, intent, asked, share, u)

    def hit(
        self, identity: str, tenant: str, moment: float, image: int, intent: str, asked: str, stored: str,
        image_tier: str, image_score: float, question_tier: str, question_score: float, u: list[float],
    ) -> tuple[Decision, bool]:  # fmt: skip
        """A served answer; wrong with a probability that grows with the risk."""
        risk = 0.0 if image_tier == "BYTES" and question_tier == "EXACT" else combine(image_score, question_score)
        # the mean over what is served is `wrong_rate`: exact repeats never err, the rest in proportion to their risk
        mean_risk = 0.0036 * (0.12 / 0.68) + 0.010 * (0.18 / 0.68)
        right = u[8] >= min(0.9, self.wrong_rate * risk / mean_risk)
        self.hits += 1
        self.wrong += not right
        explore = u[9] < self.exploration_rate
        decision = self.decision(
            identity, tenant, moment, image, asked, u=u, hit=True, stored=stored, answer=answer_to(intent, image),
            reason="SCORED" if question_tier == "NEIGHBOUR" else question_tier, image_tier=image_tier,
            image_score=image_score, question_tier=question_tier, question_score=question_score, risk=risk,
            explored=explore, copy=image_tier == "PERCEPTUAL",
        )  # fmt: skip
        return decision, right

    def near_miss(
        self,
        identity: str,
        tenant: str,
        moment: float,
        image: int,
        intent: str,
        asked: str,
        share: float,
        u: list[float],
    ) -> tuple[Decision, bool]:
        """A stored answer that was not served: a look-alike, a vetoed question, or one below the threshold."""
        if u[5] < 0.2:
            decision = self.decision(
                identity, tenant, moment, image, asked, u=u, stored=asked, answer=answer_to(intent, image + 1),
                reason="IMAGE_LOOKALIKE", image_tier="PERCEPTUAL", image_score=0.3 * u[6], question_tier="EXACT",
                question_score=1.0, risk=1.0, lookalike=True, box=(0.55, 0.62, 0.2, 0.06),
            )  # fmt: skip
            return decision, answer_to(intent, image + 1) == answer_to(intent, image)
        if u[5] < 0.45:
            other, phrases = INTENTS[(list(dict(INTENTS)).index(intent) + 1) % len(INTENTS)]
            stored = phrases[0]
            decision = self.decision(
                identity, tenant, moment, image, asked, u=u, stored=stored, answer=answer_to(other, image),
                reason="QUESTION_VETOED", image_tier="BYTES", image_score=1.0, question_tier="NEIGHBOUR",
                question_score=0.2 * u[6], risk=1.0, vetoes=(("KEYWORD", asked, stored),),
            )  # fmt: skip
            return decision, False
        score = max(0.0, 0.97 - 0.5 * u[7] - self.drift * 0.1 * (share > 0.5))
        right = u[8] < score  # calibrated: what scores 0.8 asks the same four times out of five
        meant = intent if right else INTENTS[(list(dict(INTENTS)).index(intent) + 2) % len(INTENTS)][0]
        phrases = dict(INTENTS)[meant]
        stored = phrases[int(len(phrases) * u[6])]
        decision = self.decision(
            identity, tenant, moment, image, asked, u=u, stored=stored, answer=answer_to(meant, image),
            reason="QUESTION_BELOW_THRESHOLD", image_tier="BYTES", image_score=1.0, question_tier="NEIGHBOUR",
            question_score=score, risk=1 - score,
        )  # fmt: skip
        return decision, right

    def planted(self, identity: str, tenant: str, moment: float, image: int, number: int) -> Decision:
        """A wrong reuse with fine scores, in one of three ways."""
        self.hits += 1
        self.wrong += 1
        u = [0.5] * 12
        common: dict[str, Any] = {"u": u, "hit": True, "image_score": 1.0, "risk": 0.004, "explored": False}
        way = number % 3
        if way == 0:  # another field's question
            return self.decision(
                identity, tenant, moment, image, "What is the invoice date?", stored="What is the total amount?",
                answer=answer_to("total", image), reason="KNOWN", image_tier="BYTES", question_tier="KNOWN",
                question_score=0.996, **common,
            )  # fmt: skip
        if way == 1:  # a look-alike taken for a copy
            return self.decision(
                identity, tenant, moment, image, "总金额是多少？", stored="总金额是多少？",
                answer=answer_to("total", image + 1),
                reason="EXACT", image_tier="PERCEPTUAL", question_tier="EXACT", question_score=1.0, lookalike=True,
                **common,
            )  # fmt: skip
        return self.decision(  # a poisoned entry
            identity, tenant, moment, image, "Who issued this receipt?", stored="Who issued this receipt?",
            answer="FREE MONEY Ltd", reason="EXACT", image_tier="BYTES", question_tier="EXACT", question_score=1.0,
            **{**common, "risk": 0.0},
        )  # fmt: skip

    def decision(
        self, identity: str, tenant: str, moment: float, image: int, asked: str, *, u: list[float], reason: str,
        hit: bool = False, stored: str | None = None, answer: str | None = None, image_tier: str = "",
        image_score: float | None = None, question_tier: str = "", question_score: float | None = None,
        risk: float | None = None, explored: bool = False, copy: bool = False, lookalike: bool = False,
        box: tuple[float, float, float, float] | None = None, vetoes: tuple[tuple[str, str, str], ...] = (),
    ) -> Decision:  # fmt: skip
        """A whole decision."""
        file = f"{tenant}/{image}" + ("/copy" if copy else "")
        nearest = f"{tenant}/{image + lookalike}"
        record = image_id(tenant, hashlib.sha256(nearest.encode()).digest()) if stored is not None else ""
        entry = hashlib.md5(f"{record}/{stored}/{answer}".encode()).hexdigest() if stored is not None else ""
        verdict = "DIFFERENT" if reason == "QUESTION_VETOED" else "SAME" if hit else "UNSURE" if question_tier else ""
        return Decision(
            id=identity, tenant=tenant, time=moment, request_id=identity[:16], hit=hit, would_hit=hit, reason=reason,
            image_tier=image_tier,
            image_verdict="DIFFERENT" if reason == "IMAGE_LOOKALIKE" else "SAME" if image_tier else "UNKNOWN",
            image_score=image_score,
            image_reason="LOCAL_DIFFERENCE" if reason == "IMAGE_LOOKALIKE" else "COPY" if image_tier else "",
            image_box=box,
            question_tier=question_tier,
            question_verdict=verdict,
            question_score=question_score, question_reason=reason if question_tier else "", vetoes=vetoes,
            stratum=stratum_of(image_tier, question_tier), risk=risk, max_risk=0.03 if risk is not None else None,
            image_threshold=0.98, question_threshold=0.97, policy_revision=3,
            image=hashlib.sha256(file.encode()).hexdigest(), nearest_image=record, entry=entry if hit else "",
            nearest_entry=entry, question_text=asked, question_digest=digest(asked), nearest_question_text=stored,
            nearest_question_digest=digest(stored) if stored is not None else "", nearest_answer_text=answer,
            nearest_answer_digest=digest(answer) if answer is not None else "", language=language_of(asked),
            cross_language=stored is not None and language_of(stored) != language_of(asked), model="glm-4.6v-flash",
            timings={"recognise": 1 + 8 * u[10] ** 4, "match": 0.5 + 6 * u[11] ** 3}, explored=explored,
            propensity=self.exploration_rate if hit else 0.0, saved_seconds=0.8 + 1.5 * u[10] if hit else 0.0,
        )  # fmt: skip

    def label(self, decision: Decision, right: bool | None, u: list[float]) -> tuple[Any, ...] | None:
        """The label that the running system would have made."""
        if right is None or (decision.hit and not decision.explored):
            return None
        source = "EXPLORATION" if decision.hit else "NEAR_MISS"
        said: bool | None = right if u[10] >= self.label_noise else not right
        if not decision.hit and u[11] < 0.15:
            said = None
        fresh = decision.nearest_answer_text if said else "RM 0.00"
        return (decision.id, source, decision.tenant, decision.time + 2, said, 1.0, "", fresh, digest(fresh or ""))


def row_of(decision: Decision) -> tuple[Any, ...]:
    """A decision as the table holds it."""
    row = dict(vars(decision))
    row["image_box"] = None if decision.image_box is None else json.dumps(decision.image_box)
    row["vetoes"] = json.dumps(decision.vetoes, ensure_ascii=False) if decision.vetoes else None
    row["timings"] = json.dumps(dict(decision.timings))
    return (*row.values(), pair_key(decision))
