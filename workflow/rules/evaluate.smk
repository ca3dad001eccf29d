rule sample:
    input:
        lambda wildcards: (
            run_path(paths.DATA, **wildcards)
            if wildcards.model == REAL
            else trained_weights(wildcards)
        ),
    output:
        run_path(paths.SAMPLES),
    params:
        config=JOB_ARGUMENTS,
        config_hash=lambda wildcards: CONFIG.sampling_job(
            wildcards.dataset, wildcards.model
        ).config_hash,
    threads: CONFIG.threads
    resources:
        gpu=training_gpus(),
    log:
        run_path(paths.LOG, step="sample/{dataset}/{model}/{seed}"),
    conda:
        "../../environment.yml"
    shell:
        "python -m benchmark sample {params.config}"
        " --dataset {wildcards.dataset:q} --model {wildcards.model:q}"
        " --seed {wildcards.seed} 2>&1 | tee -i {log:q} >&2"


rule evaluate:
    input:
        samples=run_path(paths.SAMPLES),
        classifier=lambda wildcards: (
            run_path(paths.CLASSIFIER, **wildcards)
            if CONFIG.has_classifier(wildcards.dataset)
            else []
        ),
        weights=lambda wildcards: (
            [] if wildcards.model == REAL else trained_weights(wildcards)
        ),
    output:
        run_path(paths.METRICS_RECORD),
    params:
        config=JOB_ARGUMENTS,
        config_hash=lambda wildcards: CONFIG.evaluation_job(
            wildcards.dataset, wildcards.model
        ).config_hash,
        inception=lambda wildcards: has_inception(wildcards.dataset),
    threads: CONFIG.threads
    resources:
        gpu=training_gpus(),
    log:
        run_path(paths.LOG, step="evaluate/{dataset}/{model}/{seed}"),
    conda:
        "../../environment.yml"
    shell:
        "python -m benchmark evaluate {params.config}"
        " --dataset {wildcards.dataset:q} --model {wildcards.model:q}"
        " --seed {wildcards.seed} 2>&1 | tee -i {log:q} >&2"


rule time:
    # Models whose times are to be compared take turns in one job. It takes every core and every
    # GPU, so that nothing of this workflow runs beside it; on a cluster a node of its own, for
    # which profiles/slurm asks.
    input:
        lambda wildcards: [
            run_path(paths.WEIGHTS, dataset=wildcards.dataset, model=model, seed=CONFIG.seeds[0])
            for model in CONFIG.trained_models
        ],
        run_path(paths.DATA),
    output:
        [run_path(paths.TIMING_RECORD, model=model) for model in CONFIG.models],
    params:
        config=JOB_ARGUMENTS,
        seed=CONFIG.seeds[0],
        config_hash=lambda wildcards: [
            CONFIG.timing_job(wildcards.dataset, model).config_hash for model in CONFIG.models
        ],
    threads: all_cores()
    resources:
        gpu=timing_gpus,
    log:
        run_path(paths.LOG, step="time/{device}/{dataset}"),
    conda:
        "../../environment.yml"
    shell:
        "python -m benchmark time {params.config} --dataset {wildcards.dataset:q}"
        " --seed {params.seed} --device {wildcards.device} 2>&1 | tee -i {log:q} >&2"
