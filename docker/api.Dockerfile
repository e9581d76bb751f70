# syntax=docker/dockerfile:1
# The control plane: HTTP, the outbox relay, the sweep and, unless told otherwise, predictions.
# Build from the repository's root: docker build -f docker/api.Dockerfile .
#
# TORCH=cpu   serves predictions on the CPU
#      =cuda  serves them on a GPU
#      =none  control plane only, about 1 GB smaller: run it with --no-predict
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
EXPOSE 8000
# A number, so that Kubernetes can see that it is not root.
USER 10001:10001
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
  CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
ENTRYPOINT ["attune"]
CMD ["serve", "--host", "0.0.0.0"]
