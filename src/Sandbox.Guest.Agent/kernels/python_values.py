"""Values as JSON that any reader takes: no NaN, nothing of numpy or pandas, bounded in size."""
import datetime
import math
import sys

MAX_TEXT = 1000
MAX_ROWS = 1000
MAX_COLUMNS = 256

# What a table may take of a result, in bytes of JSON.
MAX_TABLE = 128 * 1024


def plain(value, depth=0):
    """A value as JSON has it. What is not a number, a text, a truth, a date or a collection of them becomes its text, and no number becomes null."""
    if value is None or isinstance(value, (bool, int)):
        return value if not isinstance(value, int) or isinstance(value, bool) or abs(value) < 1 << 63 else str(value)
    if isinstance(value, float):
        # A subclass (numpy's float64 is one) may print itself otherwise.
        return float(value) if math.isfinite(value) else None
    if isinstance(value, str):
        return str(value) if len(value) <= MAX_TEXT else value[:MAX_TEXT] + "…"
    pandas = sys.modules.get("pandas")
    if pandas is not None and (value is getattr(pandas, "NaT", None) or value is getattr(pandas, "NA", None)):
        return None
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        if value is numpy.ma.masked:
            return None
        if isinstance(value, (numpy.datetime64, numpy.timedelta64)):
            return None if numpy.isnat(value) else str(value)
        if isinstance(value, numpy.generic):
            return plain(value.item(), depth + 1) if depth < 8 else str(value)
        if isinstance(value, numpy.ndarray):
            value = value.tolist()
    if isinstance(value, dict) and depth < 8:
        return {str(k): plain(v, depth + 1) for k, v in value.items()}
    if isinstance(value, (list, tuple)) and depth < 8:
        return [plain(v, depth + 1) for v in value]
    return plain(str(value))


def table(frame):
    """Columns of a data frame, cut to what a result takes: {"columns": {name: [values]}, "rows": how many there are, "truncated": whether some are missing}."""
    import json

    rows, width = frame.shape
    kept = min(rows, MAX_ROWS)
    while True:
        part = frame.iloc[:kept, :MAX_COLUMNS]
        columns = {}
        for at, name in enumerate(part.columns):
            name = "/".join(map(str, name)) if isinstance(name, tuple) else str(name)
            key, n = name[:MAX_TEXT], 1
            while key in columns:
                n += 1
                key = f"{name[:MAX_TEXT]} ({n})"
            columns[key] = [plain(v) for v in part.iloc[:, at].tolist()]
        found = {"columns": columns, "rows": rows, "truncated": kept < rows or width > MAX_COLUMNS}
        if kept == 0 or len(json.dumps(found)) <= MAX_TABLE:
            return found
        kept //= 2
