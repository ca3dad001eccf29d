"""The benchmark: data, training, sampling, evaluation and timing, one record per measurement."""
