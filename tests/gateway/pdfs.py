"""PDF files for tests, made on the spot."""

from __future__ import annotations

import io
import time

from tests.gateway.pictures import draw


def pdf(pages: int = 2, seed: int = 0, width: int = 300, height: int = 200) -> bytes:
    """A PDF file with a picture on each page; another seed gives other pages."""
    first, *rest = [draw(width, height, seed=seed + number) for number in range(pages)]
    file = io.BytesIO()
    epoch = time.gmtime(0)
    first.save(file, "PDF", save_all=True, append_images=rest, resolution=72, creationDate=epoch, modDate=epoch)
    return file.getvalue()


def raw(*objects: str, trailer: str = "") -> bytes:
    """A PDF file of numbered objects, the first its catalogue."""
    body, places = b"%PDF-1.4\n", []
    for number, text in enumerate(objects, 1):
        places.append(len(body))
        body += f"{number} 0 obj\n{text}\nendobj\n".encode("latin-1")
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    end = f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}trailer\n"
    end += f"<</Size {len(objects) + 1} /Root 1 0 R {trailer}>>\nstartxref\n{len(body)}\n%%EOF\n"
    return body + end.encode("latin-1")


def locked() -> bytes:
    """A PDF file that says it is locked with a password."""
    key = "<" + "11" * 32 + ">"
    return raw(
        "<</Type /Catalog /Pages 2 0 R>>",
        "<</Type /Pages /Kids [3 0 R] /Count 1>>",
        "<</Type /Page /Parent 2 0 R /MediaBox [0 0 100 100]>>",
        f"<</Filter /Standard /V 1 /R 2 /O {key} /U {key} /P -4>>",
        trailer="/Encrypt 4 0 R /ID [<00112233> <00112233>]",
    )


def empty() -> bytes:
    """A PDF file without pages."""
    return raw("<</Type /Catalog /Pages 2 0 R>>", "<</Type /Pages /Kids [] /Count 0>>")


def poster() -> bytes:
    """A PDF file with one page of 10 by 10 metres."""
    return raw(
        "<</Type /Catalog /Pages 2 0 R>>",
        "<</Type /Pages /Kids [3 0 R] /Count 1>>",
        "<</Type /Page /Parent 2 0 R /MediaBox [0 0 28346 28346]>>",
    )
