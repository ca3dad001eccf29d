# Each table and figure lists its own script and the records that it shows as its inputs.


rule quality_table:
    input:
        metrics_records(),
        per_job(paths.TRAINING_RECORD, CONFIG.trained_models),
        script=renderer("tables/quality"),
        gates=[os.path.relpath(REPOSITORY / f) for f in ("config/gates.yaml", "benchmark/claims/gates.py")],
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
        "python -m paper_figures quality {params.config} 2>&1 | tee -i {log:q} >&2"


rule timing_table:
    input:
        timing_records(),
        script=renderer("tables/timing"),
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
        "python -m paper_figures timing {params.config} 2>&1 | tee -i {log:q} >&2"


rule cost_table:
    input:
        timing_records(),
        per_job(paths.TRAINING_RECORD, CONFIG.trained_models),
        script=renderer("tables/cost"),
    output:
        shown_table("cost"),
    params:
        config=RENDER_ARGUMENTS,
        wording=CONFIG.wording,
    log:
        run_path(paths.LOG, step="cost_table"),
    conda:
        "../../environment.yml"
    shell:
        "python -m paper_figures cost {params.config} 2>&1 | tee -i {log:q} >&2"


rule reported_table:
    # It uses no data; but a run that lacks some is to end before anything is written.
    input:
        expand(run_path(paths.DATA), dataset=CONFIG.datasets),
        script=renderer("tables/reported"),
        values=os.path.relpath(REPOSITORY / "config/reported.yaml"),
    output:
        shown_table("reported"),
    params:
        config=RENDER_ARGUMENTS,
    log:
        run_path(paths.LOG, step="reported_table"),
    conda:
        "../../environment.yml"
    shell:
        "python -m paper_figures reported {params.config} 2>&1 | tee -i {log:q} >&2"


rule tradeoff:
    input:
        metrics_records(),
        timing_records(),
        script=renderer("figures/tradeoff"),
    output:
        shown_figure(
            "tradeoff_{device}", "tradeoff", "Quality", figure="tradeoff", device="{device}"
        ),
    params:
        config=RENDER_ARGUMENTS,
        wording=CONFIG.wording,
    log:
        run_path(paths.LOG, step="tradeoff/{device}"),
    conda:
        "../../environment.yml"
    shell:
        "python -m paper_figures tradeoff {params.config}"
        " --device {wildcards.device} 2>&1 | tee -i {log:q} >&2"


rule inductive_bias:
    input:
        metrics_records(),
        script=renderer("figures/inductive_bias"),
    output:
        shown_figure("inductive_bias", "inductive_bias", "Quality", figure="inductive bias"),
    params:
        config=RENDER_ARGUMENTS,
        wording=CONFIG.wording,
    log:
        run_path(paths.LOG, step="inductive_bias"),
    conda:
        "../../environment.yml"
    shell:
        "python -m paper_figures inductive_bias {params.config} 2>&1 | tee -i {log:q} >&2"


rule sample_grids:
    input:
        lambda wildcards: [
            run_path(paths.SAMPLES, dataset=wildcards.dataset, model=model, seed=CONFIG.seeds[0])
            for model in [REAL, *CONFIG.evaluated_models]
        ],
        script=renderer("figures/sample_grids"),
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
        " --dataset {wildcards.dataset:q} 2>&1 | tee -i {log:q} >&2"


rule loss_curves:
    input:
        expand(
            run_path(paths.HISTORY, dataset="{{dataset}}"),
            model=CONFIG.trained_models,
            seed=CONFIG.seeds,
        ),
        script=renderer("figures/loss_curves"),
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
        " --dataset {wildcards.dataset:q} 2>&1 | tee -i {log:q} >&2"


rule prior_densities:
    input:
        run_path(paths.DIAGNOSTICS, seed=CONFIG.seeds[0]),
        script=renderer("figures/prior_densities"),
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
        " 2>&1 | tee -i {log:q} >&2"
