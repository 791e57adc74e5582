"""Where on the proxy the references and cookies of a target's response lead."""

from __future__ import annotations

import re
from urllib.parse import urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authproxy.http1.references import TargetOnProxy, without_dot_segments
from authproxy.http1.urls import TargetURL, path_of
from authproxy.settings.match import Match

WHOLE = TargetOnProxy(TargetURL.parse("t.example.com"))
ROUTED = TargetOnProxy(TargetURL.parse("t.example.com"), "/query")
BASED = TargetOnProxy(TargetURL.parse("t.example.com/base?v=1"))
BOTH = TargetOnProxy(TargetURL.parse("t.example.com/base"), "/query")
PORT = TargetOnProxy(TargetURL.parse("http://[::1]:9090", allow_http=True))

#: What the target says, on its own, to a request for /base/a/b, and what the client gets.
REFERENCES = [
    # With the target's own authority, in whatever way it is written.
    (WHOLE, "https://t.example.com/graph?a=1#b", "/graph?a=1#b"),
    (WHOLE, "HTTPS://T.Example.com.:443/graph", "/graph"),
    (WHOLE, "https://t.example.com", "/"),
    (WHOLE, "https://t.example.com?x", "/?x"),
    (WHOLE, "//t.example.com/graph", "/graph"),
    (WHOLE, "https://t.example.com/a%2Fb%20c", "/a%2Fb%20c"),
    (PORT, "http://[0:0::1]:9090/graph", "/graph"),
    (ROUTED, "https://t.example.com/graph", "/query/graph"),
    (BASED, "https://t.example.com/base/graph?v=1&x=2", "/graph?x=2"),
    (BASED, "https://t.example.com/base/graph?v=1#f", "/graph#f"),
    (BASED, "https://t.example.com/base/graph?v=10", "/graph?v=10"),
    (BASED, "https://t.example.com/base", "/"),
    (BOTH, "https://t.example.com/base/graph", "/query/graph"),
    # Relative ones.
    (WHOLE, "/graph", "/graph"),
    (WHOLE, "graph?x", "graph?x"),
    (WHOLE, "../graph", "../graph"),
    (ROUTED, "/graph", "/query/graph"),
    (ROUTED, "graph?x", "/query/base/a/graph?x"),
    (BOTH, "/base/graph", "/query/graph"),
    (BOTH, "graph", "/query/a/graph"),
    (BOTH, "../graph", "/query/graph"),
    (BOTH, "?x", "?x"),
    (BOTH, "#x", "#x"),
    (BOTH, "", ""),
    # What the proxy does not lead to: the URL that the target meant.
    (BOTH, "/login", "https://t.example.com/login"),
    (BOTH, "../../login", "https://t.example.com/login"),
    (BOTH, "/based", "https://t.example.com/based"),
    (BOTH, "/base/", "https://t.example.com/base/"),
    (BOTH, "https://t.example.com/login", "https://t.example.com/login"),
    # Other origins.
    *(
        (each, other, other)
        for each in (WHOLE, ROUTED, BOTH)
        for other in (
            "https://elsewhere.example/base/a%2fb?x",
            "//evil.example/base",
            "http://t.example.com/base",
            "https://t.example.com:8443/base",
            "https://t.example.com@evil.example/base",
            "https://user@t.example.com/base",
            "https://t.example.com\\@evil.example/base",
            "https:///base",
            "https:/base",
            "https://[::1/base",
            "mailto:a@t.example.com",
        )
    ),
    # What must not become the name of another host.
    (WHOLE, "https://t.example.com//evil.example/x", "/.//evil.example/x"),
    (WHOLE, "https://t.example.com/\\evil.example/x", "/./\\evil.example/x"),
    (BASED, "https://t.example.com/base//evil.example", "/.//evil.example"),
    (WHOLE, "https://t.example.com/\t/evil.example", "https://t.example.com/\t/evil.example"),
]


@pytest.mark.parametrize(("target", "value", "expected"), REFERENCES)
def test_a_reference_leads_where_the_target_meant(
    target: TargetOnProxy, value: str, expected: str
) -> None:
    assert target.reference(value, "/base/a/b?v=1") == expected


REFRESHES = [
    ("5", "5"),
    ("5; url=https://t.example.com/graph", "5; url=/query/graph"),
    ("0;URL='https://t.example.com/graph' ; x", "0;URL='/query/graph' ; x"),
    ('1.5, url = "/graph"', '1.5, url = "/query/graph"'),
    ('1; url="/graph', '1; url="/query/graph'),
    ("5; /graph", "5; /query/graph"),
    ("5; url=https://elsewhere.example/", "5; url=https://elsewhere.example/"),
]


@pytest.mark.parametrize(("value", "expected"), REFRESHES)
def test_a_refresh_leads_there_too(value: str, expected: str) -> None:
    assert ROUTED.refresh(value, "/a") == expected


LINKS = [
    ("<https://t.example.com/a?page=2>; rel=next", "</query/a?page=2>; rel=next"),
    ('</a>; rel="next", </b>;rel=last', '</query/a>; rel="next", </query/b>;rel=last'),
    (
        '<a>; title="</b>, \\"</c>"; rel=x, </d>',
        '</query/a>; title="</b>, \\"</c>"; rel=x, </query/d>',
    ),
    ("<https://elsewhere.example/a>; rel=next", "<https://elsewhere.example/a>; rel=next"),
    ("<>; rel=self", "<>; rel=self"),
    # Of no form: as it is.
    ("https://t.example.com/a", "https://t.example.com/a"),
    ("</a; rel=next", "</a; rel=next"),
    ('"</a>', '"</a>'),
]


@pytest.mark.parametrize(("value", "expected"), LINKS)
def test_links_lead_there_too(value: str, expected: str) -> None:
    assert ROUTED.link(value, "/") == expected


OPERATIONS = [
    ("https://t.example.com/operations/1?v=1", "http://p.example.com/query/operations/1?v=1"),
    ("/operations/1", "http://p.example.com/query/operations/1"),
    ("https://t.example.com//x", "http://p.example.com/query//x"),
    ("https://elsewhere.example/operations/1", "https://elsewhere.example/operations/1"),
    ("//elsewhere.example/operations/1", "//elsewhere.example/operations/1"),
    ("", ""),
]


@pytest.mark.parametrize("name", ["Operation-Location", "azure-asyncoperation"])
@pytest.mark.parametrize(("value", "expected"), OPERATIONS)
def test_the_url_of_an_operation_stays_a_whole_url(name: str, value: str, expected: str) -> None:
    fields = ROUTED.returned([(name, value)], "/", lambda: "http://p.example.com")
    assert fields == [(name, expected)]


COOKIES = [
    (WHOLE, "a=b; Path=/x; Secure; HttpOnly", "a=b; Path=/x; Secure; HttpOnly"),
    (WHOLE, "a=b; Domain=t.example.com; Path=/", "a=b; Path=/"),
    (WHOLE, "a=b;domain=.T.EXAMPLE.COM", "a=b"),
    (WHOLE, "a=b; Domain=example.com", "a=b; Domain=example.com"),
    (WHOLE, 'a="Domain=t.example.com"; Max-Age=5', 'a="Domain=t.example.com"; Max-Age=5'),
    (ROUTED, "a=b; Path=/", "a=b; Path=/query"),
    (ROUTED, "a=b;path = /x/;Secure", "a=b; path=/query/x/;Secure"),
    (ROUTED, "a=b; Path=", "a=b; Path="),
    (ROUTED, "a=b; Path=x", "a=b; Path=x"),
    (ROUTED, "a=b", "a=b"),
    (ROUTED, "__Host-a=b; Path=/; Secure", "__Host-a=b; Path=/; Secure"),
    (BASED, "a=b; Path=/", "a=b; Path=/"),
    (BASED, "a=b; Path=/base", "a=b; Path=/"),
    (BASED, "a=b; Path=/base/", "a=b; Path=/"),
    (BASED, "a=b; Path=/base/x", "a=b; Path=/x"),
    (BOTH, "a=b; Path=/base/x", "a=b; Path=/query/x"),
    (BOTH, "a=b; Path=/", "a=b; Path=/query"),
    (BOTH, "a=b; Path=/other", "a=b; Path=/query/other"),
]


@pytest.mark.parametrize(("target", "value", "expected"), COOKIES)
def test_a_cookie_comes_back_to_the_same_target(
    target: TargetOnProxy, value: str, expected: str
) -> None:
    assert target.cookie(value) == expected


def test_order_repeats_and_all_other_fields_are_kept() -> None:
    own = "https://t.example.com/x"
    fields = [("set-cookie", "a=b; Path=/"), ("ETag", own), ("LOCATION", own), ("Set-Cookie", "c")]
    assert ROUTED.returned(fields, "/", lambda: "http://proxy.example.com") == [
        ("set-cookie", "a=b; Path=/query"),
        ("ETag", own),
        ("LOCATION", "/query/x"),
        ("Set-Cookie", "c"),
    ]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/a/b/c/./../../g", "/a/g"),
        ("/..", "/"),
        ("/a/..", "/"),
        ("/a/.", "/a/"),
        ("/.a/..b", None),
    ],
)
def test_dot_segments_are_removed(path: str, expected: str | None) -> None:
    assert without_dot_segments(path) == (expected or path)


HOSTS = ["t.example.com", "evil.example", "//t.example.com", "https://t.example.com", "[::1]"]
PIECES = st.sampled_from(
    [*"/\\.?#:@%;&=ab \t", "//", "/..", "/./", "base", "query", "v=1", "https:", "%2e", *HOSTS]
)
VALUES = st.lists(PIECES, max_size=12).map("".join)
#: Paths of the target's own, and prefixes that routes strip.
PLACES = st.builds(
    lambda base, prefix: TargetOnProxy(TargetURL.parse(f"t.example.com{base}"), prefix),
    st.sampled_from(["", "/", "/base", "/base/", "/a/b", "?v=1", "/base?v=1"]),
    st.sampled_from(["", "/query", "/a/b"]),
)

#: Of a URI reference (RFC 3986 appendix B).
AUTHORITY_AND_PATH = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*:)?(//[^/?#]*)?([^?#]*)")


@given(PLACES, VALUES)
def test_whoever_follows_comes_to_what_the_target_meant(place: TargetOnProxy, value: str) -> None:
    """Followed as clients do, and forwarded as the proxy does: no other path, no other host."""
    requested = "/base/a/b"
    found = place.reference(value, requested)
    if found == value or found.startswith("https://t.example.com/"):
        return
    assert found.startswith("/")
    assert not found.startswith(("//", "/\\"))
    followed = urljoin("http://proxy.example.com/x/y", found)
    assert urlsplit(followed).netloc == "proxy.example.com"
    asked = without_dot_segments(path_of(found.partition("#")[0]))
    match = Match(path=place.prefix or "/", strip_path=bool(place.prefix))
    assert match.covers(asked)
    forwarded = path_of(place.target.join(match.outbound(asked)))
    authority, meant = AUTHORITY_AND_PATH.match(value).groups()  # type: ignore[union-attr]
    if not meant.startswith("/"):
        meant = f"/{meant}" if authority else f"/base/a/{meant}"
    assert forwarded == without_dot_segments(meant)


@given(PLACES, st.lists(VALUES.filter(lambda value: not set(value) & set("<>"))))
def test_each_reference_of_links_is_returned_as_one_alone(
    place: TargetOnProxy, values: list[str]
) -> None:
    def links(references: list[str]) -> str:
        return ", ".join(f'<{each}>; title="</x>"' for each in references)

    assert place.link(links(values), "/base/a/b") == links(
        [place.reference(value, "/base/a/b") for value in values]
    )


@given(PLACES, VALUES)
def test_an_absolute_url_elsewhere_is_untouched(place: TargetOnProxy, rest: str) -> None:
    for other in ("https://evil.example/", "http://t.example.com/", "ftp://t.example.com/"):
        assert place.reference(other + rest, "/base/a/b") == other + rest


@given(PLACES, VALUES, VALUES)
def test_a_cookie_keeps_all_but_path_and_domain(
    place: TargetOnProxy, value: str, path: str
) -> None:
    pair = f"a={value.replace(';', '')}"
    path = "/" + path.replace(";", "").strip()
    changed = place.cookie(f"{pair}; Path={path}; Secure; Domain=t.example.com")
    first, attribute, last = changed.split(";")
    assert (first, last) == (pair, " Secure")
    assert attribute.startswith(f" Path={place.prefix}")
