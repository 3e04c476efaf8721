"""What engines measure, beside the counters that every service has (`askonce.telemetry`). Every engine's process shows
all of them; what an engine does not have stays 0."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

QUEUED = Gauge("askonce_engine_queued", "Requests waiting for the engine.")
RUNNING = Gauge("askonce_engine_running", "Requests that the engine works on.")
EXPECTED_WAIT = Gauge("askonce_engine_expected_wait_seconds", "Wait that a new request must expect.")
BUSY = Counter("askonce_engine_busy_seconds_total", "Seconds of work, summed over requests.")
CAPACITY = Gauge("askonce_engine_capacity", "Requests that the engine takes at once.")
FIRST_TOKEN = Histogram(
    "askonce_engine_first_token_seconds",
    "Seconds from a place at the engine to the first piece of an answer.",
    buckets=(0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6),
)
TOKEN = Histogram(
    "askonce_engine_token_seconds",
    "Seconds per generated token after the first.",
    buckets=(0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256),
)
TOKENS = Counter("askonce_engine_tokens_total", "Tokens of finished answers, by kind.", ["kind"])
JUDGEMENTS = Counter("askonce_engine_judgements_total", "Question pairs by verdict.", ["verdict"])
ANSWERS = Counter("askonce_engine_answers_total", "Answers by how they ended.", ["finish"])
BATCH_ROWS = Gauge("askonce_engine_batch_rows", "Answers in the batch of the in-process engine.")
KV_USED = Gauge("askonce_engine_kv_used_ratio", "Share of the in-process engine's KV cache that holds tokens, 0 to 1.")
OUT_OF_MEMORY = Counter("askonce_engine_out_of_memory_total", "Times that the device ran out of memory.")
EVICTIONS = Counter("askonce_engine_cache_evictions_total", "Values that a cache gave up for want of room.", ["cache"])
UPSTREAM_TROUBLE = Counter(
    "askonce_engine_upstream_trouble_total", "Answers refused for what an upstream did, by reason.", ["reason"]
)
