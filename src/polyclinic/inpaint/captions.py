"""Text on pictures of what was painted."""

from PIL import Image, ImageDraw, ImageFont

LINE = 18
"""Height of a line of text, px."""
GREY = (200, 200, 200)


def write(image: Image.Image, text: str, x: int = 0) -> None:
    """Write `text` on the uppermost line of an RGB image, from the column `x` on."""
    font = ImageFont.load_default(LINE * 2 / 3)
    ImageDraw.Draw(image).text((x + 4, LINE / 2), text, fill=GREY, font=font, anchor="lm")
