# The whole reproduction: data, training, sampling, evaluation, timing, tables, figures and claims.
#
#   snakemake --cores all                                     the paper (config/paper.yaml)
#   snakemake --cores all --configfile config/demo.yaml       the demo, every model, five minutes
#   snakemake --cores all --configfile config/cpu.yaml        MNIST and Fashion-MNIST on a CPU

include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/paper.smk"
include: "workflow/rules/claims.smk"


rule all:
    default_target: True
    input:
        tables(),
        figures(),
        verdicts(),
