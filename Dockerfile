# The whole job in a container: docker build -t ashneuro . && docker run --rm -v "$PWD/runs:/app/runs" ashneuro
#
# torch is the CPU build. For an NVIDIA GPU, with the NVIDIA container toolkit on the host:
#   docker build -t ashneuro --build-arg TORCH_INDEX=https://pypi.org/simple .
#   docker run --rm --gpus all -v "$PWD/runs:/app/runs" ashneuro
# PyPI's torch carries CUDA's libraries itself, so the base image is the same.
FROM python:3.12-slim-bookworm

ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

# Kernels and the emulator are compiled with g++ when they are first used.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*

ENV ASHNEURO_HOME=/opt/ashneuro/cache \
    PIP_NO_CACHE_DIR=1 \
    UV_PYTHON_INSTALL_DIR=/opt/ashneuro/python

WORKDIR /opt/ashneuro/source
# The environment is made anew on purpose: versions have ranges in pyproject.toml, not pins.
# hadolint ignore=DL3013
RUN pip install --index-url "$TORCH_INDEX" torch torchvision
COPY . .
# Not editable, for the container has no use for the source; Lava gets a Python 3.10 of its own.
# hadolint ignore=DL3013
RUN pip install '.[train,lava,hub,ann]' \
    && ashneuro doctor --setup lava \
    && useradd --create-home --uid 1000 user \
    && mkdir -p /app \
    && chown -R user /app /opt/ashneuro/cache

USER 1000
WORKDIR /app
CMD ["ashneuro", "demo"]
