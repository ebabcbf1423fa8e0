"""What disturbed a block of calls, and from where on it counts as disturbed."""

from __future__ import annotations

from benchbox.machine import environment
from benchbox.schema.seen import Block

# Measured over 240 blocks on two shared cores: with nothing else running, others use 0 to 6 % (the
# kernel's ticks are coarse) and latencies stay within 15 %; with a busy neighbour 28 to 86 %, and up to
# three times the latency. Steal of 1 to 2 % is the background of a virtual machine.
_DISTURBING_OTHERS = 0.10
_DISTURBING_STEAL = 0.05


def disturbance(block: Block, cores: int) -> str:
    """What disturbed a block, in words; empty where nothing did, or where the kernel does not tell.

    `cores` is on how many the load of others was seen; shares are of all of them.
    """
    available = cores * (block.first_ns + sum(block.latencies_ns)) / 1e9
    others = (block.noise.others_cpu_seconds or 0.0) / available
    steal = (block.noise.steal_seconds or 0.0) / available
    if block.noise.throttle_count:
        return f"the CPU throttled {block.noise.throttle_count} times"
    if said := environment.throttled(block.noise):
        return said
    if others > _DISTURBING_OTHERS:
        return f"other processes used {others:.0%} of the CPU"
    if steal > _DISTURBING_STEAL:
        return f"the hypervisor took {steal:.0%} of the CPU"
    return ""
