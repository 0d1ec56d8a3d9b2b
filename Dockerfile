# nginx and scr-export in one: at start /images is exported to /site, then /site is served on 8080.
#
#     docker build -t scr-export .
#     docker run --name registry --read-only --tmpfs /tmp -v ./images:/images:ro -v site:/site -p 8080:8080 scr-export
#     docker exec registry export-and-serve again
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
COPY examples/container/nginx.conf /etc/nginx/registry.conf
COPY examples/container/export-and-serve /usr/local/bin/
RUN ln -s /opt/scr-export/bin/scr-export /usr/local/bin/ && mkdir /images && install -d -o 65532 -g 65532 /site

USER 65532:65532
VOLUME /site
EXPOSE 8080
STOPSIGNAL SIGQUIT
# The registry answers 503 where it has no site.
HEALTHCHECK CMD ["python3", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8080/v2/', timeout=5)"]
ENTRYPOINT ["export-and-serve"]
