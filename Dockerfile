# nginx and scr-export in one: at start /images is exported to /site, then /site is served on 8080.
#
#     docker build -t scr-export .
#     docker run --read-only --tmpfs /tmp -v ./images:/images:ro -v site:/site -p 8080:8080 scr-export
#
# Words after the image's name are options of the export. For a SITE that is a directory of yours, not a volume, or for
# IMAGES that only you may read, add:  --user "$(id -u):$(id -g)"
FROM debian:12-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends python3-venv
COPY pyproject.toml README.md LICENSE /src/
COPY scr_export /src/scr_export
RUN python3 -m venv /opt/scr-export && /opt/scr-export/bin/pip install --no-cache-dir /src

FROM debian:12-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends nginx python3 \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/scr-export /opt/scr-export
RUN mkdir /images && install -d -o 65532 -g 65532 /site

# Nothing is written but /site and /tmp.
RUN printf '%s\n' > /etc/nginx/nginx.conf \
    'daemon off;' \
    'worker_processes auto;' \
    'pid /tmp/nginx.pid;' \
    'events {}' \
    'http {' \
    '    access_log /dev/stdout;' \
    '    sendfile on;' \
    '    tcp_nopush on;' \
    '    client_body_temp_path /tmp/body;' \
    '    proxy_temp_path /tmp/proxy;' \
    '    fastcgi_temp_path /tmp/fastcgi;' \
    '    uwsgi_temp_path /tmp/uwsgi;' \
    '    scgi_temp_path /tmp/scgi;' \
    '    server {' \
    '        listen 8080;' \
    '        root /site;' \
    '        include /site/nginx.conf;' \
    '    }' \
    '}'

# An export that fails leaves the site as it was, and then that is served. A signal ends the export, or nginx.
RUN printf '%s\n' > /usr/local/bin/export-and-serve \
    '#!/bin/sh' \
    '/opt/scr-export/bin/scr-export "$@" /images /site &' \
    'trap "kill $!" TERM INT QUIT' \
    'wait $!' \
    'status=$?' \
    'case $status in' \
    '0) ;;' \
    '1 | 3) [ -f /site/nginx.conf ] || exit $status ;;' \
    '*) exit $status ;;' \
    'esac' \
    'exec nginx -e stderr' \
    && chmod 755 /usr/local/bin/export-and-serve

USER 65532:65532
VOLUME /site
EXPOSE 8080
STOPSIGNAL SIGQUIT
ENTRYPOINT ["export-and-serve"]
