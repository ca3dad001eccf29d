# The software that the workflow runs with, as requirements.lock pins it; the checkout stays outside
# and is mounted. docs/cluster.md has the commands.
FROM debian:bookworm-slim

RUN apt-get update \
    && apt-get install --yes --no-install-recommends git python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*

COPY requirements.lock /opt/kaem/
RUN python3 -m venv /opt/kaem/venv \
    && /opt/kaem/venv/bin/python -m pip install --no-cache-dir --require-hashes \
        --requirement /opt/kaem/requirements.lock

# Whoever runs it is not the owner of the image, nor root: caches go where everyone may write.
ENV PATH=/opt/kaem/venv/bin:$PATH HOME=/tmp
WORKDIR /kaem
CMD ["snakemake", "--cores", "all", "--configfile", "config/demo.yaml"]
