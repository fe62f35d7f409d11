"""Rows under their names: as people read them on a terminal, or in a README."""

from collections.abc import Sequence

Row = dict[str, str]


def table(rows: Sequence[Row]) -> str:
    """Lay rows out under their names."""
    heads = {name: name.removesuffix("_bytes").replace("_", " ") for name in rows[0]}
    widths = {n: max(len(h), *(len(row[n]) for row in rows)) for n, h in heads.items()}
    return "".join(
        "  ".join(line[n].rjust(width) for n, width in widths.items()) + "\n"
        for line in [heads, *rows]
    )


def markdown(rows: Sequence[Row]) -> str:
    """Lay rows out as a table of Markdown, figures to the right."""
    names = list(rows[0])
    figures = [all(row[n][:1].isdigit() or not row[n] for row in rows) for n in names]
    lines = [names, ["---:" if right else "---" for right in figures]]
    lines += [[row[name] for name in names] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def cell(name: str, value: str | float) -> str:
    """Write a figure for people, bytes as MB."""
    if isinstance(value, int) and name.endswith("bytes"):
        return f"{value / (1 << 20):,.0f} MB"
    if isinstance(value, float):
        return f"{value:,.1f}" if value < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else value
