"""A verdict, for a person."""

from collections.abc import Iterator

from job.core.acceptance_records import Verdict


def page(verdict: Verdict) -> str:
    return "\n".join(lines(verdict))


def lines(verdict: Verdict) -> Iterator[str]:
    gpu, where = verdict["gpu"], verdict["node"] or verdict["host"]
    name = f"{gpu['name']} ({gpu['uuid']})" if gpu["uuid"] else gpu["name"]
    yield f"{verdict['verdict'].upper()}  {name} on {where}, {verdict['engine']}"
    for mode in verdict["modes"]:
        speed = mode["images_per_second"]
        yield (
            f"  {mode['mode']}: {mode['rounds']} rounds of {mode['steps']} steps, {speed['median']:,.0f} images/s "
            f"({speed['least']:,.0f} … {speed['greatest']:,.0f}), digest {mode['digest'][:16]}"
        )
    if verdict["bandwidth"]:
        found = verdict["bandwidth"]
        rates = (found["host_to_device_bytes_per_second"], found["device_to_host_bytes_per_second"], found["device_bytes_per_second"])
        yield "  to the device {:.1f} GB/s, back {:.1f} GB/s, on it {:.1f} GB/s".format(*(rate / 1e9 for rate in rates))
    for one in verdict["evidence"]:
        yield f"  {one['level']:<8} {one['check']}: {one['what']}"
    yield from (f"  not tested: {what}" for what in verdict["not_tested"])
