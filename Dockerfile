# The software that the workflow runs with, as requirements.lock pins it; the checkout stays outside
# and is mounted. docs/guide/cluster.md has the commands.
FROM debian:bookworm-slim

RUN apt-get update \
    && apt-get install --yes --no-install-recommends git make python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*

COPY requirements.lock /opt/kaem/
RUN python3 -m venv /opt/kaem/venv \
    && /opt/kaem/venv/bin/python -m pip install --no-cache-dir --require-hashes \
        --requirement /opt/kaem/requirements.lock

# Whoever runs it need be neither root nor known in the image: a name, and a home that all may write.
# KAEM_VENV tells make that all is installed.
ENV PATH=/opt/kaem/venv/bin:$PATH KAEM_VENV=/opt/kaem/venv HOME=/tmp USER=kaem
WORKDIR /kaem
CMD ["make", "verify"]
