# Targets: serve (the default: no torch, an artifact inside), serve-torch (TorchScript, CPU or CUDA), train.
#   docker build -t sightglass .
#   docker build -t flowers --build-arg ARTIFACT=exports/flowers/1 .
#   docker build -t sightglass-torch --target serve-torch .
# BASE is any image with Python 3.11; PyPI's torch brings its own CUDA, so the slim one does for a GPU too.
ARG BASE=python:3.11-slim

# ---- dependencies: a layer of their own, made again only when a lock changes; pip itself stays behind
FROM ${BASE} AS dependencies
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY requirements/build.txt requirements/
RUN python -m venv --without-pip /opt/venv \
 && pip install --require-hashes -r requirements/build.txt
COPY requirements/serve.txt requirements/
RUN pip --python /opt/venv/bin/python install --require-hashes --only-binary :all: -r requirements/serve.txt

# 90 MB that the service never opens: ONNX Runtime's C library (its Python module holds a copy) and tools, numpy's tests and
# compilers, Pillow's AVIF and fonts
FROM dependencies AS dependencies-serve
RUN find /opt/venv \( \
      -path '*/onnxruntime/*' \( -name 'libonnxruntime.so.*' -o -name backend -o -name datasets -o -name quantization \
        -o -name tools -o -name transformers \) \
      -o -path '*/numpy/*' \( -name tests -o -name f2py -o -name distutils \) \
      -o -name 'libavif-*' -o -name '_avif.*.so' -o -name 'libfreetype-*' -o -name 'libharfbuzz-*' -o -name '_imagingft.*.so' \
    \) -prune -exec rm -r {} +

FROM dependencies AS dependencies-torch
# CPU wheels alone: docs/deploy.md says how to make requirements/torchscript-cpu.txt
ARG TORCH=torchscript
COPY requirements/${TORCH}.txt requirements/
RUN pip --python /opt/venv/bin/python install --require-hashes --only-binary :all: -r requirements/${TORCH}.txt

FROM dependencies AS dependencies-train
COPY requirements/train.txt requirements/
RUN pip --python /opt/venv/bin/python install --require-hashes --only-binary :all: -r requirements/train.txt

# ---- the code, as files to lay over each of them: a change of it makes a small layer
FROM dependencies AS code
COPY pyproject.toml README.md LICENSE ./
COPY app app
COPY training training
COPY sightglass sightglass
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
 && pip --python /opt/venv/bin/python install --no-deps --prefix /code /wheels/*.whl

# ---- what runs: as nobody in particular, from a file system that nobody need write to
FROM ${BASE} AS base
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Sightglass" \
      org.opencontainers.image.description="Image classification over HTTP: /predict and /health" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# PYTHONSAFEPATH: a mounted /data may hold an `app` of its own
ENV PATH=/opt/venv/bin:${PATH} PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PYTHONSAFEPATH=1
# relative paths, such as SIGHTGLASS_MODEL=exports/flowers/1, start here
WORKDIR /data
USER 10001:10001

FROM base AS train
COPY --from=dependencies-train /opt/venv /opt/venv
COPY --from=code /code /opt/venv
# libraries that keep caches look for a home
ENV HOME=/tmp USER=sightglass
ENTRYPOINT ["sightglass"]

FROM base AS service
ENV SIGHTGLASS_MODEL=/model SIGHTGLASS_HOST=0.0.0.0
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --start-interval=1s \
    CMD ["python", "-m", "app.server.healthcheck"]
CMD ["python", "-m", "app"]

FROM service AS serve-torch
COPY --from=dependencies-torch /opt/venv /opt/venv
COPY --from=code /code /opt/venv
ARG ARTIFACT=exports/cifar10/1
COPY --chmod=755 ${ARTIFACT} /model
RUN ["python", "-c", "import pathlib, app.inference.loading as s; s.Artifact.open(pathlib.Path('/model'))"]

FROM service AS serve
COPY --from=dependencies-serve /opt/venv /opt/venv
COPY --from=code /code /opt/venv
# readable for the user above whatever the umask of the checkout was; another artifact can be mounted over it
ARG ARTIFACT=exports/cifar10/1
COPY --chmod=755 ${ARTIFACT} /model
# whole, and decoded here as at its export; the engines are proven where they run, on another CPU perhaps
RUN ["python", "-c", "import pathlib, app.inference.loading as s; s.Artifact.open(pathlib.Path('/model'))"]
