rule preflight:
    # Everything that is missing, in one message, before anything trains: it goes first and takes
    # every core. No rule waits for its file, because another list of datasets is another check and
    # must not make what is there be computed again.
    output:
        preflight_summary(),
    params:
        config=RENDER_ARGUMENTS,
    priority: 100
    threads: workflow.cores
    log:
        run_path(paths.LOG, step="preflight"),
    conda:
        "../../environment.yml"
    shell:
        "python -m benchmark preflight {params.config} 2>&1 | tee {log:q} >&2"


rule data:
    # Check every image against the committed digests, once per dataset.
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
