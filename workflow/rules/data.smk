rule data:
    # First everything that the run needs, whose lack ends the job of every dataset before anything
    # trains; then every image of this one against the committed digests.
    output:
        run_path(paths.DATA),
    params:
        # Taken for derived, by `output`: another list of datasets computes nothing anew.
        run=lambda wildcards, output: RENDER_ARGUMENTS(wildcards),
        config=JOB_ARGUMENTS,
        facts=lambda wildcards: CONFIG.facts(wildcards.dataset).settings,
    resources:
        gpu=checking_gpus(),
    log:
        run_path(paths.LOG, step="data/{dataset}"),
    conda:
        "../../environment.yml"
    shell:
        "(python -m benchmark preflight {params.run}"
        " && python -m benchmark preflight {params.config} --dataset {wildcards.dataset:q})"
        " 2>&1 | tee -i {log:q} >&2"
