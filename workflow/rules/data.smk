rule preflight:
    # Everything that is missing, in one message, before anything trains.
    output:
        run_path(paths.PREFLIGHT),
    params:
        config=RENDER_ARGUMENTS,
        datasets=CONFIG.datasets,
    log:
        run_path(paths.LOG, step="preflight"),
    conda:
        "../../environment.yml"
    shell:
        "python -m benchmark preflight {params.config} 2>&1 | tee {log:q} >&2"


rule data:
    # Check every image against the committed digests, once per dataset.
    input:
        ancient(run_path(paths.PREFLIGHT)),  # another list of datasets trains nothing anew
    output:
        run_path(paths.DATA),
    params:
        config=JOB_ARGUMENTS,
        facts=lambda wildcards: CONFIG.facts(wildcards.dataset).settings,
    log:
        run_path(paths.LOG, step="data/{dataset}"),
    conda:
        "../../environment.yml"
    shell:
        "python -m benchmark preflight {params.config}"
        " --dataset {wildcards.dataset:q} 2>&1 | tee {log:q} >&2"
