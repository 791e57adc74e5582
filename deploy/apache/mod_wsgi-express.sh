#!/bin/sh
# authproxy under PyPI's mod_wsgi-express, which brings Apache's whole configuration with it.
# Further options go to it as they are, and win: mod_wsgi-express.sh --port 8082
# Each is explained in apache2/conf-available/authproxy.conf and in docs/apache.md.
set -eu
etc=${AUTHPROXY_ETC:-/etc/authproxy}

exec mod_wsgi-express start-server "$etc/authproxy.wsgi" \
    --host 127.0.0.1 --port 8081 --log-to-terminal \
    --user authproxy --group authproxy \
    --processes 2 --threads 32 --daemon-backlog 512 --max-clients 150 \
    --include-file "$etc/authproxy-server.conf" \
    --include-file "$etc/authproxy-location.conf" \
    --keep-alive-timeout 5 \
    --socket-timeout 300 --queue-timeout 45 --request-timeout 0 --startup-timeout 60 \
    --graceful-timeout 1 --shutdown-timeout 25 \
    --header-buffer-size 65536 \
    --locale C.UTF-8 --working-directory / "$@"
