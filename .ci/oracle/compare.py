"""What differs between two records, and which differences are the proxies' own."""

import re

#: Fields that one of the two proxies sets by itself, and no plugin: name, and why it is not compared.
OWN_FIELDS = {
    "date": "each stamps answers that have none with its own time",
    "x-request-id": "ours gives each request an id; Envoy is told not to",
    "x-forwarded-proto": "Envoy always tells the scheme to the backend",
    "x-forwarded-for": "ours always tells the client to the backend",
    "traceparent": "ours goes on with a trace; Envoy has no tracer here",
    "x-tidegate-reason": "ours says why it answers itself",
    "x-envoy-internal": "Envoy marks calls of its own",
    "x-envoy-expected-rq-timeout-ms": "Envoy marks calls of its own",
    "x-envoy-upstream-service-time": "Envoy tells how long an answer took",
    "transfer-encoding": "how HTTP/1 tells where a body ends: Envoy shows it to plugins, of answers only",
    "connection": "of one connection, not of the message",
    "keep-alive": "of one connection, not of the message",
}


def own(name):
    return name in OWN_FIELDS


def fields(headers):
    """In the order of names; of one name in the order sent."""
    return sorted(((n, v) for n, v in headers if not own(n)), key=lambda field: field[0])


def message(found):
    """A message as it is compared."""
    if found is None or isinstance(found, str):
        return {"start": (found or "").split(":")[0]}
    if found.header("x-tidegate-reason") == "plugin_failed":
        # Of a plugin that has failed Envoy tells nobody anything.
        headers = [field for field in fields(found.headers) if field[0] not in ("content-type", "content-length")]
        return {"start": start(found), "headers": [*headers, ("content-length", "0")], "body": b"", "trailers": []}
    headers, trailers = fields(found.headers), fields(found.trailers)
    return {"start": start(found), "headers": headers, "body": found.body, "trailers": trailers}


def start(found):
    """Method and path, or the status: the reason phrase is decoration."""
    return found.start[1] if found.start[0].startswith("HTTP/") else found.start[:2]


def shown(exchange):
    """All sides of an exchange, as compared."""
    sides = exchange.sides()
    if "answer" in sides:
        sides = {"answer": message(exchange.answer), "backend": [message(asked) for asked in exchange.received]}
    for name, asked in exchange.called.items():
        sides[f"called {name}"] = [message(one) for one in asked]
    return sides


def lines(log, case):
    """A log without what cannot be the same twice, what a timer says, and what tells of a proxy's own fields."""
    found = []
    for level, text in log:
        if any(re.search(rf"(?i)\b{re.escape(name)}\b", text) for name in OWN_FIELDS):
            continue
        if any(re.search(pattern, text) for pattern in case.timed):
            continue
        for pattern in case.vary:
            text = re.sub(pattern, "…", text)
        found.append((level, text))
    return found


def differences(case, theirs, ours):
    """One text for each."""
    found = []
    if bool(theirs.refused) != bool(ours.refused):
        who, why = ("Envoy", theirs.refused) if theirs.refused else ("Tidegate", ours.refused)
        return [f"only {who} does not take it: {why}"]
    # Envoy starts a plugin once more than there are threads, to try it.
    started = [set(lines(record.started, case)) for record in (theirs, ours)]
    told(found, "log of the start", *map(sorted, started))
    for a, b in zip(theirs.exchanges, ours.exchanges):
        sides = [shown(a), shown(b)]
        for side in sides[0]:
            told(found, f"{a.request}: {side}", sides[0][side], sides[1][side], case.vary)
        if not theirs.trapped or a is not theirs.exchanges[-1]:
            # Of a plugin that has failed, each engine tells another stack.
            told(found, f"{a.request}: log", lines(a.log, case), lines(b.log, case))
    told(found, "log afterwards", *(sorted(set(lines(record.later, case))) for record in (theirs, ours)))
    told(found, "metrics", sorted(theirs.counted.items()), sorted(ours.counted.items()))
    return found


def known(case, difference):
    """Why this difference may be."""
    what = difference.split("\n")[0]
    return next((why for part, why in case.known.items() if part in what), None)


def told(found, what, theirs, ours, vary=()):
    a, b = repr(theirs), repr(ours)
    for pattern in vary:
        a, b = re.sub(pattern, "…", a), re.sub(pattern, "…", b)
    if a == b:
        return
    if isinstance(theirs, list):
        # Of a long log, what only one has.
        rest = [[one for one in mine if one not in others] for mine, others in ((theirs, ours), (ours, theirs))]
        a, b = (str(only) if any(rest) else str(whole) for only, whole in zip(rest, (a, b)))
    found.append(f"{what}\n      Envoy    {a}\n      Tidegate {b}")


def effects(record, plain):
    """How many requests went otherwise than without a plugin, or were logged."""
    pairs = zip(record.exchanges, plain.exchanges)
    return sum(bool(with_it.log) or shown(with_it) != shown(without) for with_it, without in pairs)
