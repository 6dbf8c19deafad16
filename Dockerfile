# The daemon in a container. Configuration goes to /etc/sensordrop, cards to whatever folder it
# names (mount that read-only), the state directory must be kept.
FROM python:3.13.0-slim-bookworm AS build
WORKDIR /src
COPY packaging/requirements/all.txt packaging/requirements/all.txt
RUN python -m venv /opt/sensordrop \
 && /opt/sensordrop/bin/pip install --no-cache-dir --require-hashes -r packaging/requirements/all.txt
COPY . .
RUN /opt/sensordrop/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.13.0-slim-bookworm
RUN useradd --system --uid 10001 --home-dir /var/lib/sensordrop --create-home sensordrop \
 && mkdir -p /etc/sensordrop/conf.d \
 && install -d -o sensordrop -g sensordrop /run/sensordrop
COPY --from=build /opt/sensordrop /opt/sensordrop
ENV PATH=/opt/sensordrop/bin:$PATH
USER sensordrop
VOLUME /var/lib/sensordrop
STOPSIGNAL SIGTERM
ENTRYPOINT ["sensordropd"]
CMD ["--config", "/etc/sensordrop", "--log-format", "json"]
