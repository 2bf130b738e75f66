"""Rows that filters are tried on, as plain Python and as an Arrow table."""

from datetime import datetime

import pyarrow as pa

TYPES = {
    "id": pa.int64(),
    "path": pa.string(),
    "folder": pa.string(),
    "name": pa.string(),
    "size": pa.int64(),
    "width": pa.int64(),
    "height": pa.int64(),
    "format": pa.string(),
    "taken": pa.timestamp("us"),
    "camera": pa.string(),
    "lens": pa.string(),
    "latitude": pa.float64(),
    "longitude": pa.float64(),
    "indexed_at": pa.timestamp("us"),
    "generated": pa.bool_(),
}
COLUMNS = tuple(TYPES)


def arrow(rows):
    """Return rows (dictionaries) as an Arrow table; a column that a row lacks is NULL."""
    return pa.table({name: pa.array([row.get(name) for row in rows], type_) for name, type_ in TYPES.items()})


ROWS = [
    dict(id=3, path="2023/a.jpg", folder="2023", name="a.jpg", width=4000, height=3000, format="jpeg", size=900,
         taken=datetime(2023, 7, 1, 12), camera="Canon EOS R5", lens="RF 50", latitude=48.1, longitude=11.6),
    dict(id=5, path="2024/b.JPG", folder="2024", name="b.JPG", width=1000, height=2000, format="jpeg", size=100,
         taken=datetime(2024, 1, 1), camera="Canon PowerShot", latitude=-33.9, longitude=151.2),
    dict(id=8, path="2024/ç 100%.png", folder="2024", name="ç 100%.png", width=2400, height=2400, format="png",
         size=500),
    dict(id=13, path="d.heic", folder="", name="d.heic", width=3024, height=4032, format="heif", size=2000,
         taken=datetime(2024, 12, 31, 23, 59, 59), camera="Apple iPhone 15"),
]  # fmt: skip
