"""Pages of one form, drawn for the tests: printed headings and rules, and values that differ from page to page."""

import cv2
import numpy as np
from numpy.typing import NDArray

Rgb = NDArray[np.uint8]

LABELS = (
    "Invoice number",
    "Date of issue",
    "Seller",
    "Buyer",
    "Place of supply",
    "Due on",
    "Amount due",
    "Bank",
    "Tax",
)


def sheet(number: int, *, form: int = 1) -> Rgb:
    """A 900 x 700 page; `number` draws its values, `form` its print."""
    paper = np.full((700, 900, 3), 250, np.uint8)
    printed, values = np.random.default_rng(1000 + form), np.random.default_rng(number)
    write(paper, f"FORM {printed.integers(100, 999)} / {'ABCDEFGH'[form % 8]}-{form}", (250, 60), 1.2)
    labels = printed.permutation(LABELS)[:9]
    left, pitch = int(printed.integers(30, 90)), int(printed.integers(44, 60))
    for line, label in enumerate(labels):
        y = 130 + pitch * line
        write(paper, f"{label} {'.:-'[form % 3]}", (left, y), 0.7)
        write(paper, str(values.integers(10**7, 10**8)), (left + 330, y), 0.7)
        write(paper, f"{values.integers(10, 999)}.{values.integers(10, 99)}", (left + 560, y), 0.7)
        if form % 2:
            cv2.line(paper, (left, y + 16), (850, y + 16), (120, 120, 120), 1)
    write(paper, f"Printed by office {printed.integers(1, 99)}, keep for {form + 3} years", (left, 660), 0.6)
    return paper


def write(paper: Rgb, text: str, at: tuple[int, int], size: float) -> None:
    """Text in place."""
    cv2.putText(paper, text, at, cv2.FONT_HERSHEY_SIMPLEX, size, (30, 30, 30), 1, cv2.LINE_AA)


def grey(rgb: Rgb) -> NDArray[np.uint8]:
    """Brightness alone."""
    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), dtype=np.uint8)


def copied(rgb: Rgb, way: str) -> Rgb:
    """What becomes of a page: saved, shrunk, cropped, turned or framed."""
    height, width = rgb.shape[:2]
    if way == "saved":
        packed = cv2.imencode(".jpg", rgb, [cv2.IMWRITE_JPEG_QUALITY, 70])[1]
        return np.asarray(cv2.imdecode(packed, cv2.IMREAD_UNCHANGED), dtype=np.uint8)
    if way == "shrunk":
        return np.asarray(cv2.resize(rgb, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    if way == "cropped":
        return rgb[14 : height - 14, 18 : width - 18]
    if way == "turned":
        matrix = cv2.getRotationMatrix2D((width / 2, height / 2), 1.5, 1.0)
        return np.asarray(cv2.warpAffine(rgb, matrix, (width, height), borderValue=(255, 255, 255)), dtype=np.uint8)
    if way == "upside down":
        return np.ascontiguousarray(rgb[::-1, ::-1])
    return np.asarray(cv2.copyMakeBorder(rgb, 110, 90, 80, 80, cv2.BORDER_CONSTANT, value=(40, 44, 52)), dtype=np.uint8)


WAYS = ("saved", "shrunk", "cropped", "turned", "upside down", "framed")
