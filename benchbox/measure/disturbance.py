"""What disturbed a block of calls so that none of them counts, in words."""

from __future__ import annotations

from benchbox.machine import environment
from benchbox.numerics import calm
from benchbox.schema.seen import Block

# Where the kernel does not tell who waited. Measured over 240 blocks on two shared cores: with nothing else
# running, others use 0 to 6 % (the kernel's ticks are coarse) and latencies stay within 15 %; with a busy
# neighbour 28 to 86 %, and up to three times the latency. Steal of 1 to 2 % is the background of a virtual
# machine.
_DISTURBING_OTHERS = 0.10
_DISTURBING_STEAL = 0.05


def disturbance(block: Block, cores: int) -> str:
    """What disturbed all calls of a block, in words; empty where nothing did, or where the kernel does not
    tell.

    `cores` is on how many the load of others was seen; shares are of all of them.
    """
    noise = block.noise
    lasted = ((block.first_ns or 0) + sum(block.latencies_ns)) / 1e9
    others = (noise.others_cpu_seconds or 0.0) / (cores * lasted)
    steal = (noise.steal_seconds or 0.0) / (cores * lasted)
    if noise.throttle_count:
        return f"the CPU throttled {noise.throttle_count} times"
    if said := environment.throttled(noise):
        return said
    if noise.stopped_count:
        return "the process was stopped for a while"
    if steal > _DISTURBING_STEAL:
        return f"the hypervisor took {steal:.0%} of the CPU"
    if block.waited_ns:
        return _held_up(block, others)
    return f"other processes used {others:.0%} of the CPU" if others > _DISTURBING_OTHERS else ""


def _held_up(block: Block, others: float) -> str:
    """Where no call is calm: how long a thread waited for a core, and how much others used."""
    if not calm.is_disturbed(block):
        return ""
    waited = sum(block.waited_ns) / sum(block.latencies_ns)
    return (
        f"a thread waited {waited:.0%} of the time for a core; other processes used {others:.0%} of the CPU"
    )
