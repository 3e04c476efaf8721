"""Every pair that was compared and is no exact repeat, with its label, as Parquet or CSV for analysts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from sqlalchemy import and_, not_, select

from dedup_service.audit.traffic import Traffic, places
from dedup_service.ledger.ledger import DECISIONS
from dedup_service.ledger.reading import CHUNK, Reader, Span, within
from dedup_service.policy.recorded import RIGHT, UNDECIDED, UNLABELLED, WRONG

LABELS = {RIGHT: "RIGHT", WRONG: "WRONG", UNDECIDED: "UNDECIDED", UNLABELLED: None}

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("tenant", pa.string()),
        ("time", pa.float64()),
        ("hit", pa.bool_()),
        ("reason", pa.string()),
        ("image_tier", pa.string()),
        ("image_score", pa.float64()),
        ("image_reason", pa.string()),
        ("question_tier", pa.string()),
        ("question_score", pa.float64()),
        ("question_reason", pa.string()),
        ("vetoes", pa.string()),
        ("stratum", pa.string()),
        ("risk", pa.float64()),
        ("max_risk", pa.float64()),
        ("policy_revision", pa.int64()),
        ("image", pa.string()),
        ("nearest_image", pa.string()),
        ("nearest_entry", pa.string()),
        ("question_text", pa.string()),
        ("question_digest", pa.string()),
        ("nearest_question_text", pa.string()),
        ("nearest_question_digest", pa.string()),
        ("nearest_answer_text", pa.string()),
        ("language", pa.string()),
        ("cross_language", pa.bool_()),
        ("model", pa.string()),
        ("propensity", pa.float64()),
        ("saved_seconds", pa.float64()),
    ]
)
"""The ledger's own columns; `label` is added."""
LABELLED = SCHEMA.append(pa.field("label", pa.string()))
FORMATS = ("parquet", "csv")


def write_pairs(
    reader: Reader,
    span: Span,
    traffic: Traffic,
    folder: Path,
    formats: tuple[str, ...],
    progress: Callable[[int], None],
) -> int:
    """Writes `pairs.parquet` and/or `pairs.csv` into `folder`, in chunks. Returns the number of pairs."""
    columns = [DECISIONS.c[name] for name in SCHEMA.names]
    exact = and_(
        DECISIONS.c.image_tier.in_(("BYTES", "PIXELS")), DECISIONS.c.question_tier.in_(("EXACT", "NORMALISED"))
    )
    query = within(select(*columns).where(DECISIONS.c.risk.is_not(None), not_(exact)).order_by(DECISIONS.c.id), span)
    writers: list[Any] = []
    done = 0
    try:
        if "parquet" in formats:
            writers.append(pa.parquet.ParquetWriter(folder / "pairs.parquet", LABELLED, compression="zstd"))
        if "csv" in formats:
            writers.append(pa.csv.CSVWriter(folder / "pairs.csv", LABELLED))
        with reader.engine.connect() as connection:
            for rows in connection.execution_options(yield_per=CHUNK).execute(query).partitions():
                values = list(zip(*rows, strict=True))
                at = places(traffic.recorded.id, values[0])
                label = [LABELS[int(traffic.recorded.label[i])] if i >= 0 else None for i in at]
                arrays = [pa.array(v, f.type) for v, f in zip(values, SCHEMA, strict=True)]
                batch = pa.record_batch([*arrays, pa.array(label, pa.string())], schema=LABELLED)
                for writer in writers:
                    writer.write_batch(batch)
                done += len(rows)
                progress(done)
    finally:
        for writer in writers:
            writer.close()
    return done
