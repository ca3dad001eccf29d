"""Independent implementations that the tests compare the package with.

Written for plainness, in float64, and sharing no code with `kaem` or `baselines`: densities
from their definition, quadrature, the exact posterior of a toy model, and known-faulty
samplers that the tests have to reject.
"""
