# What computes: one rule for each kind of job, from the table in benchmark/config/jobs.py.
#
# A record says by which settings and from which images it was made; where these are others now, it
# is made anew (`sources`). So a changed learning rate reruns its own model and leaves the rest alone.


rule data:
    # First everything that the run needs, whose lack ends the job of every dataset before anything
    # trains; then every image of this one against the committed digests.
    input:
        sources("data"),
    output:
        run_path(paths.DATA),
    params:
        config=RENDER_ARGUMENTS,
    resources:
        gpu=checking_gpus(),
    log:
        run_path(paths.LOG, step=KINDS["data"].log),
    conda:
        "../../environment.yml"
    shell:
        "python -m benchmark preflight {params.config} --whole --dataset {wildcards.dataset:q}"
        " 2>&1 | tee -i {log:q} >&2"


for kind in ("classifier", "training", "sampling", "metrics", "inspection", "power"):

    rule:
        name:
            "classifier" if kind == "classifier" else KINDS[kind].step
        input:
            sources(kind),
        output:
            **{name: run_path(pattern) for name, pattern in KINDS[kind].files.items()},
        params:
            config=JOB_ARGUMENTS,
            step=KINDS[kind].step,
            names=named(kind),
        threads: CONFIG.threads
        resources:
            gpu=0 if kind == "power" else training_gpus(),
        log:
            run_path(paths.LOG, step=KINDS[kind].log),
        conda:
            "../../environment.yml"
        shell:
            "python -m benchmark {params.step} {params.config} {params.names}"
            " 2>&1 | tee -i {log:q} >&2"


rule time:
    # Models whose times are to be compared take turns in one job. It takes every core and every
    # GPU, so that nothing of this workflow runs beside it; on a cluster a node of its own, for
    # which profiles/slurm asks. Its process is its own too, so that the cores are set anew.
    input:
        sources("timing"),
    output:
        [run_path(paths.TIMING_RECORD, model=model) for model in CONFIG.models],
    params:
        config=JOB_ARGUMENTS,
        seed=CONFIG.seeds[0],
    threads: all_cores()
    resources:
        gpu=timing_gpus,
    log:
        run_path(paths.LOG, step=KINDS["timing"].log),
    conda:
        "../../environment.yml"
    shell:
        "KAEM_FORK_SERVER= python -m benchmark time {params.config} --dataset {wildcards.dataset:q}"
        " --seed {params.seed} --device {wildcards.device} 2>&1 | tee -i {log:q} >&2"


rule claims:
    # The paper's claims, judged on every record of the run.
    input:
        judged,
        config=[os.path.relpath(REPOSITORY / f"config/{f}.yaml") for f in ("claims", "gates")],
        judges=[
            os.path.relpath(REPOSITORY / f"benchmark/claims/{f}.py")
            for f in ("claims", "estimates", "gates", "judge", "report")
        ],
    output:
        verdicts(),
    params:
        config=RENDER_ARGUMENTS,
    log:
        run_path(paths.LOG, step="claims"),
    conda:
        "../../environment.yml"
    shell:
        "python -m benchmark claims {params.config} 2>&1 | tee -i {log:q} >&2"
