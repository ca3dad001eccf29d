# `params.config_hash` changes with any setting that the result depends on, and nothing else: that
# is what makes a changed learning rate rerun its own model and leave the rest alone.


rule classifier:
    input:
        run_path(paths.DATA),
    output:
        weights=run_path(paths.CLASSIFIER),
        record=run_path(paths.CLASSIFIER_RECORD),
    params:
        config=JOB_ARGUMENTS,
        config_hash=lambda wildcards: CONFIG.training_job(
            wildcards.dataset, CLASSIFIER
        ).config_hash,
    threads: CONFIG.threads
    resources:
        gpu=training_gpus(),
    log:
        run_path(paths.LOG, step="classifier/{dataset}"),
    conda:
        "../../environment.yml"
    shell:
        "python -m benchmark train {params.config}"
        " --dataset {wildcards.dataset:q} --model classifier"
        " 2>&1 | tee -i {log:q} >&2"


rule train:
    input:
        run_path(paths.DATA),
    output:
        weights=run_path(paths.WEIGHTS),
        record=run_path(paths.TRAINING_RECORD),
        history=run_path(paths.HISTORY),
        diagnostics=run_path(paths.DIAGNOSTICS),
    params:
        config=JOB_ARGUMENTS,
        config_hash=lambda wildcards: CONFIG.training_job(
            wildcards.dataset, wildcards.model
        ).config_hash,
    threads: CONFIG.threads
    resources:
        gpu=training_gpus(),
    log:
        run_path(paths.LOG, step="train/{dataset}/{model}/{seed}"),
    conda:
        "../../environment.yml"
    shell:
        "python -m benchmark train {params.config}"
        " --dataset {wildcards.dataset:q} --model {wildcards.model:q}"
        " --seed {wildcards.seed} 2>&1 | tee -i {log:q} >&2"
