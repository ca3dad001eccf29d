# One rule for each table, figure and page, as its own module in paper_figures/ declares it.
#
# One command draws those of all models: starting Python takes longer than drawing one.

from paper_figures.artefacts import ARTEFACTS


def drawn_from(artefact):
    """The files of jobs that it is made from; one of others, or with other words, is made anew."""

    def files(wildcards):
        if not artefact.is_drawn(CONFIG, **wildcards):
            do_anew([run_path(paths.DRAWN, step=artefact.log).format(**wildcards)])
        return [str(path) for path in artefact.inputs(CONFIG, finds_gpu(), **wildcards)]

    return files


def drawn(artefact, places):
    """Its files, wildcards in place of what its command is told; one format is for the report."""
    wildcards = {name: f"{{{name}}}" for name in artefact.arguments}
    for model in dict.fromkeys(place.get("model") for place in places):
        filled = wildcards | ({"model": model} if model else {})
        labels = {"name": artefact.title, **filled}
        for path in map(str, artefact.paths(CONFIG.run, **filled)):
            if path.endswith(artefact.shown):
                yield report(
                    path,
                    caption="../report/caption.rst",
                    category=artefact.category,
                    labels=labels,
                )
            else:
                yield path


def rendered():
    """The files of all tables, figures and pages of the run."""
    return [
        str(path)
        for artefact in ARTEFACTS.values()
        for place in artefact.places(CONFIG, finds_gpu())
        for path in artefact.paths(CONFIG.run, **place)
    ]


for artefact in ARTEFACTS.values():
    places = artefact.places(CONFIG, finds_gpu())
    if not places:
        continue

    rule:
        name:
            artefact.command
        input:
            drawn_from(artefact),
            sources=[os.path.relpath(REPOSITORY / file) for file in artefact.sources],
        output:
            list(drawn(artefact, places)),
            run_path(paths.DRAWN, step=artefact.log),
        params:
            name=artefact.command,
            config=RENDER_ARGUMENTS,
            chosen=lambda wildcards: " ".join(f"--{k} {v}" for k, v in wildcards.items()),
            caption=lambda wildcards, text=artefact.caption: text.format(**wildcards),
        log:
            run_path(paths.LOG, step=artefact.log),
        localrule: True
        conda:
            "../../environment.yml"
        shell:
            "python -m paper_figures {params.name} {params.config} {params.chosen}"
            " 2>&1 | tee -i {log:q} >&2"
