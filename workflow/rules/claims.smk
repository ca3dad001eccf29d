rule claims:
    # The paper's claims, judged on every record of the run.
    input:
        metrics_records(),
        timing_records(),
        per_job(paths.TRAINING_RECORD, CONFIG.trained_models),
        config=[os.path.relpath(REPOSITORY / f"config/{f}.yaml") for f in ("claims", "gates")],
        judges=[os.path.relpath(REPOSITORY / f"benchmark/claims/{f}.py") for f in ("judge", "gates")],
    output:
        verdicts(),
    params:
        config=RENDER_ARGUMENTS,
        wording=CONFIG.wording,
    log:
        run_path(paths.LOG, step="claims"),
    conda:
        "../../environment.yml"
    shell:
        "python -m benchmark claims {params.config} 2>&1 | tee -i {log:q} >&2"
