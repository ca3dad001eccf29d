import sys

from benchmark.run.fork_server import hand_over

code = hand_over("paper_figures")
if code is None:
    from paper_figures.cli import main

    code = main()
sys.exit(code)
