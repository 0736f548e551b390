"""Parameter groups, optimizers, regularizers, averages of weights and learning-rate schedules."""
