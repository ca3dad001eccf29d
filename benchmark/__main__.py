import sys

from benchmark.run.fork_server import hand_over

code = hand_over("benchmark")
if code is None:
    from benchmark.cli import main

    code = main()
sys.exit(code)
