# The whole reproduction: data, training, sampling, evaluation, timing, tables and figures.
#
#   snakemake --cores all                                     the paper (config/paper.yaml)
#   snakemake --cores all --configfile config/demo.yaml       the demo, every model, five minutes
#   snakemake --cores all --configfile config/cpu.yaml        MNIST and Fashion-MNIST on a CPU

#   snakemake --report report.html --configfile ...           what is there, as one HTML file

report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/inspection.smk"
include: "workflow/rules/paper.smk"


rule all:
    default_target: True
    input:
        tables(),
        figures(),
        explorer(),
