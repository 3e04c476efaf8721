"""People's labels: the tasks, the page, what is recorded."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import closing

import pytest
from sqlalchemy import Engine

from dedup_service.audit.labelling import Page, Session, open_session
from dedup_service.audit.sampling import accuracy
from dedup_service.audit.traffic import read_traffic
from dedup_service.ledger.reading import Reader, Span
from dedup_service.ledger.records import Source


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    """A session of twelve tasks."""
    with closing(open_session(engine, Span(), 12)) as opened:
        yield opened


@pytest.fixture
def page(session: Session) -> Iterator[Page]:
    """Its page, served."""
    with Page(session) as opened:
        thread = threading.Thread(target=opened.serve, daemon=True)
        thread.start()
        yield opened
        opened.stop()
        thread.join(5)


def post(url: str, **form: str) -> int:
    """Sends a form; the status of the answer, redirects followed."""
    data = urllib.parse.urlencode(form).encode()
    try:
        with urllib.request.urlopen(url, data, timeout=10) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_a_label_is_recorded_with_its_draw(engine: Engine, session: Session) -> None:
    """The label is on disk at once, of a person, and notes cell and propensity."""
    task = session.next()
    assert task is not None
    session.record(task.decision, "different")
    label = next(each for each in Reader(engine).labels(task.decision) if each.source is Source.AUDIT)
    assert label.same is False
    note = json.loads(label.note)
    assert note["draw"] == "random"
    assert 0 < note["propensity"] <= 1
    following = session.next()
    assert following is not None
    assert following.decision != task.decision


def test_labels_sharpen_the_estimate(engine: Engine, session: Session) -> None:
    """What people drew and judged counts as verified."""
    before = accuracy(read_traffic(Reader(engine), Span()), 0.95)
    while (task := session.next()) is not None:
        session.record(task.decision, "same")
    after = accuracy(read_traffic(Reader(engine), Span()), 0.95)
    assert after.by_person == 12
    assert after.verified == before.verified + 12


def test_suspicious_tasks_stay_out_of_the_estimate(engine: Engine) -> None:
    """Pairs picked for their looks teach, and do not bend the estimate."""
    before = accuracy(read_traffic(Reader(engine), Span()), 0.95)
    with closing(open_session(engine, Span(), 5, suspicious=True)) as session:
        for task in session.tasks:
            session.record(task.decision, "different")
    after = accuracy(read_traffic(Reader(engine), Span()), 0.95)
    assert len(session.tasks) == 5
    assert after.interval == before.interval


def test_the_page_shows_and_takes(page: Page, session: Session) -> None:
    """It shows the task, takes a verdict, and goes on to the next."""
    task = session.next()
    assert task is not None
    with urllib.request.urlopen(page.url, timeout=10) as response:
        text = response.read().decode()
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    assert task.decision in text
    assert post(page.url + "label", decision=task.decision, verdict="same") == 200
    assert session.labelled == {task.decision: "same"}


def test_the_page_is_nobody_elses(page: Page, session: Session) -> None:
    """Without the secret, by another name, or with what is no task or verdict, nothing is recorded."""
    task = session.next()
    assert task is not None
    root = f"http://127.0.0.1:{page.port}/"
    assert post(root + "label", decision=task.decision, verdict="same") == 404
    assert post(page.url + "label", decision=task.decision, verdict="perhaps") == 400
    assert post(page.url + "label", decision="0" * 32, verdict="same") == 400
    assert post(page.url + "label", decision=task.decision, verdict="s" * 9_000) == 413
    rebound = urllib.request.Request(page.url, headers={"Host": "evil.example"})
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(rebound, timeout=10)
    assert caught.value.code == 404
    caught.value.close()
    assert session.done == 0
    assert page.server.server_address[0] == "127.0.0.1"


def test_a_verdict_can_be_changed(engine: Engine, session: Session) -> None:
    """The last word counts."""
    task = session.next()
    assert task is not None
    session.record(task.decision, "same")
    session.record(task.decision, "unsure")
    labels = [each for each in Reader(engine).labels(task.decision) if each.source is Source.AUDIT]
    assert [each.same for each in labels] == [None]
