"""The models that KAEM is compared with.

They share its decoders, likelihood, check of images, random numbers and temperatures.
"""
