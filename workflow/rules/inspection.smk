# What a trained KAEM has learned, as files that figures are drawn from, and those figures.
#
# One rule draws a kind of figure for all models of a dataset: starting Python takes longer than
# drawing one.


rule independence_table:
    input:
        independence_records(),
        script=renderer("tables/independence"),
    output:
        shown_table("independence"),
    params:
        config=RENDER_ARGUMENTS,
        wording=CONFIG.wording,
    log:
        run_path(paths.LOG, step="independence_table"),
    conda:
        "../../environment.yml"
    shell:
        "python -m paper_figures independence {params.config} 2>&1 | tee -i {log:q} >&2"


rule training_health:
    input:
        expand(
            run_path(paths.HISTORY, dataset="{{dataset}}"),
            model=CONFIG.inspected_models,
            seed=CONFIG.seeds,
        ),
        script=renderer("figures/training_health"),
    output:
        shown_figure(
            "health_{dataset}", "health", "Training", figure="health", dataset="{dataset}"
        ),
    params:
        config=RENDER_ARGUMENTS,
        wording=CONFIG.wording,
    log:
        run_path(paths.LOG, step="training_health/{dataset}"),
    conda:
        "../../environment.yml"
    shell:
        "python -m paper_figures training_health {params.config}"
        " --dataset {wildcards.dataset:q}"
        " 2>&1 | tee -i {log:q} >&2"


rule prior_posterior:
    input:
        inspected(),
        script=renderer("figures/prior_posterior"),
    output:
        [
            shown_figure(
                f"posterior_{{dataset}}_{model}",
                "posterior",
                "Latents",
                figure="posterior",
                dataset="{dataset}",
                model=model,
            )
            for model in CONFIG.inspected_models
        ],
    params:
        config=RENDER_ARGUMENTS,
        wording=CONFIG.wording,
    log:
        run_path(paths.LOG, step="prior_posterior/{dataset}"),
    conda:
        "../../environment.yml"
    shell:
        "python -m paper_figures prior_posterior {params.config}"
        " --dataset {wildcards.dataset:q}"
        " 2>&1 | tee -i {log:q} >&2"


rule traversals:
    input:
        inspected(),
        script=renderer("figures/traversals"),
    output:
        [
            shown_figure(
                f"traversals_{{dataset}}_{model}",
                "traversals",
                "Latents",
                figure="traversals",
                dataset="{dataset}",
                model=model,
            )
            for model in CONFIG.inspected_models
        ],
    params:
        config=RENDER_ARGUMENTS,
        wording=CONFIG.wording,
    log:
        run_path(paths.LOG, step="traversals/{dataset}"),
    conda:
        "../../environment.yml"
    shell:
        "python -m paper_figures traversals {params.config}"
        " --dataset {wildcards.dataset:q}"
        " 2>&1 | tee -i {log:q} >&2"


rule latents:
    input:
        inspected(),
        script=renderer("figures/latents"),
    output:
        [
            shown_figure(
                f"latents_{{dataset}}_{model}",
                "latents",
                "Latents",
                figure="latents",
                dataset="{dataset}",
                model=model,
            )
            for model in CONFIG.inspected_models
        ],
    params:
        config=RENDER_ARGUMENTS,
        wording=CONFIG.wording,
    log:
        run_path(paths.LOG, step="latents/{dataset}"),
    conda:
        "../../environment.yml"
    shell:
        "python -m paper_figures latents {params.config}"
        " --dataset {wildcards.dataset:q}"
        " 2>&1 | tee -i {log:q} >&2"


rule power_posteriors:
    input:
        run_path(paths.POWER),
        run_path(paths.POWER_RECORD),
        script=renderer("figures/power_posteriors"),
    output:
        shown_figure(
            "power_posteriors",
            "power",
            "Latents",
            figure="power posteriors",
            dataset="made up",
            model="one latent",
        ),
    params:
        config=RENDER_ARGUMENTS,
        wording=CONFIG.wording,
    log:
        run_path(paths.LOG, step="power_posteriors"),
    conda:
        "../../environment.yml"
    shell:
        "python -m paper_figures power_posteriors {params.config}"
        " 2>&1 | tee -i {log:q} >&2"


rule explorer:
    input:
        [
            run_path(pattern, dataset=dataset, model=model, seed=CONFIG.seeds[0])
            for pattern in (paths.INSPECTION, paths.INSPECTION_RECORD)
            for dataset in CONFIG.datasets
            for model in CONFIG.inspected_models
        ],
        script=renderer("figures/explorer"),
        page=os.path.relpath(REPOSITORY / "paper_figures/figures/explorer.html"),
    output:
        report(
            run_path(paths.EXPLORER),
            caption="../report/explorer.rst",
            category="Latents",
            labels={"figure": "explorer", "dataset": "all", "model": "all"},
        ),
    params:
        config=RENDER_ARGUMENTS,
        wording=CONFIG.wording,
    log:
        run_path(paths.LOG, step="explorer"),
    conda:
        "../../environment.yml"
    shell:
        "python -m paper_figures explorer {params.config} 2>&1 | tee -i {log:q} >&2"
