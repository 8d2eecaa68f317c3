"""Versions and ranges in conda's terms."""

from __future__ import annotations

import pytest
from packaging.specifiers import SpecifierSet

from slipway.channel.versions import conda_range, conda_version, conda_version_of_deb


@pytest.mark.parametrize(
    ("debian", "conda"),
    [
        ("1:1.2.13.dfsg-1", "1.2.13"),
        ("3.0.22-1~deb12u2", "3.0.22"),
        ("2026f-0+deb12u1", "2026f"),
        ("1.3.3+ds-1", "1.3.3"),
        ("3.11.2-6+deb12u9", "3.11.2"),
    ],
)
def test_debian_version_loses_epoch_revision_and_marks(debian: str, conda: str) -> None:
    """The upstream version alone is the package's version."""
    assert conda_version_of_deb(debian) == conda


@pytest.mark.parametrize(
    ("pep440", "conda"),
    [
        (">=1.4,<2", "<2,>=1.4"),
        ("~=1.4.2", ">=1.4.2,1.4.*"),
        ("==2.13.0+cpu", "==2.13.0"),
        ("==1.2.*", "1.2.*"),
        ("!=1.5", "!=1.5"),
        ("", ""),
    ],
)
def test_range_keeps_its_meaning(pep440: str, conda: str) -> None:
    """Every operator of PEP 440 has its counterpart."""
    assert conda_range(SpecifierSet(pep440)) == conda


def test_local_version_part_is_dropped() -> None:
    """conda-forge's pytorch is 2.13.0, whatever the wheel's build is called."""
    assert conda_version("2.13.0+cpu") == "2.13.0"
