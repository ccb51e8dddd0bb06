# A command in a process group of its own, of which nothing is left.
import os
import signal
import subprocess


class Group:
    """Runs a command; at the end of `with` every process of its group is killed, also those that outlived it."""

    def __init__(self, command, **options):
        self.child = subprocess.Popen(command, start_new_session=True, **options)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # Not waited for before: until then the kernel gives the number to no other group.
        os.killpg(self.child.pid, signal.SIGKILL)
        self.child.wait()

    def status(self):
        """The command's exit code, the negative number of the signal that ended it, or None while it runs."""
        ended = os.waitid(os.P_PID, self.child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended is None:
            return None
        return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
