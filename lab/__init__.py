"""Programs that measure, wear down and picture the proxy: no tests, and not shipped."""
