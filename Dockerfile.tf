# alexnet-tf: TensorFlow and the CUDA 12 libraries of its wheels.  Line for line the sibling of Dockerfile.torch.
#
#   make build                                                     or, by hand:
#   DOCKER_BUILDKIT=1 docker build -f Dockerfile.tf -t alexnet-tf .
#
# Behind a firewall, none of these stays in the image (docs/images.md):
#   --secret id=ca,src=ca.pem  --secret id=apt.conf,src=apt.conf  --secret id=pip.conf,src=pip.conf

ARG BASE_IMAGE=nvidia/cuda:12.9.1-base-ubuntu24.04@sha256:29e5e3425e2e0f5a4e97c9fb4695ba4887cd78210a43cf94c3bcafc6ab01c5e6

# hadolint ignore=DL3006
FROM ${BASE_IMAGE} AS python
# hadolint ignore=DL3008
RUN --mount=type=secret,id=ca,mode=0444 \
    --mount=type=secret,id=apt.conf,target=/etc/apt/apt.conf.d/99build.conf,mode=0444 \
    apt-get update && apt-get install -y --no-upgrade --no-install-recommends ca-certificates python3 tini && rm -rf /var/lib/apt/lists/*


FROM python AS dependencies
# hadolint ignore=DL3008,DL3009
RUN --mount=type=secret,id=ca,mode=0444 \
    --mount=type=secret,id=apt.conf,target=/etc/apt/apt.conf.d/99build.conf,mode=0444 \
    apt-get update && apt-get install -y --no-upgrade --no-install-recommends python3-venv && \
    python3 -m venv /build && python3 -m venv --without-pip /opt/alexnet
COPY requirements/build.txt requirements/tf.txt /requirements/
# A layer each for NVIDIA's libraries, the framework and all else: a new release of one does not move the others, whose files get the same bytes and
# times whenever they are made.
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=secret,id=ca \
    --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    if [ -f /run/secrets/ca ]; then export PIP_CERT=/run/secrets/ca; fi && \
    /build/bin/pip install --quiet --require-hashes --only-binary :all: -r /requirements/build.txt && \
    touch /requirements/nvidia.txt /requirements/framework.txt /requirements/others.txt && \
    awk '/^[a-z]/ {part = /^nvidia-/ ? "nvidia" : /^(torch|triton|tensorflow|keras)==/ ? "framework" : "others"} \
         part {print > "/requirements/" part ".txt"}' /requirements/tf.txt && \
    for part in nvidia framework others; do \
        mkdir -p /layers/$part/opt/alexnet && \
        /build/bin/pip --python /opt/alexnet/bin/python install --quiet --require-hashes --only-binary :all: --no-deps --no-compile \
            --prefix /layers/$part/opt/alexnet -r /requirements/$part.txt || exit; \
    done && \
    PYTHONPATH=$(printf '%s:' /layers/*/opt/alexnet/lib/python3*/site-packages) /build/bin/pip --python /opt/alexnet/bin/python check
# Left out: headers, static libraries, what compiles (torch.compile and ahead-of-time compilation are not used), libraries that no other file names,
# and the tests of the packages.
# hadolint ignore=DL3003
RUN for site in /layers/*/opt/alexnet/lib/python3*/site-packages; do \
        cd "$site" && \
        rm -rf triton torch/bin/protoc* torch/include clang tensorflow/include tensorflow/xla_aot_runtime_src nvidia/*/include nvidia/*/*/include && \
        find . \( -name '*.a' -o -name '*.alt.so.*' -o -name 'libcusolverMg.so.*' -o -name 'libnvshmem_device.bc' \) -delete && \
        find . -depth -type d -name tests -regex '\./\(numpy\|scipy\|matplotlib\)/.*' -exec rm -rf {} + && \
        python3 -m compileall -q -j 0 -x py312_ --invalidation-mode unchecked-hash . || exit; \
    done && \
    mkdir -p /layers/venv/opt && cp -a /opt/alexnet /layers/venv/opt/ && find /layers -exec touch --no-dereference --date=@0 {} +


FROM dependencies AS package
COPY LICENSE README.md pyproject.toml /source/
COPY job /source/job
RUN /build/bin/pip wheel --quiet --no-index --no-deps --no-build-isolation --wheel-dir /wheels /source && \
    /build/bin/pip --python /opt/alexnet/bin/python install --quiet --no-index --no-deps --no-compile --prefix /package/opt/alexnet /wheels/*.whl && \
    python3 -m compileall -q --invalidation-mode unchecked-hash /package && \
    find /package -exec touch --no-dereference --date=@0 {} +


FROM python
RUN install -d -m 1777 /runs
COPY docker/alexnet /usr/local/bin/alexnet
COPY --from=dependencies /layers/venv /
COPY --from=dependencies /layers/nvidia /
COPY --from=dependencies /layers/framework /
COPY --from=dependencies /layers/others /
COPY --from=package /package /
ARG VERSION=0 REVISION=unknown CREATED=1970-01-01T00:00:00Z SOURCE= BASE_IMAGE
LABEL org.opencontainers.image.title="alexnet-tf" \
      org.opencontainers.image.description="Trains AlexNet on CIFAR-10 in TensorFlow, as a batch job" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.base.name="${BASE_IMAGE}" \
      org.opencontainers.image.created="${CREATED}"
# GKE mounts the driver at /usr/local/nvidia and says so to nobody; elsewhere NVIDIA's runtime puts it where it is found.
ENV ALEXNET_ENGINE=tensorflow ALEXNET_RECIPE=default-30 ALEXNET_OUTPUT=/runs ALEXNET_IMAGE=alexnet-tf:${VERSION} ALEXNET_REVISION=${REVISION} \
    PATH=/usr/local/bin:/opt/alexnet/bin:/usr/bin:/bin:/usr/local/nvidia/bin LD_LIBRARY_PATH=/usr/local/nvidia/lib64 \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 TF_CPP_MIN_LOG_LEVEL=2 \
    HOME=/tmp USER=alexnet XDG_CACHE_HOME=/tmp/.cache MPLCONFIGDIR=/tmp/.matplotlib KERAS_HOME=/tmp/.keras \
    CUDA_CACHE_PATH=/tmp/.cuda TRITON_CACHE_DIR=/tmp/.triton TORCHINDUCTOR_CACHE_DIR=/tmp/.inductor \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
VOLUME ["/runs", "/tmp"]
WORKDIR /tmp
USER 65532:65532
ENTRYPOINT ["alexnet"]
