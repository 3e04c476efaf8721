"""Forms are founded by images that register though they differ, learn from their members, and know their own."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from dedup_service.image.form import (
    FIRST_LEARNT,
    LAST_LEARNT,
    Form,
    Learnt,
    belongs,
    found_form,
    founds,
    joins,
    likeliest,
    of_form,
)
from dedup_service.image.keypoints import apply, find_keypoints, register
from dedup_service.image.local_descriptor import describe
from dedup_service.image.residual import cells_of
from tests.dedup_service.image.forms import WAYS, copied, grey, sheet
from tests.dedup_service.image.pages import page, scene


def form_of(form: int = 1) -> Form:
    first = grey(sheet(0, form=form))
    return found_form(f"form {form}", "acme", find_keypoints(first), 900, 700, 100.0)[0]


def grown(form: Form, members: range) -> Form:
    for number in members:
        image = grey(sheet(number))
        found = of_form(form, find_keypoints(image))[0]
        cells = cells_of(image, found.matrix, form.frame)
        form = form.with_learnt(Learnt.of(cells, found.agreed, len(form.keypoints)))
    return form


def test_two_pages_of_one_print_found_a_form() -> None:
    """Pages of one print do, also when one is a photo of it that is turned; a page and a scene do not."""
    first = find_keypoints(grey(sheet(0)))
    for other in (sheet(1), copied(sheet(1), "turned")):
        (found,) = register(find_keypoints(grey(other)), first)
        assert founds(found)
    for other in (page(), scene()):
        assert not any(founds(found) for found in register(find_keypoints(grey(other)), first))


@pytest.mark.parametrize("way", WAYS)
def test_copies_of_siblings_join(way: str) -> None:
    """Whatever was done to a page of the form, it is still of the form; a page of another print is not."""
    form = form_of()
    assert joins(of_form(form, find_keypoints(grey(copied(sheet(5), way))))[0])
    assert of_form(form, find_keypoints(grey(scene()))) == []


@pytest.mark.parametrize("way", WAYS)
def test_the_likeliest_form_comes_first(way: str) -> None:
    """Among several forms in one type face a copy's own is tried among the first three."""
    forms = [form_of(number) for number in range(1, 9)]
    for number in (1, 4, 6):
        found = find_keypoints(grey(copied(sheet(9, form=number), way)))
        assert f"form {number}" in [form.id for form in likeliest(forms, found, describe(found), 3)]
    assert likeliest([], found, describe(found), 2) == []


def test_a_projection_is_due_when_members_have_doubled() -> None:
    """The first after a few members, the next after twice as many, none while members wait for the last one."""
    form = grown(form_of(), range(1, FIRST_LEARNT))
    assert not form.due()
    form = grown(form, range(FIRST_LEARNT, FIRST_LEARNT + 1))
    assert form.due()
    form = form.relearnt("one")
    assert [one.key for one in form.projections] == ["0", "one"]
    assert not form.due()
    form = form.settled()
    assert not form.due()
    assert form.projection.samples == FIRST_LEARNT
    doubled = replace(form, learnt=replace(form.learnt, members=2 * FIRST_LEARNT))
    assert doubled.due()


def test_learning_ends() -> None:
    """A form of very many members changes no more, so their vectors stay as they are."""
    form = form_of()
    full = replace(form, learnt=replace(form.learnt, members=LAST_LEARNT))
    assert grown(full, range(1, 2)) is full


def test_what_two_processes_learnt_adds_up() -> None:
    """In either order."""
    form = form_of()
    one, other = (grown(form, members).learnt for members in (range(1, 4), range(4, 8)))
    together = grown(form, range(1, 8)).learnt
    for merged in (one.merge(other), other.merge(one)):
        assert merged.members == together.members == 7
        assert (merged.shown == together.shown).all()
        assert np.allclose(merged.statistics.mean, together.statistics.mean, atol=1e-4)


def test_a_stored_form_comes_back() -> None:
    """With its keypoints, what it learnt, and projections that make the same vectors."""
    form = grown(form_of(), range(1, 9)).relearnt("one")
    back = Form.from_bytes(
        form.to_bytes(),
        id=form.id,
        tenant=form.tenant,
        keys=("0", "one"),
        create_time=form.create_time,
        last_use=form.last_use,
        revision=3,
    )
    image = grey(sheet(20))
    found, again = (of_form(one, find_keypoints(image))[0] for one in (form, back))
    assert np.abs(found.matrix - again.matrix).max() < 0.5
    cells = cells_of(image, found.matrix, form.frame)
    for one, other in zip(form.projections, back.projections, strict=True):
        assert float(one.apply(cells) @ other.apply(cells)) > 0.999
    assert back.learnt.members == form.learnt.members
    assert back.revision == 3
    with pytest.raises(ValueError, match="form"):
        Form.from_bytes(b"PK no", id="", tenant="", keys=(), create_time=0.0, last_use=0.0, revision=0)


def test_a_page_that_shows_little_of_a_form_is_no_member() -> None:
    """Pages of the same print show as much as members usually do; a page of another print, by chance alike, less."""
    form = grown(form_of(), range(5))
    for number in range(5, 9):
        assert belongs(form, len(of_form(form, find_keypoints(grey(sheet(number))))[0].agreed))
    assert not belongs(form, int(0.25 * form.usual()))


def test_another_look_places_a_small_page_better() -> None:
    """A page that is small in its picture is looked at again within the frame: it lies where it should to less than a
    pixel on average, and counts as no more alike than before."""
    form = form_of()
    small = cv2.resize(grey(sheet(5)), None, fx=0.7, fy=0.7, interpolation=cv2.INTER_AREA)
    picture = cv2.copyMakeBorder(small, 150, 100, 120, 130, cv2.BORDER_CONSTANT, value=40)
    (once,) = of_form(form, find_keypoints(picture))
    (again,) = of_form(form, find_keypoints(picture), picture)
    assert len(again.agreed) == len(once.agreed)
    page = np.mgrid[0:900:60, 0:700:60].reshape(2, -1).T.astype(np.float32)
    there = apply(np.diag([1000 / 900, 1000 / 900, 1.0]), page)
    within = apply(np.array([[0.7, 0, 120 - 0.15], [0, 0.7, 150 - 0.15], [0, 0, 1]]), page)
    wrong = [np.abs(apply(found.matrix, within) - there).mean() for found in (once, again)]
    assert wrong[1] < min(1.0, wrong[0])
