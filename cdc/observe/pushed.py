"""What the environment asks to be pushed by OTLP: the standard OTEL_* variables, read in one place.

Apart from `telemetry`, so that a daemon whom nobody asks for anything does not load an SDK for it.
"""

import os
from enum import StrEnum

from cdc.errors import SettingsError


class Signal(StrEnum):
    """A kind of telemetry, as the variables name it."""

    METRICS = "METRICS"
    TRACES = "TRACES"


def asked_for() -> frozenset[Signal]:
    """Return what is to be pushed. Raises SettingsError for a way that is not there."""
    return frozenset(signal for signal in Signal if _is_pushed(signal))


def _is_pushed(signal: Signal) -> bool:
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    exporter = os.environ.get(f"OTEL_{signal}_EXPORTER", "")
    endpoint = any(
        os.environ.get(f"OTEL_EXPORTER_OTLP_{middle}ENDPOINT") for middle in ("", f"{signal}_")
    )
    if exporter not in {"", "otlp", "none", "prometheus"}:
        raise SettingsError(
            f"OTEL_{signal}_EXPORTER={exporter} is not known here",
            hint="write otlp, or none; /metrics is there in any case (http.listen)",
        )
    asked = exporter == "otlp" or (exporter == "" and endpoint)
    protocol = os.environ.get(
        f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL",
        os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
    )
    if asked and protocol != "http/protobuf":
        raise SettingsError(
            f"OTLP is pushed over http/protobuf, not {protocol}",
            hint="set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf; its port is 4318 by default",
        )
    return asked
