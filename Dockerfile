# Asks questions about pictures, on a processor, without PyTorch: a first stage exports the checkpoint; the image holds
# the export, ONNX Runtime, and what opens pictures and reads words.
#
#   docker build -t traffic-vlm .
#   docker run --rm --network none -v "$PWD:/frames:ro" traffic-vlm --image /frames/frame.jpg --text "Can I move forward?"

FROM python:3.11-slim AS export
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
ARG TORCH=torch==2.13.0
WORKDIR /build
# hadolint ignore=DL3013
RUN pip install --no-cache-dir "$TORCH"
COPY pyproject.toml README.md LICENSE ./
COPY modeling modeling
COPY processing processing
COPY training training
COPY evaluation evaluation
COPY deployment deployment
COPY app app
# hadolint ignore=DL3013
RUN pip install --no-cache-dir ".[export]"
COPY scripts/export.py scripts/export.py
COPY checkpoints/traffic-vlm checkpoints/traffic-vlm
# What answers later is what exported, PyTorch left out.
RUN python scripts/export.py --output /export \
    && pip freeze | grep -E "^(transformers|tokenizers|onnxruntime|numpy|pillow)==" > /export/requirements.txt

FROM python:3.11-slim
COPY --from=export /export /export
COPY deployment/__init__.py deployment/session.py /srv/traffic_vlm/deployment/
RUN pip install --no-cache-dir -r /export/requirements.txt \
    && useradd --create-home --uid 1000 asker
USER 1000
ENV PYTHONPATH=/srv HF_HUB_OFFLINE=1 PYTHONUTF8=1
ENTRYPOINT ["python", "-m", "traffic_vlm.deployment.session", "/export"]
CMD ["--help"]
