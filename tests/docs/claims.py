"""The sentences of pages that promise something for all cases, and the tests that try them.

Each key is how such a sentence begins, long enough to be the only one; each value names
tests, as `file` below tests/ and function. ADVICE is what only looks like a promise.
"""

from __future__ import annotations

from collections.abc import Iterator

ADVICE = "-"

SECURITY: dict[str, str] = {
    # What authproxy protects.
    "a token is sent to the configured target only": (
        "e2e/test_responses.py::test_redirects_are_the_clients_to_follow "
        "e2e/test_request_headers.py::test_host_is_the_targets "
        "e2e/test_request_target.py::test_of_the_absolute_form_only_path_and_query_count "
        "e2e/test_environment.py::test_http_proxy_does_not_concern_an_https_target"
    ),
    "`http://` in `TARGET_HOST` is raised": (
        "e2e/test_cli.py::test_serve_warns_of_a_target_that_gets_tokens_in_clear "
        "e2e/test_target_faults.py::test_a_target_without_tls_is_unreachable_and_gets_no_token"
    ),
    "what a client sends as `Authorization`": (
        "e2e/test_request_headers.py::test_no_inbound_credential_passes "
        "e2e/test_request_headers.py::test_connection_cannot_name_away_what_the_proxy_adds"
    ),
    "requests are framed anew": (
        "e2e/test_smuggling.py::test_the_target_gets_what_was_asked_and_nothing_else "
        "e2e/test_smuggling.py::test_nginx_sees_as_many_requests_as_were_asked "
        "e2e/test_smuggling.py::test_thousands_of_generated_requests_are_read_in_one_way"
    ),
    "The tests send more than a thousand": (
        "e2e/test_smuggling.py::test_nothing_of_unknown_origin_reaches_the_target"
    ),
    "tokens that let callers in": (
        "unit/files/test_inbound_tokens.py::"
        "test_every_token_is_compared_whole_whatever_came_before "
        "unit/files/test_inbound_tokens.py::test_nothing_compares_tokens_in_another_way "
        "unit/files/test_inbound_tokens.py::test_the_tokens_themselves_are_not_kept "
        "e2e/test_admission.py::test_a_token_of_the_file_lets_in_and_goes_no_further "
        "e2e/test_admission.py::test_a_refusal_is_logged_with_who_and_where_and_never_the_token"
    ),
    "A test searches every output": (
        "e2e/test_secrets.py::test_no_output_holds_a_secret "
        "e2e/test_secrets.py::test_no_command_prints_a_secret"
    ),
    # What it does not protect.
    "The proxied port speaks plain HTTP unless": (
        "e2e/test_listening_tls.py::test_plain_http_is_told_to_speak_https "
        "e2e/test_listening_tls.py::test_what_is_neither_is_closed "
        "e2e/test_listening_tls.py::test_tls_1_1_is_refused "
        "e2e/test_listening_tls.py::test_a_client_has_to_show_a_certificate_of_the_authority"
    ),
    "| listens on the network to callers' tokens": (
        "e2e/test_listening_tls.py::test_plain_http_is_told_to_speak_https "
        "e2e/test_listening_tls.py::test_tls_1_1_is_refused"
    ),
    "A file with a secret that every user": (
        "unit/settings/test_secret_files.py::test_a_file_that_others_can_read_or_change_is_open "
        "e2e/test_admission.py::test_a_file_of_tokens_that_everybody_can_read_is_warned_of"
    ),
    "Files that settings and variables name are read only": (
        "e2e/test_odd_files.py::test_what_is_no_file_is_a_fault "
        "e2e/test_odd_files.py::test_every_setting_that_names_a_file_is_tried "
        "e2e/test_odd_files.py::test_files_that_the_environment_names_are_no_pipes "
        "unit/files/test_regular_file.py::test_a_pipe_is_not_even_opened "
        "e2e/test_admission.py::test_a_pipe_in_place_of_the_token_file_holds_nobody_up"
    ),
    # Who reaches the port.
    "| sidecar |": (
        "deploy/test_manifests.py::"
        "test_a_sidecar_listens_on_the_loopback_address_and_is_probed_there"
    ),
    "| Service in a cluster |": (
        "deploy/test_manifests.py::test_only_named_clients_come_in "
        "deploy/chart/test_network.py::test_one_value_opens_it_to_the_namespace"
    ),
    "| virtual machine |": (
        "e2e/test_environment.py::test_a_unix_socket_serves_and_is_for_owner_and_group"
    ),
    # A neighbour that was taken over.
    "| uses the identity": ADVICE,
    "| reads the token |": (
        "e2e/test_secrets.py::test_no_output_holds_a_secret "
        "e2e/test_probes.py::test_a_probe_gives_no_token_away "
        "e2e/test_target_faults.py::test_an_own_error_gives_away_neither_token_nor_fields "
        "e2e/test_methods.py::test_connect_and_trace_are_not_allowed "
        "e2e/test_responses.py::test_what_a_target_quotes_in_a_response_is_the_clients_to_see"
    ),
    "| has the token sent to itself": (
        "e2e/test_request_headers.py::test_host_is_the_targets "
        "e2e/test_request_target.py::test_of_the_absolute_form_only_path_and_query_count "
        "e2e/test_responses.py::test_redirects_are_the_clients_to_follow"
    ),
    "| sends another credential along": (
        "e2e/test_request_headers.py::test_no_inbound_credential_passes "
        "e2e/test_request_headers.py::test_connection_cannot_name_away_what_the_proxy_adds "
        "e2e/test_request_headers.py::test_connection_cannot_name_overrides_away"
    ),
    "| smuggles a second request": (
        "e2e/test_smuggling.py::test_the_target_gets_what_was_asked_and_nothing_else "
        "e2e/test_admission.py::test_a_request_inside_a_refused_body_is_never_served"
    ),
    "| evades `ALLOWED_PATHS`": (
        "e2e/test_admission.py::test_ambiguous_paths_get_400 "
        "e2e/test_admission.py::"
        "test_nothing_reaches_the_target_that_could_be_read_as_another_path"
    ),
    "| has the target take another path or method": (
        "e2e/test_admission.py::test_no_field_has_the_target_serve_what_was_not_admitted "
        "e2e/test_admission.py::"
        "test_nor_where_one_rule_decides_save_a_field_that_the_operator_sets "
        "e2e/test_routes.py::test_no_field_leads_a_request_of_one_route_to_another"
    ),
    "| reaches what one route guards": (
        "e2e/test_request_target.py::test_a_fragment_is_refused "
        "e2e/test_routes.py::test_a_path_of_no_certain_route_gets_400_and_no_body_is_read"
    ),
    "| guesses an inbound token": (
        "e2e/test_admission.py::test_a_wrong_token_gets_401 "
        "e2e/test_admission.py::test_refusals_are_counted_as_every_other_error"
    ),
    "| asks and does not read": (
        "e2e/test_bounds.py::test_what_waits_behind_an_unread_response_gets_no_thread "
        "e2e/test_bounds.py::test_who_does_not_read_holds_up_neither_probes_nor_refusals "
        "unit/server/test_progress.py::test_each_stage_has_bounds_of_its_own"
    ),
    "| sends huge bodies": (
        "unit/server/test_requests.py::test_one_byte_more_is_too_large "
        "e2e/test_bounds.py::test_past_the_bound_bodies_wait_and_who_is_slow_gives_way"
    ),
    "| upgrades connections and keeps them": (
        "e2e/test_tunnels.py::"
        "test_past_the_limit_further_upgrades_are_refused_and_threads_are_free "
        "e2e/test_tunnels.py::test_an_upgrade_that_is_none_of_ours_is_left_out "
        "e2e/test_tunnels.py::test_what_a_client_sends_before_its_101_is_never_a_request "
        "e2e/test_preflight.py::test_what_only_looks_like_a_preflight_needs_a_token "
        "e2e/test_tunnels.py::test_admission_and_overrides_hold "
        "e2e/test_tunnels.py::test_without_tunnels_an_upgrade_is_left_out"
    ),
    "| sends huge header fields": (
        "unit/server/test_requests.py::test_so_many_fields_are_taken_and_one_more_is_not "
        "unit/server/test_requests.py::"
        "test_a_header_of_exactly_the_limit_is_taken_and_one_byte_more_is_not "
        "e2e/test_bounds.py::test_no_crowd_of_half_requests_takes_more_than_256_mib"
    ),
    "| sends what takes long to read": (
        "unit/server/test_growth.py::test_double_the_input_takes_twice_as_long "
        "unit/test_growth.py::test_no_rule_takes_more_than_its_share_for_twice_the_bytes"
    ),
    "| fills the metrics": (
        "e2e/test_telemetry_faults.py::"
        "test_ten_thousand_paths_agents_and_methods_make_a_bounded_number_of_series"
    ),
    "| forges log lines": (
        "e2e/test_logs.py::test_a_path_forges_no_log_line "
        "e2e/test_logs.py::test_a_request_id_forges_no_log_line "
        "e2e/test_logs.py::test_any_error_body_makes_one_clean_line"
    ),
    "| fills the log": (
        "e2e/test_logs.py::test_a_request_makes_a_line_of_no_more_than_it_may_take "
        "e2e/test_logs.py::test_whatever_else_a_client_chooses_is_bounded_too"
    ),
    "| asks the identity endpoint": ADVICE,
    # A malicious target.
    "| keeps the token": ADVICE,
    "| another host in its place": (
        "e2e/test_target_faults.py::test_a_certificate_that_proves_nothing_is_unreachable"
    ),
    "| redirects the token": (
        "e2e/test_responses.py::test_redirects_are_the_clients_to_follow "
        "e2e/test_redirects.py::test_the_targets_own_url_leads_back_to_the_proxy "
        "e2e/test_redirects.py::test_a_redirect_elsewhere_is_untouched_and_takes_no_token_along"
    ),
    "| sends preflights": (
        "e2e/test_preflight.py::test_a_preflight_is_let_in_and_takes_no_token_along "
        "e2e/test_preflight.py::test_what_only_looks_like_a_preflight_needs_a_token "
        "e2e/test_preflight.py::test_without_the_setting_a_preflight_needs_a_token"
    ),
    "| has a redirect on its own origin": (
        "e2e/test_redirects.py::test_a_path_that_browsers_take_for_a_host_does_not_lead_there "
        "unit/http1/test_references.py::test_whoever_follows_comes_to_what_the_target_meant"
    ),
    "| lies about the end": (
        "e2e/test_hostile_targets.py::test_a_misframed_answer_is_one_answer_or_none "
        "e2e/test_unsolicited_responses.py::"
        "test_after_a_surplus_response_each_request_has_a_connection_of_its_own"
    ),
    "| never responds, or one byte at a time |": (
        "e2e/test_target_faults.py::test_a_silent_target_is_a_timeout_and_not_asked_again"
    ),
    "| sends without end": (
        "e2e/test_memory.py::test_three_hundred_megabytes_come_down_in_flat_memory"
    ),
    "| a decompression bomb": (
        "unit/proxy/test_excerpt.py::test_a_huge_body_or_a_bomb_costs_and_shows_a_bounded_amount "
        "e2e/test_logs.py::test_an_error_body_is_cut_at_two_kibibytes"
    ),
    "| quotes our token": (
        "e2e/test_quoted_tokens.py::test_what_is_quoted_is_in_no_output "
        "e2e/test_responses.py::test_what_a_target_quotes_in_a_response_is_the_clients_to_see"
    ),
    "| sets cookies": (
        "e2e/test_environment.py::test_one_clients_cookies_are_not_sent_for_another"
    ),
    "| responds 401 without end": (
        "e2e/test_replay.py::test_a_second_401_is_the_clients "
        "e2e/test_replay.py::test_many_401_at_once_make_one_fetch"
    ),
    "A connection is closed, and what came": (
        "e2e/test_unsolicited_responses.py::"
        "test_a_surplus_response_on_an_idle_connection_is_given_to_nobody "
        "e2e/test_unsolicited_responses.py::"
        "test_a_response_that_was_sent_before_the_request_arrived_is_given_to_nobody"
    ),
    "The true response becomes surplus": ADVICE,
    # A malicious identity endpoint, collector, key server, log; the supply chain.
    "| Entra in place of Entra": (
        "unit/settings/test_faults.py::"
        "test_a_wrong_value_is_a_fault_that_names_setting_value_and_problem "
        "unit/identity/test_credentials.py::test_an_untrusted_authority_is_explained"
    ),
    "| never responds, one byte at a time, or fails": (
        "e2e/test_identity_endpoints.py::test_endpoints_that_drip_are_given_up_and_asked_again "
        "e2e/test_identity_endpoints.py::"
        "test_the_former_token_is_sent_while_the_endpoint_drips"
    ),
    "| absurd lifetimes": (
        "unit/identity/test_bounds.py::test_a_lifetime_of_years_is_cut "
        "unit/identity/test_lifetimes.py::test_an_absurd_retry_after_is_cut_to_the_ceiling"
    ),
    "| a response without end": (
        "e2e/test_identity_endpoints.py::test_a_bomb_in_place_of_a_token_is_not_unpacked "
        "unit/identity/test_bounded_fetch.py::"
        "test_a_response_that_is_too_large_is_not_read_to_its_end"
    ),
    "| does not respond": (
        "e2e/test_telemetry_faults.py::test_requests_are_answered_and_one_line_tells "
        "e2e/test_telemetry_faults.py::test_memory_is_bounded_while_nothing_can_be_exported"
    ),
    "| the key server is out of order": (
        "unit/admission/test_keys.py::"
        "test_an_outage_keeps_the_keys_and_is_tried_again_with_growing_pauses "
        "unit/identity/test_bounded_fetch.py::test_one_that_drips_over_tls_is_given_up"
    ),
    "| stops reading": (
        "e2e/test_unread_log.py::test_requests_probes_scrapes_and_the_end_wait_for_no_reader "
        "e2e/test_unread_log.py::"
        "test_lost_lines_are_counted_and_told_when_somebody_reads_again"
    ),
    "| a package of ours": (
        "deploy/test_supply_chain.py::test_every_pin_of_a_lock_has_a_hash "
        "deploy/test_supply_chain.py::test_whatever_installs_from_a_lock_requires_the_hashes"
    ),
    "| the base image's tag": (
        "deploy/image/test_base_image.py::test_the_base_is_pinned_by_digest_in_one_place"
    ),
    "Where neither responds": (
        "deploy/test_supply_chain.py::test_without_advisories_the_check_is_skipped_loudly"
    ),
}

#: Its tables are measurements: tests/faults plays each row, and fails where it promises too much.
RELIABILITY: dict[str, str] = {
    "*Clients see*": ("faults/test_page.py::test_a_row_fails_where_its_promise_is_broken"),
    "What is in flight when a connection breaks": (
        "e2e/test_replay.py::test_a_request_lost_with_a_fresh_connection_is_not_sent_again "
        "e2e/test_replay.py::test_a_request_that_was_answered_at_all_is_not_sent_again"
    ),
    "*How long*": "faults/test_page.py::test_a_row_fails_where_its_promise_is_broken",
}

PAGES: dict[str, dict[str, str]] = {"SECURITY.md": SECURITY, "docs/reliability.md": RELIABILITY}


def names(tests: str) -> Iterator[tuple[str, str]]:
    """Yield file and function of each test that a value names."""
    for each in tests.split():
        file, _, function = each.partition("::")
        yield file, function
