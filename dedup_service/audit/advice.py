"""What to do next, in order: safety first, then knowledge, then more hits. Pure."""

from __future__ import annotations

import shlex

from askonce.names import child_name
from dedup_service.audit.report import Advice, Report
from dedup_service.policy.risk import labels_needed

SURE = frozenset({"LABELLED_WRONG", "CLIENT_SAID_WRONG", "ENTRY_WRONG_ELSEWHERE", "VETO_NOW"})
"""Signs that need no second look."""
FLOOR = 0.999
"""Least probability of one image that keeps look-alikes apart which labels showed to be confused."""
JUDGE_ADVICE = {
    "BACKGROUND": " The judge settles such pairs once for all images, if the engine can judge (`askonce doctor` says).",
    "INLINE": " The judge, asked before the answer instead of after it, saves the first call too.",
}
DAY = 86_400.0


def advise(report: Report) -> tuple[Advice, ...]:
    """What the report's reader should do, the most urgent first."""
    if report.requests == 0:
        return (
            Advice("Send traffic, or widen the span", "Nothing was decided in this time.", "askonce audit --since 30d"),
        )
    return (*safety(report), *knowledge(report), *gains(report), *housekeeping(report)) or (
        Advice("Nothing", "The bound holds, there are labels enough, and no threshold does better."),
    )


def safety(report: Report) -> list[Advice]:
    """What keeps wrong answers away."""
    found = []
    if report.verdict == "BOUND_BROKEN":
        found.append(tightening(report))
        found.extend(unsteady(report))
    wrong = [shown for shown in report.suspicious if SURE & set(shown.signs) and not shown.removed]
    if wrong:
        first = wrong[0]
        found.append(
            Advice(
                f"Remove {len(wrong)} stored {'answer' if len(wrong) == 1 else 'answers'} known or shown to be wrong",
                "They are listed first under “Most suspicious reuses”. Feedback removes an entry and parts the pair "
                "that let it be served.",
                f"askonce feedback {child_name(first.tenant, 'decisions', first.decision)} wrong",
            )
        )
    contradictory = len(report.intents_contradictory)
    terms = report.policy["protected_terms"]
    if contradictory:
        found.append(
            Advice(
                f"Look at {contradictory} contradictory {'intent' if contradictory == 1 else 'intents'}",
                "Questions served for each other that also got different answers. A word that must be equal on both "
                "sides keeps them apart: a protected term" + (", beside those that are set." if terms else "."),
                f"{policy_set(report)} protected_terms={shlex.quote(','.join([*terms, 'TERM']))}",
            )
        )
    served = sum(1 for cluster in report.lookalikes if cluster.contradictions)
    if served and report.policy["image_floor"] < FLOOR:
        found.append(
            Advice(
                f"Check {served} look-alike {'group' if served == 1 else 'groups'} across which answers were served",
                "The same images were told apart in other requests. A higher image floor keeps them apart for good.",
                f"{policy_set(report)} image_floor={FLOOR}",
            )
        )
    return found


def tightening(report: Report) -> Advice:
    """What to do about a broken bound: another mode, or none of it until it is understood."""
    what = f"Up to {report.accuracy.upper:.2%} of the hits are wrong, and {report.budget:.2%} is allowed."
    if report.mode == "SHADOW":
        return Advice(
            "Find out what is wrong before you serve",
            f"{what} Nothing is served while the mode is SHADOW: look at the most suspicious reuses first.",
            "askonce audit label --suspicious",
        )
    if report.mode == "VERIFIED":
        return Advice(
            "Look before you serve on",
            f"{what} VERIFIED mode closes the kinds of evidence that break the budget as labels come in; until you "
            "know why it is broken, SHADOW asks the model every time and keeps recording.",
            f"{policy_set(report)} mode=SHADOW",
        )
    return Advice(
        "Tighten reuse now",
        f"{what} VERIFIED mode closes the kinds of evidence that break the budget; STATIC mode needs higher "
        "thresholds.",
        f"{policy_set(report)} mode=VERIFIED",
    )


def unsteady(report: Report) -> list[Advice]:
    """Whether the model itself is the trouble: exact repeats can't be wrong unless it contradicts itself."""
    exact = next((share for share in report.strata if share.name == "exact/exact"), None)
    if exact is None or exact.wrong.low <= report.budget:
        return []
    return [
        Advice(
            "Look at the model first",
            f"Even of exact repeats, {exact.wrong_labels:,} of {exact.verified:,} got another answer when the model "
            "was asked again: it contradicts itself, which no threshold can mend. Is its temperature above 0?",
        )
    ]


def knowledge(report: Report) -> list[Advice]:
    """What makes the estimate sharper."""
    found = []
    accuracy = report.accuracy
    if report.verdict == "TOO_FEW_LABELS" and report.hits:
        needed = labels_needed(report.budget, accuracy.confidence, accuracy.wrong) if report.budget > 0 else 0
        missing = max(1, needed - accuracy.verified)
        found.append(
            Advice(
                f"Label at least {missing:,} hits" if needed else "Set an error budget above zero",
                f"{accuracy.verified:,} of {accuracy.hits:,} hits were verified; {needed:,} with {accuracy.wrong:,} "
                f"wrong can show that at most {report.budget:.2%} are. A higher exploration rate does it alone.",
                "askonce audit label",
            )
        )
    elif accuracy.unsure > 0.2 * max(1, accuracy.verified):
        found.append(
            Advice(
                f"Judge the {accuracy.unsure:,} comparisons that came to no verdict",
                "They count as right for one end of the interval and as wrong for the other.",
                "askonce audit label",
            )
        )
    found.extend(
        Advice(
            f"Find out why the {change.score} scores moved",
            f"They differ from the period before (distance {change.distance:.2f}; median {change.median_now:.3f}, "
            f"before {change.median_before:.3f}). New kinds of images or questions, or another encoder?",
        )
        for change in report.drift
        if change.drifted
    )
    if not report.texts_kept and report.hits and not report.policy["keep_question_text"]:
        found.append(
            Advice(
                "Keep question texts, if you may",
                "Without texts, findings can't be read and people can't label them.",
                f"{policy_set(report)} keep_question_text=true",
            )
        )
    return found


def gains(report: Report) -> list[Advice]:
    """What brings more hits."""
    found = []
    for suggested in report.suggested:
        better = suggested.hit_rate_then - suggested.hit_rate_now
        if suggested.reason == "SUGGESTED" and better > 0.002:
            found.append(
                Advice(
                    f"Try the suggested thresholds for {suggested.tenant}",
                    f"On record they would have served {suggested.hit_rate_then:.1%} instead of "
                    f"{suggested.hit_rate_now:.1%}, at most {suggested.upper:.2%} of it wrong.",
                    f"askonce policy set --tenant {suggested.tenant} mode=STATIC "
                    f"image_threshold={suggested.image_threshold:.9g} "
                    f"question_threshold={suggested.question_threshold:.9g}",
                )
            )
    right = [shown for shown in report.promising if "LABELLED_RIGHT" in shown.signs]
    if right:
        calls = sum(shown.score for shown in right)
        found.append(
            Advice(
                f"Win back about {calls:,.0f} model calls",
                "These misses had a right answer in store; see “Most promising misses” for what held them back."
                + JUDGE_ADVICE.get(next_judge(report), ""),
                f"{policy_set(report)} judge={next_judge(report)}" if next_judge(report) else "",
            )
        )
    return found


def next_judge(report: Report) -> str:
    """The mode of the judge that is worth a trial; empty when it is in force, or when the engine can't judge: a judge
    that was asked would have left verdicts."""
    mode = report.policy["judge"]
    if mode == "OFF":
        return "BACKGROUND"
    return "INLINE" if mode == "BACKGROUND" and report.judge_verdicts else ""


def housekeeping(report: Report) -> list[Advice]:
    """What keeps the store small."""
    unused = report.never_hit
    shorter = report.policy["archive_ttl"] / 2
    if unused is not None and unused.entries >= 100 and unused.never > 0.8 * unused.entries and shorter >= DAY:
        return [
            Advice(
                "Keep answers for a shorter time",
                f"{unused.never:,} of {unused.entries:,} stored answers were never served.",
                f"{policy_set(report)} archive_ttl={shorter / DAY:g}d",
            )
        ]
    return []


def policy_set(report: Report) -> str:
    """The beginning of a command that changes the policy of the report's tenant: the busiest one of several."""
    return f"askonce policy set --tenant {report.sweep_policy}"
