"""Before a figure: does each peer do what it is about to be measured at?"""

import http.client
import json
import pathlib
import ssl
import sys
import time

from harness import loads

#: Of so many requests, a tenth to the canary is between the two.
ASKED = 400
FEWEST, MOST = 15, 80
#: Only a peer that is broken takes this long.
PATIENCE = 30


def ask(contest, headers=None):
    """One HTTP/1.1 request on a connection of its own: (status, body, headers)."""
    if contest.features.tls:
        context = ssl.create_default_context(cafile=str(contest.certificate / "cert.pem"))
        connection = http.client.HTTPSConnection("localhost", contest.port, timeout=5, context=context)
    else:
        connection = http.client.HTTPConnection("127.0.0.1", contest.port, timeout=5)
    try:
        connection.request("GET", contest.path, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers
    finally:
        connection.close()


def wait(contest):
    """Until it answers as it should; a limit may already refuse the second try."""
    end = time.monotonic() + PATIENCE
    last = "no answer"
    while time.monotonic() < end:
        try:
            if contest.features.http2:
                return loads.pace(contest, 20, 0.1)
            last = ask(contest)[0]
            if last in (200, contest.scenario.status):
                return last
        except (OSError, loads.Unclean, http.client.HTTPException) as error:
            last = error
        if contest.process.poll() is not None:
            last = f"it ended with {contest.process.returncode}"
            break
        time.sleep(0.02)
    log = pathlib.Path(contest.folder, "log").read_text(errors="replace")[-3000:]
    sys.exit(f"bench: {contest} did not answer as it should: {last}\n{log}")


def check(contest):
    """Ends the run when the peer does not do what this scenario is about."""
    wait(contest)
    features = contest.features
    if not features.http2:
        expect(contest, "the status", ask(contest)[0], contest.scenario.status)
    if features.canary:
        check_canary(contest)
    if features.log:
        check_log(contest)
    if features.traced:
        check_traces(contest)
    if features.plugin is not None:
        check_plugin(contest)
    if contest.variant in contest.scenario.paths:
        size = int(contest.path.rsplit("/", 1)[1])
        expect(contest, "the length of the body", len(ask(contest)[1]), size)


def expect(contest, what, got, wanted):
    if got != wanted:
        sys.exit(f"bench: {contest}: {what} is {got}, not {wanted}")


def check_canary(contest):
    expect(contest, "who answers x-canary", ask(contest, {"x-canary": "always"})[1], b"canary\n")
    answers = [ask(contest)[1] for _ in range(ASKED)]
    canaries = answers.count(b"canary\n")
    expect(contest, "the number of answers of either kind", canaries + answers.count(b"app\n"), ASKED)
    if not FEWEST <= canaries <= MOST:
        sys.exit(f"bench: {contest}: {canaries} of {ASKED} went to the canary")


def check_plugin(contest):
    """Who loads its plugin while it serves is waited for; who has none adds nothing."""
    wanted, end = "1" if contest.features.plugin else None, time.monotonic() + PATIENCE
    while ask(contest)[2]["x-plugin"] != wanted and time.monotonic() < end:
        time.sleep(0.05)
    expect(contest, "the header of the plugin", ask(contest)[2]["x-plugin"], wanted)


def check_log(contest):
    end = time.monotonic() + PATIENCE
    while not contest.log.exists() or contest.log.stat().st_size == 0:
        # Some write their log every few seconds, or when a buffer is full.
        ask(contest)
        if time.monotonic() > end:
            sys.exit(f"bench: {contest}: its access log stays empty")
        time.sleep(0.1)


def check_traces(contest):
    end = time.monotonic() + PATIENCE
    while not consumed(contest.collector):
        loads.pace(contest, 1000, 0.5)
        if time.monotonic() > end:
            sys.exit(f"bench: {contest}: no trace arrives")


def consumed(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("GET", "/consumed")
    return json.loads(connection.getresponse().read())
