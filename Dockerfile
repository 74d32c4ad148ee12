# Every step is a make target that CI runs; only the set of packages differs: no tools for development.
FROM node:22-bookworm-slim AS page
WORKDIR /web
COPY web/package.json web/package-lock.json web/.npmrc ./
RUN npm ci --omit=dev --ignore-scripts

FROM python:3.11-slim-bookworm AS build
RUN apt-get update && apt-get install --yes --no-install-recommends make && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY Makefile pyproject.toml requirements-image.lock README.md LICENSE ./
COPY tools ./tools
COPY providers ./providers
COPY bridge ./bridge
COPY web ./web
COPY --from=page /web/node_modules/livekit-client/dist/livekit-client.esm.mjs ./web/vendor/
RUN make install LOCK=requirements-image.lock

FROM python:3.11-slim-bookworm
COPY --from=build /app /app
RUN useradd --system --no-create-home bridge
USER bridge
WORKDIR /app
ENV PATH=/app/.venv/bin:$PATH PYTHONUNBUFFERED=1
# Let what is being said be heard: SIGTERM drains, and the orchestrator should allow call.drain_s and some more.
STOPSIGNAL SIGTERM
ENTRYPOINT ["roombridge"]
CMD ["--help"]
