# Drives the shell of an emulated machine whose NICs send and receive frames as datagrams.
import os
import re
import socket

import machine


class NIC:
    """The host's end of one of the machine's network cards."""

    def __init__(self, work, name):
        self.name = name
        self.near, self.far = f"{work}/{name}.host", f"{work}/{name}.nic"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.near)
        self.socket.settimeout(20)

    def backend(self):
        return (f"dgram,id={self.name},local.type=unix,local.path={self.far},"
                f"remote.type=unix,remote.path={self.near}")

    def send(self, frame):
        self.socket.sendto(frame, self.far)

    def receive(self, wanted):
        """The next frame that `wanted` says yes to; a silence of 20 s is an error."""
        while True:
            frame = self.socket.recv(1 << 17)
            if wanted(frame):
                return frame


class Shell(machine.Emulator):
    """`run` has a command run in there and gives what it printed."""
    number = 0

    def run(self, command, fails=False):
        """An exit code other than 0 is an error, unless `fails`."""
        self.number += 1
        mark = f"\1{self.number} "
        try:
            self.link.sendall(f"{{ {command}\n}} </dev/null; printf '\\001%s %s\\n' {self.number} $?\n"
                              .encode())
            text = b""
            while not re.search(mark.encode() + rb"\d+\n", text):
                line = self.stream.readline()
                if not line:
                    raise OSError("the link is closed")
                text += line
        except OSError as error:
            raise self.silence(error) from None
        output, _, code = text.decode(errors="replace").rpartition(mark)
        if int(code) and not fails:
            raise RuntimeError(f"in the machine: {command}: exit code {code.strip()}\n{output}")
        return output

    def write(self, path, text):
        self.run(f"cat >{path} <<'END OF FILE'\n{text}\nEND OF FILE")

    def close(self):
        self.end(b"exit\n")
