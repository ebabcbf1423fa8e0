"""What flows through benchbox: frozen values that know no pandas, no printing and no disk.

`asked` is what a suite asks for, `seen` what was seen of it, `tensors` what a graph takes and gives; `paths`
says where local files lie. What was seen is stored (`latencies_ns`), what is said of it (`p50`, intervals) is
derived elsewhere. Times are integers in nanoseconds, sizes integers in bytes, durations floats in seconds.
Only the standard library, and what needs no more, is imported here, because a worker in a foreign interpreter
does.
"""
