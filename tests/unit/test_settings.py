"""Settings: one file, checked as a whole, errors that name the key."""

from pathlib import Path

import pytest

from notfallserver.server.settings import load_settings
from notfallserver.wire.errors import NotfallError


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "notfall.toml"
    path.write_text(text)
    return path


def test_the_file_is_read_and_the_environment_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATOR", "tcg")
    monkeypatch.setenv("LISTEN_PORT", "1")
    path = write(tmp_path, 'lan_bridge = "br7"\n[guard]\nwitnesses = ["10.0.0.1"]\n')
    monkeypatch.setenv("NOTFALL_CONFIG", str(path))
    settings = load_settings()
    assert (settings.lan_bridge, settings.guard.witnesses) == ("br7", ("10.0.0.1",))
    assert (settings.accelerator, settings.listen_port) == ("kvm", 8443)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("lan_brigde = 'br0'", "key 'lan_brigde' is not known; allowed are accelerator"),
        (
            "[guard]\nwitness = []",
            "key 'guard.witness' is not known; allowed are ignored_networks, witnesses",
        ),
        ("listen_port = 70000", "key 'listen_port'"),
        ("accelerator = 'xen'", "'kvm' or 'tcg'"),
        ("listen_port = ", "it is no TOML"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(NotfallError) as refused:
        load_settings(write(tmp_path, text))
    assert refused.value.code == "bad-settings"
    assert told in refused.value.cause


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NotfallError) as refused:
        load_settings(tmp_path / "none.toml")
    assert "notfall server init" in refused.value.remedy
