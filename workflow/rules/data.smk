rule data:
    # Fetch what is missing and check every image against the committed digests.
    output:
        run_path(paths.DATA),
    params:
        config=JOB_ARGUMENTS,
        facts=lambda wildcards: CONFIG.training_job(wildcards.dataset, CLASSIFIER).settings["data"],
    log:
        run_path(paths.LOG, step="data/{dataset}"),
    conda:
        "../../environment.yml"
    shell:
        "python -m benchmark preflight {params.config}"
        " --dataset {wildcards.dataset:q} 2>&1 | tee {log:q} >&2"
