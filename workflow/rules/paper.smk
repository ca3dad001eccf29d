# Each table and figure lists its own script and the records that it shows as its inputs.


rule quality_table:
    input:
        metrics_records(),
        per_job(paths.TRAINING_RECORD, CONFIG.trained_models),
        script=renderer("quality"),
        gates=[os.path.relpath(REPOSITORY / f) for f in ("config/gates.yaml", "benchmark/gates.py")],
    output:
        table_files("quality"),
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
        table_files("timing"),
    params:
        config=RENDER_ARGUMENTS,
        wording=CONFIG.wording,
    log:
        run_path(paths.LOG, step="timing_table"),
    conda:
        "../../environment.yml"
    shell:
        "python -m paper_figures timing {params.config} 2>&1 | tee {log:q} >&2"


rule cost_table:
    input:
        timing_records(),
        per_job(paths.TRAINING_RECORD, CONFIG.trained_models),
        script=renderer("cost"),
    output:
        table_files("cost"),
    params:
        config=RENDER_ARGUMENTS,
        wording=CONFIG.wording,
    log:
        run_path(paths.LOG, step="cost_table"),
    conda:
        "../../environment.yml"
    shell:
        "python -m paper_figures cost {params.config} 2>&1 | tee {log:q} >&2"


rule reported_table:
    input:
        script=renderer("reported"),
        values=os.path.relpath(REPOSITORY / "config/reported.yaml"),
    output:
        expand(run_path(paths.TABLE), table="reported", format=["csv", "md", "tex"]),
    params:
        config=RENDER_ARGUMENTS,
    log:
        run_path(paths.LOG, step="reported_table"),
    conda:
        "../../environment.yml"
    shell:
        "python -m paper_figures reported {params.config} 2>&1 | tee {log:q} >&2"


rule tradeoff:
    input:
        metrics_records(),
        timing_records(),
        script=renderer("tradeoff"),
    output:
        expand(run_path(paths.FIGURE, figure="tradeoff_{{device}}"), format=["pdf", "png"]),
    params:
        config=RENDER_ARGUMENTS,
        wording=CONFIG.wording,
    log:
        run_path(paths.LOG, step="tradeoff/{device}"),
    conda:
        "../../environment.yml"
    shell:
        "python -m paper_figures tradeoff {params.config}"
        " --device {wildcards.device} 2>&1 | tee {log:q} >&2"


rule inductive_bias:
    input:
        metrics_records(),
        script=renderer("inductive_bias"),
    output:
        expand(run_path(paths.FIGURE, figure="inductive_bias"), format=["pdf", "png"]),
    params:
        config=RENDER_ARGUMENTS,
        wording=CONFIG.wording,
    log:
        run_path(paths.LOG, step="inductive_bias"),
    conda:
        "../../environment.yml"
    shell:
        "python -m paper_figures inductive_bias {params.config} 2>&1 | tee {log:q} >&2"


rule sample_grids:
    input:
        lambda wildcards: [
            run_path(paths.SAMPLES, dataset=wildcards.dataset, model=model, seed=CONFIG.seeds[0])
            for model in [REAL, *CONFIG.evaluated_models]
        ],
        script=renderer("sample_grids"),
    output:
        expand(run_path(paths.FIGURE, figure="samples_{{dataset}}"), format=["pdf", "png"]),
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
        expand(run_path(paths.FIGURE, figure="loss_{{dataset}}"), format=["pdf", "png"]),
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
        expand(
            run_path(paths.FIGURE, figure="prior_{{dataset}}_{{model}}"), format=["pdf", "png"]
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
