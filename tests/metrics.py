"""The metrics as Prometheus shows them, from where they are declared; and docs/metrics.md.

`python -m tests.metrics` writes the page; `make docs` does the same.
"""

import re

from cdc.observe.instrument import Instrument, Kind
from cdc.observe.instruments import INSTRUMENTS
from tests.servers import CHECKOUT

PAGE = CHECKOUT / "docs" / "metrics.md"
ALERTS = CHECKOUT / "docker" / "prometheus" / "alerts.yaml"
DASHBOARD = CHECKOUT / "docker" / "grafana" / "cdc.json"

_UNITS = {"By": "_bytes", "s": "_seconds"}

_HEAD = """\
# Metrics

What `/metrics` serves (`http.listen`), and what is pushed by OTLP over HTTP where
`OTEL_EXPORTER_OTLP_ENDPOINT`, or `OTEL_METRICS_EXPORTER=otlp`, asks for it. A scrape is answered
from memory: it asks no database, so none wakes Neon. `OTEL_SDK_DISABLED=true` turns off what is
pushed; `/metrics` stays, unless `http.listen` is empty.

By OTLP the names are those with dots. Counters begin at nought with each process. A metric is
absent where nobody knows its value, as the lag of a daemon that does not stream. All of them come
from `cdc/observe/instruments.py`, and this page too, by `make docs`.

[Rules](../docker/prometheus/alerts.yaml) alert on them ([what each alert means](operating.md)), and
[a dashboard](../docker/grafana/cdc.json) draws them.
"""


def prometheus_name(instrument: Instrument) -> str:
    """Give the name of a metric in the text that Prometheus reads."""
    total = "_total" if instrument.kind is Kind.COUNTER else ""
    return instrument.name.replace(".", "_") + _UNITS.get(instrument.unit, "") + total


def series_names(instrument: Instrument) -> list[str]:
    """Give the names of the series of a metric."""
    name = prometheus_name(instrument)
    if instrument.kind is Kind.HISTOGRAM:
        return [f"{name}_bucket", f"{name}_sum", f"{name}_count"]
    return [name]


def known_names() -> set[str]:
    """Give the names of all series."""
    return {name for instrument in INSTRUMENTS for name in series_names(instrument)}


def names_in(expression: str) -> set[str]:
    """Give the names of the daemon's series in an expression of PromQL."""
    return set(re.findall(r"\bcdc_\w+", expression))


def page() -> str:
    """Give the page."""
    lines = [
        _HEAD,
        "| Prometheus | OpenTelemetry | kind | unit | labels | |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| `{prometheus_name(i)}` | `{i.name}` | {i.kind} | {i.unit} |"
        f" {', '.join(i.attributes)} | {i.description} |"
        for i in INSTRUMENTS
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
