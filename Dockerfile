# syntax=docker/dockerfile:1
FROM python:3.12-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE CHANGELOG.md ./
COPY config ./config
COPY proxy ./proxy
RUN python -m venv /opt/tallygate && /opt/tallygate/bin/pip install --no-cache-dir ".[demo,otel]"

FROM python:3.12-slim
RUN groupadd --gid 10001 tallygate \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin tallygate \
    && mkdir /data && chown tallygate:tallygate /data && chmod 700 /data
COPY --from=build /opt/tallygate /opt/tallygate
# The gateway's port is for clients. The console's is not: publish it to your own network only; off loopback it asks for the admin token.
ENV PATH=/opt/tallygate/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    TALLYGATE_LISTEN=0.0.0.0:8080 \
    TALLYGATE_CONSOLE_LISTEN=0.0.0.0:9090 \
    TALLYGATE_DATA_DIR=/data
USER tallygate
WORKDIR /data
VOLUME /data
EXPOSE 8080 9090
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9090/healthz', timeout=4)"]
ENTRYPOINT ["tallygate"]
CMD ["serve"]
