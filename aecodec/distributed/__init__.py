"""More pictures than one machine holds, with Ray Data: on the cores of this machine, or on a cluster.

`Compress`, `Decompress`, `Verify`, `Latents` and `Features` are classes for `ray.data.Dataset.map_batches`; `run` is
what the command line does with ``--engine ray``. Needs the extra [ray].
"""

from .engine import cluster, run
from .stages import Compress, Decompress, Features, Latents, Verify
from .tasks import Plan, Shards

__all__ = ["Compress", "Decompress", "Features", "Latents", "Plan", "Shards", "Verify", "cluster", "run"]
