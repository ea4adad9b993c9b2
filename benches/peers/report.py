"""Turns the results of `run` into a Markdown report and a plot."""

from statistics import median

TITLES = {
    "publish": "Publish",
    "subscribe": "Subscribe",
    "request": "Requests, one after the other",
    "parallel": "Requests, 128 at a time",
}
SERVERS = {"null": "null server", "nats-server": "nats-server", "tls": "nats-server, TLS"}
NAMES = {"raw": "raw socket", "natseq-next": "natseq, `next`"}

METHOD = """\
**Method.** One contender in one workload is one process, pinned to a core; the server has another. The *null server* is the
cheapest peer that speaks the protocol: it sends prepared bytes, answers requests from one thread, and skips what is
published. Behind the real nats-server a raw client on the server's core feeds and answers. Every contender runs once per
round, in rotating order. Ratios are taken inside a round against the *raw socket*, a blocking client that does the minimum;
each figure is the median over the rounds. A tenth of the messages goes before the clock starts.

* Publishing ends when the server has taken everything: the answer to a last request on the same connection says so.
* A subscriber acknowledges every 512 KiB or 4,096 messages, and the sender keeps four such bursts unacknowledged, so that
  nobody drops. For watermelon, whose subscriptions hold 256 messages, a burst is 32.
* A subscriber looks at each payload's length and, where there are headers, looks one of the two up.
* CPU is user and system time of the client's whole process, with its share of the loopback's work in the kernel.
* Rust clients run on tokio's current-thread runtime, except where two threads are named; nats.c has threads of its own.
* natseq takes messages by `next_batch`; the column *next* is the same client by `next`. async-nats has a subscription
  capacity of 65,536 and the largest read buffer. nats.c delivers by callback, without pending
  limits, to many subscriptions from its shared threads. Prepared messages are
  passed as each API takes them: by reference or as a clone.

**Limits.** Loopback on one machine: no network, and the two ends share its caches. Against the real server the server is
the bottleneck of most rates; the CPU column compares clients there too. Figures of one machine at one time: ratios carry
over better than nanoseconds."""


def markdown(results):
    machine, cells = results["machine"], results["cells"]
    parts = ["# Measured beside other clients", "", about(machine), "", METHOD, ""]
    parts += ["Each entry: client CPU per message, its ratio to the raw socket, and messages per second.", ""]
    for group in ["publish", "subscribe", "parallel"]:
        rows = [cell for cell in cells if cell["group"] == group]
        if rows:
            parts += [f"## {TITLES[group]}", "", table(rows, cpu_entry), ""]
    rows = [cell for cell in cells if cell["group"] == "request"]
    if rows:
        parts += [f"## {TITLES['request']}", "", "Median latency, its ratio, and client CPU per request.", ""]
        parts += [table(rows, latency_entry), ""]
    for workload, entry in [("publish", cpu_entry), ("subscribe", cpu_entry), ("request", latency_entry)]:
        rows = [cell for cell in cells if cell["group"] == "tls" and cell["workload"] == workload]
        if rows:
            parts += [f"## TLS: {TITLES[workload].lower()}", "", table(rows, entry), ""]
    parts += scale(cells) + tail(cells)
    return "\n".join(parts).rstrip() + "\n"


def about(machine):
    lines = [
        f"Measured on {machine['date']}: {machine['cpu']}, {machine['cores']} cores, {machine['system']}, Linux "
        f"{machine['kernel']}, {machine['rustc']}; {machine['rounds']} rounds in {machine['seconds']} s, load "
        f"{machine['load']} at the beginning.",
        f"natseq {machine['natseq']}, async-nats {machine['async-nats']}, watermelon {machine['watermelon']}, nats.c "
        f"{machine['nats.c']} (Debian's), nats-server {machine['nats-server']}, tokio {machine['tokio']}.",
    ]
    if machine["real_time"]:
        lines.append("**Run with real-time priority beside other work on the machine.**")
    if machine["quick"]:
        lines.append("**A smoke run with tiny counts: no figures to rely on.**")
    lines.append("`benches/peers/run --write` measures again.")
    return "\n".join(lines)


def table(cells, entry):
    clients = contenders(cells)
    head = ["server", "payload", "headers"] + [NAMES.get(client, client) for client in clients]
    lines = [row(head), row(["---"] * 3 + ["---:"] * len(clients))]
    for cell in cells:
        settings = cell["settings"]
        server = SERVERS[cell["server"]]
        if settings.get("threads", 1) > 1:
            server += f", {settings['threads']} threads"
        words = [server, size(settings["bytes"]), "2" if settings["headers"] else "-"]
        lines.append(row(words + [entry(cell, client) for client in clients]))
    return "\n".join(lines)


def contenders(cells):
    """Those that took part, in the order of the first that names them."""
    found = []
    for cell in cells:
        found += [client for client in cell["contenders"] if client not in found]
    return sorted(found, key=lambda client: client != "raw")


def cpu_entry(cell, client):
    if client not in cell["runs"]:
        return "-"
    rate = middle(cell, client, lambda run: run["messages"] * 1e9 / run["wall_ns"])
    return f"{time(cpu(cell, client))}{times(cell, client, cpu_of)}, {rate_text(rate)}"


def latency_entry(cell, client):
    if client not in cell["runs"]:
        return "-"
    latency = middle(cell, client, lambda run: run["p50_ns"])
    return f"{time(latency)}{times(cell, client, lambda run: run['p50_ns'])}, CPU {time(cpu(cell, client))}"


def scale(cells):
    cells = [cell for cell in cells if cell["group"] == "scale"]
    parts = []

    def section(title, text, workload, column, key, entry):
        rows = [cell for cell in cells if cell["workload"] == workload]
        if not rows:
            return
        clients = contenders(rows)
        parts.extend([f"## {title}", "", text, ""])
        parts.append(row([column] + [NAMES.get(client, client) for client in clients]))
        parts.append(row(["---"] + ["---:"] * len(clients)))
        for cell in rows:
            parts.append(row([key(cell["settings"])] + [entry(cell, client) for client in clients]))
        parts.append("")

    def plain_cpu(cell, client):
        if client not in cell["runs"]:
            return "-"
        rate = middle(cell, client, lambda run: run["messages"] * 1e9 / run["wall_ns"])
        return f"{time(cpu(cell, client))}, {rate_text(rate)}"

    def memory(cell, client):
        if client not in cell["runs"]:
            return "-"
        return f"{middle(cell, client, lambda run: run['bytes_each']):,.0f} B"

    section("Scale: subscriptions of one connection", "16 B messages to each subscription in turn, null server: client CPU "
            "per message, messages per second.", "subscribe", "subscriptions",
            lambda settings: f"{settings['subscriptions']:,}", plain_cpu)
    section("Scale: publishing tasks of one client", "16 B messages, null server: client CPU per message, messages per "
            "second.", "publish", "tasks",
            lambda settings: f"{settings['tasks']} on {threads(settings)}", plain_cpu)
    section("Scale: memory of an idle subscription", "Growth of the process's resident memory, divided.",
            "idle-subscriptions", "subscriptions", lambda settings: f"{settings['subscriptions']:,}", memory)
    section("Scale: memory of an idle connection", "Growth of the process's resident memory, divided.",
            "idle-connections", "connections", lambda settings: f"{settings['connections']:,}", memory)
    return parts


def tail(cells):
    cells = [cell for cell in cells if cell["group"] == "tail"]
    if not cells:
        return []
    rate, many = cells[0]["settings"]["rate"], cells[0]["settings"]["messages"]
    parts = [
        "## Tail: request latency at a fixed rate", "",
        f"Open loop: {rate:,} requests of 128 B begin each second whether or not earlier ones were answered, {many:,} in a "
        "run; latency counts from when a request was due, so it holds the timer's lateness too, for everybody alike. "
        "p50 / p99 / p99.9.", "",
    ]
    clients = contenders(cells)
    parts += [row(["server"] + [NAMES.get(client, client) for client in clients])]
    parts += [row(["---"] + ["---:"] * len(clients))]
    for cell in cells:
        entries = [
            " / ".join(time(middle(cell, client, lambda run: run[key])) for key in ["p50_ns", "p99_ns", "p999_ns"])
            for client in clients
        ]
        parts.append(row([SERVERS[cell["server"]]] + entries))
    return parts + [""]


def svg(results):
    return ""


def cpu_of(run):
    return run["cpu_ns"] / run["messages"]


def cpu(cell, client):
    return middle(cell, client, cpu_of)


def middle(cell, client, value):
    return median(value(run) for run in cell["runs"][client])


def ratio(cell, client, value):
    """The median of the ratios inside each round."""
    pairs = zip(cell["runs"][client], cell["runs"]["raw"])
    return median(value(run) / value(raw) for run, raw in pairs)


def times(cell, client, value):
    if client == "raw" or "raw" not in cell["runs"]:
        return ""
    return f" ({ratio(cell, client, value):.1f}x)"


def row(words):
    return "| " + " | ".join(words) + " |"


def threads(settings):
    count = settings["threads"]
    return "one thread" if count == 1 else f"{count} threads"


def size(count):
    return f"{count} B" if count < 1024 else f"{count // 1024} KiB"


def time(nanos):
    if nanos < 1_000:
        return f"{nanos:.0f} ns"
    if nanos < 1_000_000:
        return f"{nanos / 1e3:.1f} µs"
    return f"{nanos / 1e6:.1f} ms"


def rate_text(rate):
    return f"{rate / 1e6:.2f} M/s" if rate >= 100_000 else f"{rate / 1e3:.0f} k/s"
