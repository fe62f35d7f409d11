"""Where settings come from, which one wins, and what is said of a wrong one."""

from pathlib import Path

import pytest

from cdc.errors import SettingsError
from cdc.settings import LoadedSettings, Setting, load_settings

SECRET = "postgresql://cdc:hunter2@db.example:5432/credit"


@pytest.fixture(autouse=True)
def _nothing_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shell's own directories are not what these tests are about."""
    for name in ("CREDENTIALS_DIRECTORY", "STATE_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)


def write(path: Path, text: str) -> Path:
    """Write a file and return its path."""
    path.write_text(text)
    return path


def shown(loaded: LoadedSettings, name: str) -> Setting:
    """A setting as `config show` has it."""
    (setting,) = [setting for setting in loaded.each() if setting.name == name]
    return setting


# Where they come from


def test_defaults_are_in_force_where_nothing_is_given() -> None:
    """The contract's defaults."""
    loaded = load_settings()
    source = loaded.settings.source
    assert (source.schemas, source.slot, source.publication) == (
        ["credit"],
        "cdc_credit",
        "cdc_credit",
    )
    assert source.plugin == "pgoutput"
    assert loaded.settings.target.idle_disconnect == 30
    assert loaded.origins == {}
    assert {setting.origin for setting in loaded.each()} == {"default"}


def test_a_file_sets_by_section(tmp_path: Path) -> None:
    """A section of the file is the first part of the name."""
    file = write(tmp_path / "cdc.toml", '[source]\nschemas = ["a", "b"]\n[apply]\nmax_rows = 7\n')
    loaded = load_settings(file)
    assert loaded.settings.source.schemas == ["a", "b"]
    assert loaded.settings.apply.max_rows == 7
    assert shown(loaded, "apply.max_rows") == Setting(
        "apply.max_rows", "7", str(file), "CDC_APPLY_MAX_ROWS"
    )
    assert shown(loaded, "apply.max_bytes").origin == "default"


def test_the_file_may_be_named_in_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CDC_CONFIG names it; --config, where given, is used instead."""
    named = write(tmp_path / "named.toml", '[source]\nslot = "named"\n')
    given = write(tmp_path / "given.toml", '[source]\nslot = "given"\n')
    monkeypatch.setenv("CDC_CONFIG", str(named))
    assert load_settings().settings.source.slot == "named"
    assert load_settings(given).settings.source.slot == "given"


def test_the_environment_sets_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """CDC_SECTION_NAME, the name with underscores of its own; lists as JSON."""
    monkeypatch.setenv("CDC_TARGET_IDLE_DISCONNECT", "2.5")
    monkeypatch.setenv("CDC_SOURCE_SCHEMAS", '["a", "b"]')
    loaded = load_settings()
    assert loaded.settings.target.idle_disconnect == 2.5
    assert loaded.settings.source.schemas == ["a", "b"]
    assert shown(loaded, "target.idle_disconnect").origin == "environment"


def test_credentials_are_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One file for each DSN, as systemd lays them out; the newline at the end is none of it."""
    write(tmp_path / "source.dsn", f"{SECRET}\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    loaded = load_settings()
    assert loaded.settings.source.require_dsn() == SECRET
    assert loaded.settings.target.dsn is None
    assert shown(loaded, "source.dsn").origin == "credentials"


def test_a_section_may_have_two_credentials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither takes the other's place."""
    write(tmp_path / "alerts.url", "https://alerts.example/hook\n")
    write(tmp_path / "alerts.key", "sixteen characters\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    alerts = load_settings().settings.alerts
    assert alerts.url is not None
    assert alerts.key is not None


def test_the_environment_wins_over_credentials_and_these_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each layer overrides names, not whole sections."""
    text = '[source]\ndsn = "file"\nslot = "from_file"\n[target]\ndsn = "file"\n'
    file = write(tmp_path / "cdc.toml", text)
    write(tmp_path / "source.dsn", "credentials")
    write(tmp_path / "target.dsn", "credentials")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("CDC_SOURCE_DSN", "environment")
    loaded = load_settings(file)
    assert loaded.settings.source.require_dsn() == "environment"
    assert loaded.settings.target.require_dsn() == "credentials"
    assert loaded.settings.source.slot == "from_file"
    assert loaded.origins == {
        "source.dsn": "environment",
        "target.dsn": "credentials",
        "source.slot": str(file),
    }


def test_the_state_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The setting, else systemd's directory, else one in the home directory."""
    monkeypatch.setenv("HOME", "/home/someone")
    assert load_settings().settings.state_dir == Path("/home/someone/.local/state/cdc")
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/cdc")
    assert load_settings().settings.state_dir == Path("/var/lib/cdc")
    monkeypatch.setenv("CDC_STATE_DIR", str(tmp_path))
    loaded = load_settings()
    assert loaded.settings.state_dir == tmp_path
    assert shown(loaded, "state.dir") == Setting(
        "state.dir", str(tmp_path), "environment", "CDC_STATE_DIR"
    )


def test_the_key_of_the_spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A credential, as the DSNs are; shown as asterisks."""
    write(tmp_path / "spool.key", "a key of more than sixteen letters\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("CDC_SPOOL_MAX_BYTES", "1000000")
    loaded = load_settings()
    key = loaded.settings.spool.key
    assert key is not None
    assert key.get_secret_value() == "a key of more than sixteen letters"
    assert set(shown(loaded, "spool.key").value) == {"*"}
    assert loaded.origins == {"spool.key": "credentials", "spool.max_bytes": "environment"}


def test_where_alerts_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two credentials of one section, masked; an empty URL is none."""
    write(tmp_path / "alerts.url", "https://hooks.example/hunter2\n")
    write(tmp_path / "alerts.key", "a key of more than sixteen letters\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    loaded = load_settings()
    alerts = loaded.settings.alerts
    assert alerts.url is not None
    assert alerts.url.get_secret_value() == "https://hooks.example/hunter2"
    assert alerts.key is not None
    assert {set(shown(loaded, f"alerts.{name}").value) == {"*"} for name in ("url", "key")} == {
        True
    }
    monkeypatch.setenv("CDC_ALERTS_URL", "")
    assert load_settings().settings.alerts.url is None


# What is wrong


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("CDC_SAUCE_SLOT", "CDC_SAUCE_SLOT is not a setting"),
        ("CDC_SOURCE", "CDC_SOURCE is not a setting"),
        ("CDC_SLOT", "CDC_SLOT is not a setting"),
        ("CDC_APPLY_MAX_ROW", "CDC_APPLY_MAX_ROW (apply.max_row) is not a setting"),
    ],
)
def test_a_name_in_the_environment_that_is_none_is_refused(
    name: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A misspelt limit must not be a limit that does not hold."""
    monkeypatch.setenv(name, "hunter2")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert said in caught.value.message
    assert "hunter2" not in caught.value.message


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("CDC_APPLY_FLUSH_INTERVAL", "-1", "(apply.flush_interval) has to be at least 0"),
        ("CDC_APPLY_FLUSH_INTERVAL", "hunter2", "(apply.flush_interval) has to be a number"),
        ("CDC_SOURCE_SCHEMAS", "hunter2", "(source.schemas) has to be a list"),
        ("CDC_SOURCE_SCHEMAS", '{"hunter2": 1}', "(source.schemas) has to be a list"),
        ("CDC_SOURCE_ON_SLOT_LOST", "hunter2", "(source.on_slot_lost) has to be 'halt' or"),
    ],
)
def test_a_wrong_value_in_the_environment_is_refused(
    name: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The variable is named as it was given, and what it may be."""
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert f"{name} {said}" in caught.value.message
    assert "hunter2" not in caught.value.message + caught.value.hint


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[sauce]\nslot = "a"', "sauce is not a setting"),
        ('[source]\nslott = "a"', "FILE is not a setting"),
        ('source = "hunter2"', "source is no section"),
        ("[source]\nslot = hunter2", "at line 2"),
        (
            '[source]\nslot = "Hunter 2"',
            "(CDC_SOURCE_SLOT) in FILE has to be a-z, 0-9 and _",
        ),
        ('[source]\nplugin = "hunter2"', "FILE has to be 'pgoutput' or 'wal2json'"),
        ("[source]\nschemas = []", "source.schemas (CDC_SOURCE_SCHEMAS) in FILE must not be empty"),
        ('[source]\ndsn = ["hunter2"]', "source.dsn (CDC_SOURCE_DSN) in FILE has to be text"),
        ('[apply]\nmax_rows = "hunter2"', "FILE has to be a whole number"),
        ("[apply]\nmax_rows = 0", "(CDC_APPLY_MAX_ROWS) in FILE has to be at least 1"),
        ('[spool]\nkey = "hunter2"', "FILE has to have at least 16 characters"),
        ("[spool]\nmax_bytes = -1", "(CDC_SPOOL_MAX_BYTES) in FILE has to be at least 0"),
        ('[alerts]\nurl = "hunter2"', "FILE cannot be used: write it as https://"),
        ('[alerts]\nurl = "ftp://hunter2/x"', "FILE cannot be used: write it as https://"),
        ('[alerts]\nurl = "https://x:hunter2/x"', "FILE cannot be used: write it as https://"),
        ('[alerts]\nurl = "https://[hunter2"', "FILE cannot be used: write it as https://"),
        (
            '[alerts]\nkey = "hunter2"',
            "FILE has to have at least 16 characters",
        ),
        ("[snapshot]\nworkers = 99", "(CDC_SNAPSHOT_WORKERS) in FILE has to be at most 32"),
        ('[http]\nlisten = "hunter2"', "FILE has to be host and port, such as 127.0.0.1:9464"),
        ('[tables."credit"]\n', 'tables."credit" in FILE cannot be used: write'),
        ('[tables."a.b"]\ndeletes = "hunter2"', 'tables."a.b".deletes in FILE has to be'),
        (
            "[target]\nidle_disconnect = 0",
            "FILE has to be more than 0",
        ),
    ],
)
def test_a_wrong_file_is_refused(text: str, said: str, tmp_path: Path) -> None:
    """The error names the setting, or the line, and what it should be; never what it was."""
    file = write(tmp_path / "cdc.toml", text)
    with pytest.raises(SettingsError) as caught:
        load_settings(file)
    assert said.replace("FILE", str(file)) in caught.value.message
    assert "hunter" not in caught.value.message.lower()
    assert caught.value.hint


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    """Nobody wants to mend a file one error at a time."""
    file = write(tmp_path / "cdc.toml", "[apply]\nmax_rows = 0\nmax_bytes = 0\n")
    with pytest.raises(SettingsError, match=r"apply\.max_rows .*; apply\.max_bytes "):
        load_settings(file)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """A file that was named is meant to be read."""
    with pytest.raises(SettingsError, match=r"cannot read .*: No such file"):
        load_settings(tmp_path / "cdc.toml")


def test_a_credential_that_cannot_be_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory in its place, say."""
    (tmp_path / "source.dsn").mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    with pytest.raises(SettingsError, match="cannot read the credential"):
        load_settings()


# Secrets


def test_a_missing_dsn_says_how_to_set_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty one is a missing one."""
    monkeypatch.setenv("CDC_TARGET_DSN", "")
    settings = load_settings().settings
    with pytest.raises(SettingsError, match="the source's DSN") as caught:
        settings.source.require_dsn()
    assert "CDC_SOURCE_DSN=" in caught.value.hint
    with pytest.raises(SettingsError, match="the target's DSN"):
        settings.target.require_dsn()


def test_a_secret_shows_as_asterisks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither `config show` nor a log of the settings has a password in it."""
    monkeypatch.setenv("CDC_SOURCE_DSN", SECRET)
    loaded = load_settings()
    assert set(shown(loaded, "source.dsn").value) == {"*"}
    assert "hunter2" not in repr(loaded)
    assert "hunter2" not in str(loaded.settings)
