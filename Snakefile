# The whole reproduction: data, training, sampling, evaluation, timing, tables, figures and claims.
#
#   snakemake --cores all                                     the paper (config/paper.yaml)
#   snakemake --cores all --configfile config/demo.yaml       the demo, seven models, in minutes
#   snakemake --cores all --configfile config/cpu.yaml        MNIST and Fashion-MNIST on a CPU
#   snakemake --cores all verify                              the published results, checked here
#   snakemake --cores all figures                             from the published records alone
#   snakemake --profile profiles/slurm --configfile ...       on a cluster, see docs/guide/cluster.md
#   snakemake --report report.html --configfile ...           what is there, as one HTML file

report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/compute.smk"
include: "workflow/rules/render.smk"


onsuccess:
    page = Path(run_path(f"{paths.RUN}/index.html"))
    if page.exists():
        print(f"All of run {CONFIG.run} on one page: {page}", file=sys.stderr)


onerror:
    if on_cluster():
        status = f"python -m benchmark status {RENDER_ARGUMENTS(None, None)}"
        print(f"What failed, and the end of its log: {status}", file=sys.stderr)


# On a cluster, what only draws and judges runs where Snakemake does: a queue takes longer.
localrules:
    all,
    verify,
    figures,
    claims,


rule all:
    default_target: True
    input:
        rendered(),
        verdicts(),


rule verify:
    # What can be checked of results/published/ in two minutes: no data, no training.
    log:
        "results/verify.log",
    conda:
        "environment.yml"
    threads: all_cores()
    shell:
        "python -m benchmark verify 2>&1 | tee -i {log:q} >&2"


rule figures:
    # Everything that can be shown of results/published/: no data, no weights, no training.
    log:
        "results/figures.log",
    conda:
        "environment.yml"
    shell:
        "python -m paper_figures published 2>&1 | tee -i {log:q} >&2"
