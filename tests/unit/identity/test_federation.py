"""For what a token has to be that proves an application."""

from __future__ import annotations

import pytest

from authproxy.identity.federation import exchange_scope


@pytest.mark.parametrize(
    ("authority", "scope"),
    [
        (None, "api://AzureADTokenExchange/.default"),
        ("https://login.microsoftonline.com", "api://AzureADTokenExchange/.default"),
        ("https://login.microsoftonline.us", "api://AzureADTokenExchangeUSGov/.default"),
        ("https://login.chinacloudapi.cn", "api://AzureADTokenExchangeChina/.default"),
        ("https://login.partner.microsoftonline.cn", "api://AzureADTokenExchangeChina/.default"),
    ],
)
def test_each_cloud_has_its_own_exchange(authority: str | None, scope: str) -> None:
    assert exchange_scope(authority) == scope
