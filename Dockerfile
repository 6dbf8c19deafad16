# The daemon in a container. Configuration goes to /etc/sensordrop, cards to whatever folder it
# names (mount that read-only), the state directory must be kept.
FROM python:3.13.0-slim-bookworm AS build
WORKDIR /src
COPY packaging/requirements packaging/requirements
RUN python -m venv /opt/sensordrop \
 && /opt/sensordrop/bin/pip install --no-cache-dir --require-hashes \
      -r packaging/requirements/package.txt -r packaging/requirements/build.txt
COPY . .
RUN /opt/sensordrop/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.13.0-slim-bookworm
RUN useradd --system --uid 10001 --home-dir /var/lib/sensordrop --create-home sensordrop \
 && mkdir -p /etc/sensordrop/conf.d \
 && install -d -o sensordrop -g sensordrop /run/sensordrop
COPY --from=build /opt/sensordrop /opt/sensordrop
ENV PATH=/opt/sensordrop/bin:$PATH
USER 10001
VOLUME /var/lib/sensordrop
STOPSIGNAL SIGTERM
# The daemon's own word, at its default address. With another `metrics_listen` name that one here.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
  CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:9464/healthz', timeout=4)"]
ENTRYPOINT ["sensordropd"]
CMD ["--config", "/etc/sensordrop", "--log-format", "json"]
