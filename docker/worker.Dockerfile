# syntax=docker/dockerfile:1
# The worker: takes jobs and supervises the training processes.
# Build from the repository's root: docker build -f docker/worker.Dockerfile .
#
# TORCH=cpu   trains on the CPU
#      =cuda  trains on a GPU; start it with one (compose profile gpu)
ARG PYTHON=3.11-slim-bookworm

FROM python:${PYTHON} AS build
ARG TORCH=cpu
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1
WORKDIR /src
RUN python -m venv /opt/attune
COPY requirements-torch.txt requirements-runtime.lock ./
COPY scripts/install_torch.sh scripts/
RUN ATTUNE_TORCH="$TORCH" scripts/install_torch.sh /opt/attune/bin/python \
 && /opt/attune/bin/pip install --no-deps --require-hashes -r requirements-runtime.lock
COPY pyproject.toml README.md LICENSE ./
COPY app app
COPY workers workers
COPY migrations migrations
RUN /opt/attune/bin/pip install --no-deps --no-build-isolation .

FROM python:${PYTHON}
ENV PATH=/opt/attune/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    ATTUNE_HOME=/var/lib/attune \
    HF_HOME=/var/lib/attune/huggingface
RUN groupadd --system --gid 10001 attune \
 && useradd --system --uid 10001 --gid attune --no-create-home --home-dir /var/lib/attune attune \
 && install -d -o attune -g attune -m 0750 /var/lib/attune
COPY --from=build /opt/attune /opt/attune
WORKDIR /var/lib/attune
VOLUME /var/lib/attune
# A number, so that Kubernetes can see that it is not root.
USER 10001:10001
# SIGTERM drains: the running job is checkpointed and goes back to the queue.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=20s --start-period=60s --retries=3 \
  CMD ["attune", "worker", "--check"]
ENTRYPOINT ["attune"]
CMD ["worker"]
