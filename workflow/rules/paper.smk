# Each table and figure lists its own script and the records that it shows as its inputs.


rule quality_table:
    input:
        metrics_records(),
        per_job(paths.TRAINING_RECORD, CONFIG.trained_models),
        script=renderer("quality"),
        gates=[os.path.relpath(REPOSITORY / f) for f in ("config/gates.yaml", "benchmark/gates.py")],
    output:
        shown_table("quality"),
    params:
        config=RENDER_ARGUMENTS,
        wording=CONFIG.wording,
    log:
        run_path(paths.LOG, step="quality_table"),
    conda:
        "../../environment.yml"
    shell:
        "python -m paper_figures quality {params.config} 2>&1 | tee {log:q} >&2"


rule timing_table:
    input:
        timing_records(),
        script=renderer("timing"),
    output:
        shown_table("timing"),
    params:
        config=RENDER_ARGUMENTS,
        wording=CONFIG.wording,
    log:
        run_path(paths.LOG, step="timing_table"),
    conda:
        "../../environment.yml"
    shell:
        "python -m paper_figures timing {params.config} 2>&1 | tee {log:q} >&2"


rule sample_grids:
    input:
        lambda wildcards: [
            run_path(paths.SAMPLES, dataset=wildcards.dataset, model=model, seed=CONFIG.seeds[0])
            for model in [REAL, *CONFIG.evaluated_models]
        ],
        script=renderer("sample_grids"),
    output:
        shown_figure("samples_{dataset}", "samples", "Samples", dataset="{dataset}"),
    params:
        config=RENDER_ARGUMENTS,
        wording=CONFIG.wording,
    log:
        run_path(paths.LOG, step="sample_grids/{dataset}"),
    conda:
        "../../environment.yml"
    shell:
        "python -m paper_figures sample_grids {params.config}"
        " --dataset {wildcards.dataset:q} 2>&1 | tee {log:q} >&2"


rule loss_curves:
    input:
        expand(
            run_path(paths.HISTORY, dataset="{{dataset}}"),
            model=CONFIG.trained_models,
            seed=CONFIG.seeds,
        ),
        script=renderer("loss_curves"),
    output:
        shown_figure(
            "loss_{dataset}", "loss", "Training", figure="loss", dataset="{dataset}"
        ),
    params:
        config=RENDER_ARGUMENTS,
        wording=CONFIG.wording,
    log:
        run_path(paths.LOG, step="loss_curves/{dataset}"),
    conda:
        "../../environment.yml"
    shell:
        "python -m paper_figures loss_curves {params.config}"
        " --dataset {wildcards.dataset:q} 2>&1 | tee {log:q} >&2"


rule prior_densities:
    input:
        run_path(paths.DIAGNOSTICS, seed=CONFIG.seeds[0]),
        script=renderer("prior_densities"),
    output:
        shown_figure(
            "prior_{dataset}_{model}",
            "prior",
            "Latents",
            figure="prior",
            dataset="{dataset}",
            model="{model}",
        ),
    params:
        config=RENDER_ARGUMENTS,
        wording=CONFIG.wording,
    log:
        run_path(paths.LOG, step="prior_densities/{dataset}/{model}"),
    conda:
        "../../environment.yml"
    shell:
        "python -m paper_figures prior_densities {params.config}"
        " --dataset {wildcards.dataset:q} --model {wildcards.model:q}"
        " 2>&1 | tee {log:q} >&2"
