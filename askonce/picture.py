"""The one way from an image file to pixels: what is compared is what every model gets.

Pillow and NumPy are imported when they are needed: a peer that only talks about images needs neither.

- EXIF orientation is applied.
- 16 bits of grey become 8 by scaling (0..65535 to 0..255, rounded), never by cutting off.
- Transparent parts are laid on white.
- Palette, grey, bilevel and CMYK become RGB.
- An embedded colour profile is ignored, as the servers of vision models do.
- An animation stands for its first frame.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("JPEG", "PNG", "WEBP")
"""The types of file that are taken, in Pillow's words."""

_ORIENTATION = 0x0112  # EXIF


def orientation(image: Image.Image) -> int:
    """EXIF's word on how the pixels are to be turned: 1 (not at all) to 8; 5 to 8 swap width and height. EXIF that
    can't be read says nothing."""
    try:
        found = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # Pillow raises anything from SyntaxError to struct.error on damaged EXIF
        return 1
    return found if found in range(1, 9) else 1


def flatten(image: Image.Image) -> Image.Image:
    """The picture as it is shown and compared: RGB of 8 bits, upright, opaque.

    Takes an image opened by Pillow, whose pixels may be decoded already or not; raises what Pillow raises for a file
    that is damaged.
    """
    from PIL import Image, ImageOps

    image.load()  # the result outlives the file
    if orientation(image) != 1:  # exif_transpose copies even what is upright
        image = ImageOps.exif_transpose(image)
    if image.mode[0] in "IF":
        return _of_deep(image).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, layer).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _of_deep(image: Image.Image) -> Image.Image:
    """Grey of 16 bits as 8 bits; the level that the file names as transparent becomes white."""
    import numpy as np
    from PIL import Image

    deep = np.asarray(image).astype(np.int64)
    grey = ((np.clip(deep, 0, 65535) * 255 + 32767) // 65535).astype(np.uint8)
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        grey[deep == clear] = 255
    return Image.fromarray(grey)


def speaks_for_itself(image: Image.Image, content: bytes) -> bool:
    """Whether any decoder makes of the file what `flatten` does, so that it can be handed on as it came.

    True for upright, opaque, still RGB or grey of 8 bits.
    """
    deep = content[:4] == b"\x89PNG" and content[24:25] == b"\x10"
    still = getattr(image, "n_frames", 1) == 1
    return image.mode in ("RGB", "L") and not (deep or image.has_transparency_data or orientation(image) != 1) and still
