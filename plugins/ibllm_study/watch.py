"""``ibllm ablate --watch``: the study's page while its runs are under way, served to this machine alone. Torch-free."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from ibllm_core.errors import UserError

from .directory import DONE, FAILED, PRUNED, RUNNING, Outcome, StudyDirectory
from .plan import Cell, Plan
from .runner import Progress, Watcher

#: The one address that is listened at: nobody else's machine gets there.
LOOPBACK = "127.0.0.1"
#: Seconds between two looks of the page, and after which a page is made anew where runs have ended.
LOOK, FRESH = 2, 5.0
#: What is added to the page: it says how far the runs are, and comes again when another one has ended.
SCRIPT = """<script>
const line = document.createElement("p");
line.setAttribute("role", "status");
document.querySelector("header").append(line);
for (const [number, details] of document.querySelectorAll("details").entries()) {
  details.open = (sessionStorage.getItem("details" + number) ?? String(details.open)) === "true";
  details.addEventListener("toggle", () => sessionStorage.setItem("details" + number, details.open));
}
async function look() {
  try {
    const state = await (await fetch("state")).json();
    line.textContent = state.line;
    if (state.version !== VERSION) location.reload();
  } catch { line.textContent = "The command has ended; study.html in the study's directory is its page."; }
}
look();
setInterval(look, SECONDS);
</script>
"""


class Board(Watcher):
    """What the page shows: it hears what the terminal hears, and hands it on."""

    def __init__(self, plan: Plan, directory: StudyDirectory, screen: Watcher | None = None) -> None:
        self.plan, self.directory, self.screen = plan, directory, screen or Watcher()
        self._progress: Mapping[str, Progress] = {}
        self._ended = 0
        self._made: tuple[int, str] = (-1, "")
        self._at = 0.0
        self._lock = threading.Lock()

    def started(self, cell: Cell) -> None:
        self.screen.started(cell)

    def ended(self, cell: Cell, outcome: Outcome, seconds: float) -> None:
        self._ended += 1
        self.screen.ended(cell, outcome, seconds)

    def planned(self, plan: Plan) -> None:
        self.plan, self._ended = plan, self._ended + 1
        self.screen.planned(plan)

    def looked(self, progress: Mapping[str, Progress]) -> None:
        self._progress = progress
        self.screen.looked(progress)

    def say(self, text: str) -> None:
        self.screen.say(text)

    def seen(self, progress: Mapping[str, Progress]) -> None:
        """How far the runs of another invocation are."""
        over = sum(one.status in (DONE, FAILED, PRUNED) for one in progress.values())
        self._ended = max(self._ended, over)
        self.looked(progress)

    def state(self) -> dict[str, object]:
        """How far the runs are, in a line, and which state of them it is."""
        known = self._progress
        over = sum(one.status in (DONE, FAILED, PRUNED) for one in known.values())
        names = {cell.id: f"{cell.arm.name}, seed {cell.seed}" for cell in self.plan.cells}
        now = [
            f"{names[key]}: {p.stage or 'start'} {100 * p.share:.0f} %" for key, p in known.items() if p.status == RUNNING and key in names
        ]
        line = f"{over} of {len(self.plan.cells)} runs" + (f"; now {'; '.join(now)}" if now else "")
        return {"version": self._version(), "line": line}

    def page(self) -> str:
        """The page of the runs that there are."""
        from .analysis import Analysis
        from .findings import from_plan
        from .page import page

        with self._lock:
            version = self._version()
            if self._made[0] != version:
                self._made = (version, page(Analysis(from_plan(self.plan, self.directory))))
                self._at = time.monotonic()
        script = SCRIPT.replace("VERSION", str(self._made[0])).replace("SECONDS", str(1000 * LOOK))
        return self._made[1].replace("</body>", f"{script}</body>")

    def _version(self) -> int:
        """Of several runs that end within a moment, the page shows the last."""
        return self._made[0] if self._made[0] >= 0 and time.monotonic() - self._at < FRESH else self._ended


@contextmanager
def served(board: Board, port: int = 0) -> Iterator[str]:
    """Within, the page is served at the address that is given, to this machine alone.

    Args:
        port: of the address; any that is free for 0.

    Raises:
        UserError: the port is taken.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            # A page elsewhere may have its own name lead here; it is not to read along.
            if (self.headers.get("Host") or "").partition(":")[0] not in (LOOPBACK, "localhost"):
                self.send_error(403)
            elif self.path == "/":
                self._answer("text/html; charset=utf-8", board.page())
            elif self.path == "/state":
                self._answer("application/json", json.dumps(board.state()))
            else:
                self.send_error(404)

        def _answer(self, kind: str, text: str) -> None:
            data = text.encode()
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *arguments: object) -> None:
            """The terminal is the study's."""

    try:
        server = ThreadingHTTPServer((LOOPBACK, port), Handler)
    except OSError as error:
        raise UserError(f"--watch-port {port}: {error.strerror}; choose another port, or 0 for any that is free") from error
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://{LOOPBACK}:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()
