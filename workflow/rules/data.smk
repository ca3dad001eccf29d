rule data:
    # Fetch what is missing and check every image against the committed digests.
    output:
        run_path(paths.DATA),
    params:
        command=BENCHMARK("preflight"),
        facts=lambda wildcards: CONFIG.training_job(wildcards.dataset, CLASSIFIER).settings["data"],
    log:
        log_path("data", "dataset"),
    conda:
        "../../environment.yml"
    shell:
        "{params.command} --dataset {wildcards.dataset:q} 2>&1 | tee {log:q} >&2"
