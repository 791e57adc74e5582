"""Ways to write the path /secret, and what servers make of them."""

from __future__ import annotations

import re
from random import Random

from tests.support.paths import PIECES

#: What four servers compare with their locations; None where they refuse.
TABLE: dict[str, tuple[str | None, ...]] = {
    # raw: (nginx, Apache httpd, IIS, Kestrel)
    "/secret": ("/secret", "/secret", "/secret", "/secret"),
    "/%73ecret": ("/secret", "/secret", "/secret", "/secret"),
    "/SECRET": ("/SECRET", "/SECRET", "/secret", "/secret"),
    "//secret": ("/secret", "/secret", "/secret", "//secret"),
    "/x//../secret": ("/secret", "/secret", "/secret", "/x/secret"),
    "/x/../secret": ("/secret", "/secret", "/secret", "/secret"),
    "/x/%2e%2E/secret": ("/secret", "/secret", "/secret", "/secret"),
    "/x/%252e%252e/secret": (*["/x/%2e%2e/secret"] * 4,),
    "/x%2f..%2fsecret": ("/secret", None, "/secret", "/x%2f..%2fsecret"),
    "/secret%2Fx": ("/secret/x", None, "/secret/x", "/secret%2fx"),
    "/secret\\x": ("/secret\\x", "/secret\\x", "/secret/x", "/secret\\x"),
    "/secret%5Cx": ("/secret\\x", "/secret\\x", "/secret/x", "/secret\\x"),
    "/secret;x": ("/secret;x", "/secret;x", "/secret;x", "/secret;x"),
    "/secret./x": ("/secret./x", "/secret./x", "/secret/x", "/secret./x"),
    "/secret%20/x": ("/secret /x", "/secret /x", "/secret/x", "/secret /x"),
    "/secret::$DATA": (*["/secret::$DATA"] * 2, "/secret", "/secret::$data"),
    "/secret%00x": (None, None, "/secret", None),
    "/secret%0ax": ("/secret\nx", "/secret\nx", "/secret\nx", "/secret\nx"),
    "/secret%3Fx": ("/secret?x", "/secret?x", "/secret?x", "/secret?x"),
    "/secret%23x": ("/secret#x", "/secret#x", "/secret#x", "/secret#x"),
    "/secret%2523x": (*["/secret%23x"] * 4,),
    "/secret%u002fx": (None, None, "/secret/x", None),
    "/secret%c0%afx": (*["/secret\xc0\xafx"] * 2, "/secret/x", "/secret\xe0\xafx"),
    "/secret%ef%bc%8fx": (*["/secret\xef\xbc\x8fx"] * 2, "/secret/x", "/secret\xef\xbc\x8fx"),
    "/secret%zz": (None, None, None, None),
    "/../secret": (None, None, None, None),
}
SERVERS = ("nginx", "apache2", "IIS", "Kestrel")

#: Ways to write /secret, or something below it: those above, and more that somebody takes for it,
#: or two in a row.
SPELLINGS = [
    *TABLE,
    *("/%2573ecret", "/%25252573ecret", "/%u0073ecret", "/%ef%bd%93ecret", "/%c5%bfecret"),
    *("/se%00cret", "/se%0dcret", "/se%7fcret", "/se%c3%a9cret", "/se%ffcret", "/se%cret"),
    *("/secret%0d%0a", "/secret%2500", "/secret%253fx", "/secret%253bx/y", "/secret%u003bx"),
    *("/secret.;x/y", "/secret.%00x", "/secret%20.%20", "/%20secret", "/secret:$I30:$X/y"),
    *("/secret%e2%88%95x", "/secret%e0%80%afx", "/secret%f0%80%80%afx", "/secret%c1%9cx"),
    *("//h/secret", "/\\h/secret", "/%5c/h/secret", "///h//secret", "/x/..;/secret", "/x/.%00./y"),
    *("/x/..%5csecret", "/x/%c0%ae%c0%ae/secret", "/x/%ef%bc%8e%ef%bc%8e/secret", "/x/...//secret"),
    *("/%%37%33ecret", "/%2%35%37%33ecret", "/secret%%32%66x", "/%ef%bc%8573ecret", "/x/.%u002e/y"),
]


def made_of_pieces(count: int) -> list[str]:
    """Return paths made by chance, always the same, of what servers disagree about."""
    random = Random(1)
    made = (
        random.choice(["/", "/secret", "/x/"])
        + "".join(random.choice(PIECES) for _ in range(random.randint(0, 4)))
        for _ in range(count)
    )
    return [path for path in dict.fromkeys(made) if not re.search("[?\0-\x20\x7f]", path)]
