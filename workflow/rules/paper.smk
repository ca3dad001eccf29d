# Each table and figure lists its own script and the records that it shows as its inputs.


rule quality_table:
    input:
        metrics_records(),
        per_job(paths.TRAINING_RECORD),
        script=REPOSITORY / "paper_figures/quality.py",
    output:
        expand(run_path(paths.TABLE), table="quality", format=["csv", "md", "tex"]),
    params:
        command=PAPER_FIGURES("quality"),
    log:
        log_path("quality_table"),
    conda:
        "../../environment.yml"
    shell:
        "{params.command} 2>&1 | tee {log:q} >&2"


rule timing_table:
    input:
        timing_records(),
        script=REPOSITORY / "paper_figures/timing.py",
    output:
        expand(run_path(paths.TABLE), table="timing", format=["csv", "md", "tex"]),
    params:
        command=PAPER_FIGURES("timing"),
    log:
        log_path("timing_table"),
    conda:
        "../../environment.yml"
    shell:
        "{params.command} 2>&1 | tee {log:q} >&2"


rule sample_grids:
    input:
        lambda wildcards: [
            run_path(paths.SAMPLES, dataset=wildcards.dataset, model=model, seed=CONFIG.seeds[0])
            for model in [REAL, *CONFIG.models]
        ],
        script=REPOSITORY / "paper_figures/sample_grids.py",
    output:
        expand(run_path(paths.FIGURE, figure="samples_{{dataset}}"), format=["pdf", "png"]),
    params:
        command=PAPER_FIGURES("sample_grids"),
    log:
        log_path("sample_grids", "dataset"),
    conda:
        "../../environment.yml"
    shell:
        "{params.command} --dataset {wildcards.dataset:q} 2>&1 | tee {log:q} >&2"


rule loss_curves:
    input:
        expand(
            run_path(paths.HISTORY, dataset="{{dataset}}"),
            model=CONFIG.models,
            seed=CONFIG.seeds,
        ),
        script=REPOSITORY / "paper_figures/loss_curves.py",
    output:
        expand(run_path(paths.FIGURE, figure="loss_{{dataset}}"), format=["pdf", "png"]),
    params:
        command=PAPER_FIGURES("loss_curves"),
    log:
        log_path("loss_curves", "dataset"),
    conda:
        "../../environment.yml"
    shell:
        "{params.command} --dataset {wildcards.dataset:q} 2>&1 | tee {log:q} >&2"


rule prior_densities:
    input:
        run_path(paths.DIAGNOSTICS, seed=CONFIG.seeds[0]),
        script=REPOSITORY / "paper_figures/prior_densities.py",
    output:
        expand(
            run_path(paths.FIGURE, figure="prior_{{dataset}}_{{model}}"), format=["pdf", "png"]
        ),
    params:
        command=PAPER_FIGURES("prior_densities"),
    log:
        log_path("prior_densities", "dataset", "model"),
    conda:
        "../../environment.yml"
    shell:
        "{params.command} --dataset {wildcards.dataset:q} --model {wildcards.model:q}"
        " 2>&1 | tee {log:q} >&2"
