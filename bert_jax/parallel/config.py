"""Options for how devices and processes share the work."""

import dataclasses
from dataclasses import field

from bert_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """The size of each axis of the mesh; their product is the number of devices.

    Attributes:
      data: copies of the model, each with its share of the batch; -1 takes the devices left over.
      fsdp: devices that split the batch as well as parameters, gradients and optimizer state,
        which are gathered layer by layer when they are needed; -1 as above.
      tensor: devices that split each layer's heads, feed-forward width and the vocabulary; -1 as
        above.
    """

    data: int = -1
    fsdp: int = 1
    tensor: int = 1

    def validate(self) -> None:
        """Refuses sizes that are not numbers of devices, and more than one -1."""
        sizes = dataclasses.asdict(self)
        for name, size in sizes.items():
            if size < 1 and size != -1:
                raise UserError(f"mesh.{name} is {size}; it must be positive, or -1 for the rest")
        free = [name for name, size in sizes.items() if size == -1]
        if len(free) > 1:
            raise UserError(
                f"mesh.{' and mesh.'.join(free)} are -1; only one axis can take the devices left"
            )


@dataclasses.dataclass(frozen=True)
class DistributedConfig:
    """How the processes of a run find each other; by default a run is a single process.

    Attributes:
      auto: take coordinator, processes and process from the environment: Cloud TPU VMs, Slurm,
        Open MPI, Kubernetes.
      coordinator: HOST:PORT at which process 0 listens.
      processes: number of processes.
      process: number of this process, counted from 0.
      timeout: seconds to wait for the others at the start, and after the last sign of life of one
        that may be dead.
    """

    auto: bool = False
    coordinator: str = ""
    processes: int | None = field(default=None, metadata={"interval": "[1, inf)"})
    process: int | None = None
    timeout: int = field(default=120, metadata={"interval": "[10, inf)"})

    def validate(self) -> None:
        """Refuses options that are incomplete or contradict each other."""
        names = ("coordinator", "processes", "process")
        options = {f"--distributed.{name}": getattr(self, name) for name in names}
        given = [option for option, value in options.items() if value not in ("", None)]
        lacking = [option for option in options if option not in given]
        if self.auto and given:
            raise UserError(
                f"--distributed.auto takes everything from the environment; leave out "
                f"{', '.join(given)}, or --distributed.auto"
            )
        if given and lacking:
            raise UserError(f"{', '.join(given)} needs {' and '.join(lacking)} as well")
        if not given:
            return
        assert self.processes is not None
        assert self.process is not None
        if not 0 <= self.process < self.processes:
            raise UserError(
                f"distributed.process is {self.process}; it must be between 0 and "
                f"{self.processes - 1}, as distributed.processes is {self.processes}"
            )
        self.address()

    def address(self) -> tuple[str, int]:
        """Host and port of the coordinator."""
        host, _, port = self.coordinator.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
            raise UserError(
                f"distributed.coordinator is {self.coordinator!r}; it must be HOST:PORT, such as "
                "10.0.0.1:8476"
            )
        return host.strip("[]"), int(port)
