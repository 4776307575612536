"""Runs fairsale-load against a contender, and checks what it was answered."""
import dataclasses
import json
import pathlib
import tempfile

from processes import Failed, run


@dataclasses.dataclass(frozen=True)
class Load:
    connections: int = 50
    depth: int = 1
    rate: float = 0  # 0: closed loop
    weights: tuple = (("fresh", 1),)
    requests: int = 0  # 0: as many as fit into the time
    first: int = 0
    warmup: float = 0.5
    give_up: float = 0  # open loop: seconds; 0: never
    seconds: float = 0  # 0: as the command line says


def template_of(contender, role):
    return contender.read() if role == "read" else contender.purchase()


def arguments(bench, contender, load, directory, request=None):
    argv = [bench.binaries / "fairsale-load", "--port", contender.port,
            "--protocol", contender.protocol, "--connections", load.connections,
            "--depth", load.depth, "--rate", load.rate, "--warmup", load.warmup,
            "--seconds", load.seconds or bench.seconds, "--first", load.first,
            "--skus", contender.skus]
    if load.requests:
        argv += ["--requests-at-most", load.requests]
    if load.give_up:
        argv += ["--give-up", load.give_up]
    for role, weight in load.weights:
        file = pathlib.Path(directory) / role
        file.write_text(request or template_of(contender, role), newline="")
        argv += ["--request", f"{role}:{weight}:{file}"]
    return [str(a) for a in argv]


def plain_load(bench, contender, load, request=None):
    """What fairsale-load reports, unchecked but for lost answers."""
    with tempfile.TemporaryDirectory(dir=bench.directory) as directory:
        argv = arguments(bench, contender, load, directory, request)
        before = contender.cpu_seconds()
        report = json.loads(run(argv, (load.seconds or bench.seconds) + load.warmup + 60))
        report["server_cpu_seconds"] = contender.cpu_seconds() - before
    answered = sum(sum(kinds.values()) for kinds in report["whole"].values())
    report["answered"] = answered
    report["server_us_per_answer"] = 1e6 * report["server_cpu_seconds"] / max(answered, 1)
    report["client_cpu_percent"] = 100 * report["client_cpu_seconds"] / max(report["seconds"], 1e-9)
    latency = report.pop("latency_us")
    report.update({name: latency[name] for name in ("p50", "p90", "p99", "p99.9", "max")})
    return report


def check_answers(report, expected):
    """Every answer was asked for, came, and is of an expected kind."""
    if report["lost"] or report["unanswered"]:
        raise Failed(f"{report['lost']} answers lost, {report['unanswered']} never came")
    if not report["answers"]:
        raise Failed("no answer within the measured time")
    for role, kinds in report["whole"].items():
        for kind, n in kinds.items():
            digits = "*digits" in expected[role] and kind.isdigit()
            if kind not in expected[role] and not digits:
                raise Failed(f"{n} answers to {role} requests are {kind}, not "
                             f"{' or '.join(sorted(expected[role]))}")


def accepted(report, contender):
    return sum(n for kind, n in report["whole"].get("fresh", {}).items()
               if kind in contender.answers["fresh"])


def check_counts(contender, units, attempts):
    """The contender's own books agree with what it answered."""
    sold = contender.sold()
    if sold is not None and sold != units:
        raise Failed(f"{contender.name} sold {sold} units, but answered {units} times that it did")
    recorded = contender.attempts()
    if recorded is not None and recorded != attempts:
        raise Failed(f"{contender.name} recorded {recorded} attempts of {attempts}")


def measure(bench, contender, load):
    """One load over a running contender that has seen nothing else, checked."""
    report = plain_load(bench, contender, load)
    expected = dict(contender.answers)
    if contender.name != "floor" and contender.stock < 1_000_000:
        expected["fresh"] = expected["fresh"] | {contender.sold_out}
    check_answers(report, expected)
    attempts = sum(sum(report["whole"].get(role, {}).values()) for role in ("fresh", "over"))
    check_counts(contender, accepted(report, contender), attempts)
    return report


def measure_fresh(bench, contender, load):
    with contender:
        return measure(bench, contender, load)


def fill_sale(bench, contender, attempts, first=0):
    """Brings so many attempts of new customers into a running fairsaled, fast."""
    report = plain_load(bench, contender, Load(depth=16, requests=attempts, first=first, warmup=0,
                                               seconds=600))
    check_answers(report, contender.answers)
    if report["answered"] != attempts:
        raise Failed(f"only {report['answered']} of {attempts} attempts within 600 s")
    return report


