# The whole reproduction: data, training, sampling, evaluation, timing, tables, figures and claims.
#
#   snakemake --cores all                                     the paper (config/paper.yaml)
#   snakemake --cores all --configfile config/demo.yaml       the demo, every model, nine minutes
#   snakemake --cores all --configfile config/cpu.yaml        MNIST and Fashion-MNIST on a CPU
#   snakemake --cores all figures                             from the published records alone
#   snakemake --report report.html --configfile ...           what is there, as one HTML file

report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/inspection.smk"
include: "workflow/rules/paper.smk"
include: "workflow/rules/claims.smk"


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
