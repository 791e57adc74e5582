"""What Apache does by itself, as data: docs/apache.md tells the same, row by row.

`pytest tests/e2e --server apache` runs the tests of `authproxy serve` against
Apache. A test that meets one of these differences has to fail there, or the
difference is none; it is not run where it could only wait in vain.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest

#: The files of tests/e2e that are about what passes through, whatever serves.
COVERED = (
    "test_admission",
    "test_environment",
    "test_hostile_clients",
    "test_logs",
    "test_memory",
    "test_methods",
    "test_probes",
    "test_prometheus",
    "test_remote_write",
    "test_replay",
    "test_request_bodies",
    "test_request_headers",
    "test_request_target",
    "test_responses",
    "test_target_faults",
    "test_tokens",
    "test_truncation",
)

#: The others, and why they are not for Apache.
NOT_COVERED = {
    "test_bounds": "about the limits of `authproxy serve`",
    "test_listening_tls": "about the TLS of `authproxy serve`: here Apache has its own",
    "test_identities": "how tokens are fetched does not depend on who serves",
    "test_identity_endpoints": "how tokens are fetched does not depend on who serves",
    "test_debug": "METRICS_PORT has no effect under Apache",
    "test_dashboard": "about METRICS_PORT's metrics",
    "test_full_disk": "about where `authproxy serve` keeps bodies",
    "test_harness": "about the tests themselves",
    "test_hostile_targets": "how answers are read does not depend on who serves",
    "test_manifests": "about Kubernetes",
    "test_newer_programs": "what senders do with a response does not depend on who serves",
    "test_metrics_port": "METRICS_PORT has no effect under Apache",
    "test_metrics_prometheus": "METRICS_PORT has no effect under Apache",
    "test_preflight": "who may come in is decided alike, wherever requests come from",
    "test_redirects": "where a redirect leads does not depend on who serves",
    "test_refusals": "about what `authproxy serve` refuses by itself: here Apache does",
    "test_reload": "SIGHUP is for `authproxy serve`: here Apache reloads",
    "test_routes": "which route a request takes does not depend on who serves",
    "test_routes_before_servers": "which route a request takes does not depend on who serves",
    "test_scale": "about the queue and the connections of `authproxy serve`",
    "test_secrets": "plants secrets in the files of `authproxy serve` and of its commands",
    "test_signed_callers": "who may come in is decided alike, wherever requests come from",
    "test_early_responses": "how requests are sent does not depend on who serves",
    "test_target_addresses": "how connections are opened does not depend on who serves",
    "test_stale_connections": "how connections are kept does not depend on who serves",
    "test_status": "METRICS_PORT has no effect under Apache",
    "test_status_browser": "METRICS_PORT has no effect under Apache",
    "test_smuggling": "about authproxy's own reading of requests: here Apache reads them",
    "test_predecessors": "starts `authproxy serve` from the predecessors' environment",
    "test_check_hostile_targets": "about `authproxy check`",
    "test_vital_threads": "about the threads of `authproxy serve`",
    "test_quoted_tokens": "about what errors and log lines say of secrets, whoever serves",
    "test_unsolicited_responses": "how answers are read does not depend on who serves",
    "test_telemetry_export": "what is exported does not depend on who serves",
    "test_telemetry_faults": "about METRICS_PORT and the signals of `authproxy serve`",
    "test_check_routes": "starts `authproxy check`, which no server runs",
    "test_cli": "about the commands, and `authproxy serve` among them",
    "test_demo": "about `authproxy demo`",
    "test_journal": "about the standard error of `authproxy serve`: here Apache logs",
    "test_leaving_clients": "about the main loop of `authproxy serve`",
    "test_odd_files": "how settings are read does not depend on who serves",
    "test_serve": "about `authproxy serve` as a process",
    "test_service_manager": "about `authproxy serve` under systemd",
    "test_shell_manners": "about the command line",
    "test_socket_activation": "about the sockets of `authproxy serve`",
    "test_tunnels": "Apache gives no connection away: test_responses has that",
    "test_websocket": "Apache gives no connection away: test_responses has that",
    "test_telemetry_embedded": "runs in a process of its own, whoever serves",
    "test_telemetry_off": "runs in a process of its own, whoever serves",
    "test_unread_log": "about the standard error of `authproxy serve`: here Apache logs",
    "test_workers": "about the processes of `authproxy serve`: here Apache starts them",
    "test_wsgi": "drives the WSGI module itself, as any server would",
    "test_check": "about `authproxy check`",
    "test_descriptors": "about the connections of `authproxy serve`",
    "test_forked_log": "about the log by itself, whoever serves",
    "test_identity_tools": "how tokens are fetched does not depend on who serves",
    "test_path_readings": "about the models that the tests have of servers",
    "test_python_output": "about the log by itself, whoever serves",
}

#: Tests of the covered files that would show nothing about Apache, and take their time: each
#: starts a server of its own.
NOT_ABOUT_APACHE = (
    # Restarts, told by Prometheus: tests/deploy/apache/test_reload.py has those.
    r"test_prometheus::test_(samples_arrive|no_sample_is_lost_to_a_restart|a_plain_pass).*",
    # How the target is reached.
    r"test_environment::(?!.*(https_proxy_is|netrc|cookies|unix_socket)).*",
    r"test_target_faults::test_(a_name_that|an_unknown_authority|a_certificate|a_target_without).*",
    # How tokens are fetched and renewed, and what comes of a 401.
    r"test_tokens::(?!.*first_token.*(silent|failing)).*",
    r"test_replay::.*(401|challenge|renew|claims).*",
    # Files that are copied for Apache's user, METRICS_PORT.
    r"test_admission::test_(a_file_of_tokens|tokens_are_exchanged|refusals_are_counted).*",
    r"test_admission::test_(a_token_file_that_is_half|a_pipe_in_place).*",
    # What Apache sends on for those who have gone would come among the next test's requests:
    # tests/deploy/apache/test_mod_wsgi.py has this.
    r"test_hostile_clients::test_clients_that_go_away.*\[whole.*",
    # Which lines are logged; that they arrive as they are is about Apache.
    r"test_logs::test_(queries_can|no_secret|the_settings|a_higher_level|each_request_has).*",
    r"test_logs::test_(the_access_log_can|failures_that_repeat|opentelemetrys_names).*",
)

#: What mod_wsgi-express is tried with: the same module, newer, and another configuration.
EXPRESS = (
    "test_methods",
    "test_probes",
    "test_request_bodies",
    "test_request_target",
    "test_request_headers",
    "test_responses",
    "test_truncation",
)


@dataclass(frozen=True)
class Difference:
    """One thing that Apache does otherwise.

    `what` and `why` are the row of docs/apache.md; `tests` are patterns of the
    tests that meet it (file::test[parameters]), `not_run` of those that meet it
    but by chance, or only after waiting for what does not come.
    """

    what: str
    why: str
    tests: tuple[str, ...] = ()
    not_run: tuple[str, ...] = ()


DIFFERENCES = (
    Difference(
        "`Server` and `Date` of a response are Apache's, not the target's",
        "Apache writes both on every response that is not its own mod_proxy's",
        (
            r"test_responses::test_fields_pass_untouched_and_once\[(Server|Date)\]",
            r"test_responses::test_server_and_date_are_the_targets_and_come_once",
        ),
    ),
    Difference(
        "A field that comes several times in a response is joined into one, save `Set-Cookie` and "
        "`WWW-Authenticate`",
        "mod_wsgi merges them; RFC 9110 section 5.3 gives both forms the same meaning",
        (r"test_responses::test_repeated_fields_stay_apart_and_in_order",),
    ),
    Difference(
        "The head of a response with a `Content-Length` waits for the first byte of the body",
        "mod_wsgi sends nothing before; responses of unknown length are not held up",
        not_run=(r"test_responses::test_the_head_is_out_before.*\[\['Content-Length: 1'\]\]",),
    ),
    Difference(
        "The client's connection is closed after a response with 400, 408, 411, 413, 414, 500, 501 "
        "or 503",
        "Apache mistrusts a connection after those",
        (r"test_responses::test_the_clients_connection_is_kept\[error\]",),
    ),
    Difference(
        "Paths with `%` and no two hexadecimal digits, with user information before the host, or "
        "with `..` above the root get 400, and `%00` gets 404",
        "Apache takes the path apart, before it passes it on as it came",
        (
            r"test_request_target::test_the_request_target_arrives_byte_for_byte"
            r"\[((leading|encoded)-dot-segments|(bad|lone)-percent|encoded-nul)\]",
            r"test_request_target::test_of_the_absolute_form.*\[user-info\]",
            r"test_request_target::test_path_and_query_of_the_target.*\[b'/(../../y|%zz)'\]",
            r"test_admission::test_ambiguous_paths_get_400\[/allowed/a%00\]",
        ),
        not_run=(
            r"test_request_target::test_any_target_stays_byte_identical",
            r"test_admission::test_nothing_reaches_the_target_that_could_be_read.*",
        ),
    ),
    Difference(
        "An upgrade, to WebSocket for one, gets 501 `UpgradeNotSupported`; with `MAX_TUNNELS=0` "
        "it is left out",
        "WSGI has no way to give a connection away",
        (r"test_responses::test_a_101_that_was_asked_for_joins_the_connections",),
    ),
    Difference(
        "A path longer than about 4 KiB gets 404",
        "Apache looks it up as if it were a file; the query may be as long as `LimitRequestLine`",
        (
            r"test_request_target::test_the_request_target_arrives.*\[eight-kilobytes\]",
            r"test_admission::test_paths_that_are_not_get_403\[.*-path12\]",
        ),
    ),
    Difference(
        "Apache itself responds to `OPTIONS *`",
        "It is about the server as a whole",
        (r"test_admission::test_paths_that_are_not_get_403\[.*-\*\]",),
        not_run=(r"test_request_target::test_the_asterisk_form_passes",),
    ),
    Difference(
        "A method in small letters is forwarded, where `authproxy serve` responds 400",
        "Methods are case-sensitive, and Apache takes any word for one",
        (r"test_methods::test_what_is_no_method_is_refused\[(get|Post) /x\]",),
    ),
    Difference(
        "`CONNECT` gets 400, and `TRACE` 405 without a trace in log and metrics",
        "Apache refuses them before authproxy sees them",
        (
            r"test_methods::test_connect_and_trace_are_not_allowed\[CONNECT /x\]",
            r"test_admission::test_methods_that_are_not_allowed.*\[CONNECT\]",
            r"test_admission::test_who_is_asked_before_anything_is_told",
        ),
    ),
    Difference(
        "A request field whose name has anything but letters, digits and hyphens does not pass",
        "Apache drops it, as such names can shadow others in the CGI environment",
        (r"test_request_headers::test_other_fields_pass_untouched\[!.*",),
        not_run=(r"test_request_headers::test_any_fields_pass_untouched",),
    ),
    Difference(
        "A field that is too long gets 400, a request line that is too long 414; "
        "`MAX_REQUEST_HEADER_BYTES` has no effect",
        "`LimitRequestFieldSize`, `LimitRequestFields` and `LimitRequestLine` are the limits",
        (
            r"test_request_bodies::test_a_head_above_the_limit_is_refused.*",
            r"test_request_bodies::test_the_default_head_limit_is_64_kibibytes",
        ),
    ),
    Difference(
        "A client that goes away within its body gets 500, where `authproxy serve` closes",
        "mod_wsgi responds; the target sees nothing of it",
        (r"test_request_bodies::test_half_a_body_is_never_sent_on.*",),
    ),
    Difference(
        "The body of a request that is refused (`INBOUND_TOKEN_FILE`, `ALLOWED_PATHS`) is taken in "
        "all the same, and a probe with a body is a probe",
        "mod_wsgi reads a request to its end before it responds; authproxy keeps none of it",
        (r"test_admission::test_what_only_looks_like_a_probe_is_judged\[GET /health-x\]",),
        not_run=(r"test_admission::test_a_refused_body_is_not_waited_for.*",),
    ),
    Difference(
        "A body that comes slowly holds a thread until it is there; slower than 500 bytes a second "
        "for 10 seconds gets 408",
        "mod_wsgi hands a request to a thread before its body has come; mod_reqtimeout limits that",
        not_run=(r"test_hostile_clients::test_a_crowd_of_half_requests.*",),
    ),
    Difference(
        "Where Apache listens, and with what rights, is in its configuration, `LISTENING_SOCKET` "
        "included",
        "It is Apache that listens",
        (r"test_environment::.*unix_socket.*",),
    ),
    Difference(
        "A log line is cut at 8 KiB",
        "Apache's error log has that limit; a long binary error body can reach it, and so can a "
        "request target of thousands of backslashes",
        not_run=(
            r"test_logs::test_any_error_body_makes_one_clean_line\[(not|cut)-utf-8\]",
            r"test_logs::test_a_request_makes_a_line_.*\[7000-backslash\]",
        ),
    ),
)


def name_of(nodeid: str) -> str:
    """Return `file::test[parameters]` of a test in tests/e2e."""
    return nodeid.removeprefix("tests/e2e/").replace(".py::", "::", 1)


def is_about(server: str, name: str) -> bool:
    """Tell whether a test of tests/e2e says anything about `server`."""
    covered = name.partition("::")[0] in (EXPRESS if server == "express" else COVERED)
    return covered and not any(re.fullmatch(pattern, name) for pattern in NOT_ABOUT_APACHE)


def mark_for(name: str) -> pytest.MarkDecorator | None:
    """Return what a test that meets a difference is marked with; None for all others."""

    def meets(patterns: tuple[str, ...]) -> bool:
        return any(re.fullmatch(pattern, name) for pattern in patterns)

    for one in DIFFERENCES:
        if meets(one.tests) or meets(one.not_run):
            reason = f"{one.what}: {one.why}"
            return pytest.mark.xfail(reason=reason, strict=True, run=meets(one.tests))
    return None
