"""The README's tables are what they are made of: the settings, and a run of the bench."""

from cdc.settings import Settings, TableSettings
from tests.bench.figures import Document
from tests.bench.summary import summary
from tests.servers import CHECKOUT


def test_settings_table_is_the_model() -> None:
    """Each setting stands in the README with its environment variable, default and meaning."""
    readme = (CHECKOUT / "README.md").read_text()
    for line in settings_table():
        assert line in readme, f"the README lacks: {line}"


def test_figures_are_those_of_the_kept_run() -> None:
    """What the README says of speed is the summary of the run whose figures are kept."""
    kept = Document.read(sorted((CHECKOUT / "docs" / "bench").glob("*.json")))
    assert summary(kept) in (CHECKOUT / "README.md").read_text()


def settings_table() -> list[str]:
    """Give the lines that the README has to hold."""
    lines = []
    for section_name, section in Settings.model_fields.items():
        assert section.annotation is not None
        of_tables = section_name == "tables"
        model = TableSettings if of_tables else section.annotation
        for name, field in model.model_fields.items():
            setting = f'tables."credit.x".{name}' if of_tables else f"{section_name}.{name}"
            variable = "" if of_tables else f"CDC_{section_name}_{name}".upper()
            default = "" if field.default is None else f"`{field.default}`"
            lines.append(f"| {setting} | {variable} | {default} | {field.description} |")
    return lines


if __name__ == "__main__":
    print("\n".join(settings_table()))  # noqa: T201  # to be pasted into the README
