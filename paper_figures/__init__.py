"""Tables and figures of the paper, one module each, rendered from records alone."""

import os

# Files alone are drawn: what a notebook or a desktop sets may not be there, and matplotlib then
# refuses to be imported.
os.environ["MPLBACKEND"] = "Agg"
