"""Stands for a process of the server (`tests.processes`): hands on its streams and signals, ends as it does. ``client.py SOCKET PYTHON WORD …``."""

import marshal
import os
import signal
import socket
import sys

HANDED_ON = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1)

server = socket.socket(socket.AF_UNIX)
server.connect(sys.argv[1])
for number in HANDED_ON:
    # Who is started in a shell's background ignores SIGINT, until it says itself what that does, as ibllm and Python's tests of it do.
    if number == signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN:
        signal.signal(number, lambda caught, _: server.sendall(bytes([caught])))
message = marshal.dumps((sys.argv[2:], os.getcwd(), dict(os.environ)))
socket.send_fds(server, [len(message).to_bytes(8, "big")], [0, 1, 2])
server.sendall(message)
answer = server.recv(8)
if not answer:
    sys.exit("the server of tests/processes.py is gone")
code = int.from_bytes(answer, "big", signed=True)
if code < 0:  # as it ended, so does this one
    signal.signal(-code, signal.SIG_DFL) if -code not in (signal.SIGKILL, signal.SIGSTOP) else None
    os.kill(os.getpid(), -code)
os._exit(code)
