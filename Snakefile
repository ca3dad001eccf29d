# The whole reproduction: data, training, sampling, evaluation, timing, tables, figures and claims.
#
#   snakemake --cores all                                     the paper (config/paper.yaml)
#   snakemake --cores all --configfile config/demo.yaml       the demo, every model, five minutes
#   snakemake --cores all --configfile config/cpu.yaml        MNIST and Fashion-MNIST on a CPU
#   snakemake --cores all figures                             from the published records alone
#   snakemake --profile profiles/slurm --configfile ...       on a cluster, see docs/guide/cluster.md
#   snakemake --report report.html --configfile ...           what is there, as one HTML file

report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/compute.smk"
include: "workflow/rules/inspection.smk"
include: "workflow/rules/paper.smk"


onerror:
    if on_cluster():
        status = f"python -m benchmark status {RENDER_ARGUMENTS({})}"
        print(f"What failed, and the end of its log: {status}", file=sys.stderr)


# On a cluster, what only draws runs where Snakemake does: it takes seconds, a queue takes longer.
localrules:
    all,
    figures,
    claims,
    quality_table,
    timing_table,
    cost_table,
    independence_table,
    reported_table,
    tradeoff,
    inductive_bias,
    sample_grids,
    loss_curves,
    prior_densities,
    training_health,
    prior_posterior,
    traversals,
    latents,
    power_posteriors,
    explorer,


rule all:
    default_target: True
    input:
        tables(),
        figures(),
        explorer(),
        verdicts(),


rule figures:
    # Everything that can be shown of results/published/: no data, no weights, no training.
    log:
        "results/figures.log",
    conda:
        "environment.yml"
    shell:
        "python -m paper_figures published 2>&1 | tee -i {log:q} >&2"
