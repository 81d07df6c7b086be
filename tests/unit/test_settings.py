"""Settings: where they come from, how they fit together, what a wrong one says."""

from __future__ import annotations

import pytest

from cosygate.settings import load, to_environment, unknown_variables


@pytest.fixture(autouse=True)
def _no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [n for n in os.environ if n.startswith("COSYGATE_")]:
        monkeypatch.delenv(name)


def test_options_stand_over_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COSYGATE_PORT", "9000")
    assert load().port == 9000
    assert load(port=9001, host=None).port == 9001


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("PORT", "x", "COSYGATE_PORT: "),
        ("WORKERS", "0", "COSYGATE_WORKERS: "),
        ("DURABILITY", "maybe", "COSYGATE_DURABILITY: "),
        ("TLS_CERT", "/tmp/x.pem", "tls_cert and tls_key go together"),
    ],
)
def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str) -> None:
    monkeypatch.setenv(f"COSYGATE_{name}", value)
    with pytest.raises(ValueError, match=said):
        load()


def test_a_secret_is_never_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COSYGATE_JWT_SECRET", "s3cret-s3cret-s3cret-s3cret-s3cret")
    monkeypatch.setenv("COSYGATE_PORT", "x")
    with pytest.raises(ValueError) as refused:
        load()
    assert "s3cret" not in str(refused.value)
    monkeypatch.delenv("COSYGATE_PORT")
    assert "s3cret" not in repr(load())


def test_children_find_the_same_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(port=1234, durability="process", open_uploads=7)
    environment = to_environment(settings)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert load() == settings


def test_misspelt_variables_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COSYGATE_DURABILTY", "disk")
    monkeypatch.setenv("COSYGATE_TOKEN", "t")
    assert unknown_variables() == ["COSYGATE_DURABILTY"]
