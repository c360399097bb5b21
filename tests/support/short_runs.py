"""How the tests' small models are trained: a few steps in float32, quickly"""

import torch

from recap_spark.trainers.optimisation import Optimisation

SHORT = Optimisation(
    steps=3,
    batch_size=2,
    peak_rate=1e-2,
    warmup_steps=1,
    weight_decay=0.0,
    beta2=0.98,
    clip_norm=1.0,
    precision=torch.float32,
    log_every=100,
)
