"""What the scripts that write pages know about results/reference: its tables, numbers of them in a text, and small
pictures."""

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "results/reference"
MAX_BYTES, COLOURS = 60_000, 128  # of a picture of the lecture


def read_table(path: Path) -> pd.DataFrame:
    """A table of results/reference. Exits with an error if there is none."""
    if not path.is_file():
        sys.exit(f"{path}: no such table; run scripts/reproduce")
    return pd.read_csv(path, keep_default_na=False, na_values=[""])


def one_row(table: pd.DataFrame, **values: object) -> pd.Series:
    """The row with these values. Exits with an error unless there is exactly one."""
    rows = table
    for column, value in values.items():
        rows = rows[rows[column].astype(str) == str(value)]
    if len(rows) != 1:
        sys.exit(f"{values} is {len(rows)} rows of the table, expected 1")
    return rows.iloc[0]


def insert_numbers(text: str, number: Callable[..., str]) -> str:
    """The text, in which each {a|b|c} is replaced by number("a", "b", "c")."""
    return re.sub(r"\{([^{}]+)\}", lambda match: number(*match[1].split("|")), text)


def save_small(picture: Image.Image, path: Path) -> None:
    """Write a picture as WebP without loss, with at most COLOURS colours, and narrower until it is below MAX_BYTES."""
    picture, width = picture.convert("RGB"), picture.width
    while True:
        size = (width, round(picture.height * width / picture.width))
        smaller = picture if width == picture.width else picture.resize(size, Image.Resampling.LANCZOS)
        few = smaller.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        few.convert("RGB").save(path, "WEBP", lossless=True)
        if path.stat().st_size < MAX_BYTES:
            return
        width = round(0.85 * width)
