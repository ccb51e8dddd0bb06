# The emulated machine: Debian's kernel under qemu with our own small file system, and the link to it.
import fcntl
import glob
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import tarfile
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
# The message kinds of guest.c.
END, FRAME, PACKET, VERSION, ROUTES, TUNNEL, POD, WIRE, DONE = range(9)
MODULES = ["virtio_pci", "virtio_console", "veth", "tun", "ipip", "sit", "ip6_tunnel"]
PROGRAMS = ["qemu-system-x86_64", "busybox", "cpio", "ip", "ldd", "apt-get", "apt-cache", "dpkg-deb", "nft"]


class NotPossible(Exception):
    """This host cannot run the emulated machine; the text says what is missing."""


def run(*words, **options):
    return subprocess.run(words, check=True, stdout=subprocess.PIPE, **options).stdout


def compiler():
    for name in ("clang", "gcc"):
        if shutil.which(name):
            return name
    swift = shutil.which("swift")
    clang = swift and os.path.join(os.path.dirname(os.path.realpath(swift)), "clang")
    if clang and os.path.exists(clang):
        return clang
    raise NotPossible("there is no C compiler: clang, gcc or Swift's own clang")


def kernel(cache):
    """Folder of the unpacked kernel package, fetched once; it is not installed on this host."""
    os.makedirs(cache, exist_ok=True)
    with open(os.path.join(cache, "lock"), "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return fetched_kernel(cache)


def fetched_kernel(cache):
    # Without that folder it is one that an older version unpacked, with less.
    known = sorted(glob.glob(f"{cache}/linux-image-*/lib/modules/*/kernel/crypto"))
    if known:
        return known[-1].partition("/lib/modules/")[0]
    depends = run("apt-cache", "depends", "--important", "linux-image-amd64").decode()
    names = re.findall(r"Depends: (linux-image-\d\S*)", depends)
    if not names:
        raise NotPossible("no package linux-image-amd64 is known: apt-get update, on Debian")
    fetched = os.path.join(cache, "download")
    os.makedirs(fetched, exist_ok=True)
    print(f"fetching {names[0]}, once", file=sys.stderr)
    try:
        run("apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", names[0], cwd=fetched)
    except subprocess.CalledProcessError:
        raise NotPossible(f"apt-get download {names[0]} fails: apt-get update") from None
    package = glob.glob(f"{fetched}/{names[0]}_*.deb")[0]
    new = os.path.join(cache, "unpacking")
    shutil.rmtree(new, ignore_errors=True)
    unpack(package, new)
    shutil.rmtree(os.path.join(cache, names[0]), ignore_errors=True)
    os.rename(new, os.path.join(cache, names[0]))
    shutil.rmtree(fetched)
    return os.path.join(cache, names[0])


def unpack(package, folder):
    """The kernel and the modules that may be wanted: a tenth of the package."""
    parts = re.compile(r"\./boot/vmlinuz-"
                       r"|\./lib/modules/[^/]*/kernel/(net|drivers/(net/[^/]*\.ko|virtio|char)"
                       # For nf_tables.
                       r"|lib/libcrc32c|crypto/crc32c_generic)")
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE) as process:
        with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
            for member in archive:
                if member.isfile() and parts.match(member.name):
                    archive.extract(member, folder)
    if process.returncode:
        raise NotPossible(f"{package} cannot be unpacked")


def modules(root, names):
    """Paths of these modules and of what they depend on, in the order of loading. Built-in ones have no file."""
    files = {os.path.basename(path)[:-3].replace("-", "_"): path
             for path in glob.glob(f"{root}/lib/modules/*/kernel/**/*.ko", recursive=True)}
    order = []

    def add(name):
        path = files.get(name.replace("-", "_"))
        if path is None or path in order:
            return
        with open(path, "rb") as file:
            depends = re.search(rb"\0depends=([^\0]*)\0", file.read())
        for other in depends.group(1).decode().split(",") if depends else []:
            add(other)
        order.append(path)

    for name in names:
        add(name)
    return order


def add_program(tree, path, name):
    """Copies a program to /bin and its libraries to where it looks for them."""
    shutil.copy(path, f"{tree}/bin/{name}")
    for library in re.findall(r"(/\S+) \(0x", run("ldd", path).decode()):
        os.makedirs(tree + os.path.dirname(library), exist_ok=True)
        shutil.copy(library, tree + library)


def initramfs(root, work, names, init, sources, programs=(), files=()):
    """Writes the machine's file system: busybox, ip, modules and what of this folder is named.
    `sources` are C programs, made in /bin without their ending; `programs` are paths."""
    tree = os.path.join(work, "tree")
    for folder in ("bin", "dev", "proc", "sys", "run", "tmp", "modules"):
        os.makedirs(os.path.join(tree, folder))
    shutil.copy(shutil.which("busybox"), f"{tree}/bin/busybox")
    os.symlink("busybox", f"{tree}/bin/sh")
    for path in (os.path.realpath(shutil.which("ip")), *programs):
        add_program(tree, path, os.path.basename(path))
    shutil.copy(f"{HERE}/{init}", f"{tree}/init")
    os.chmod(f"{tree}/init", 0o755)
    for name in files:
        shutil.copy(f"{HERE}/{name}", f"{tree}/{name}")
    order = modules(root, names)
    for path in order:
        shutil.copy(path, f"{tree}/modules/")
    with open(f"{tree}/modules/order", "w", encoding="ascii") as file:
        file.writelines(os.path.basename(path) + "\n" for path in order)
    for source in sources:
        try:
            run(compiler(), "-static", "-O1", "-std=gnu11", "-Wall", "-Wextra", "-Werror",
                f"{HERE}/{source}", "-o", f"{tree}/bin/{source.removesuffix('.c')}")
        except subprocess.CalledProcessError:
            raise NotPossible(f"{source} is not compiled; a static C library is in libc6-dev") from None
    found = "\n".join(os.path.relpath(os.path.join(folder, name), tree)
                      for folder, folders, files in os.walk(tree) for name in folders + files)
    image = os.path.join(work, "initramfs")
    with open(image, "wb") as file:
        subprocess.run(["cpio", "--quiet", "-o", "-H", "newc"], input=found.encode(), stdout=file,
                       check=True, cwd=tree)
    return image


def check_host():
    missing = [name for name in PROGRAMS if not shutil.which(name)]
    if missing:
        raise NotPossible(f"missing: {', '.join(missing)}; as root: apt-get install -y "
                          + " ".join(open(f"{HERE}/packages.txt", encoding="ascii").read().split()))
    if os.uname().machine != "x86_64":
        raise NotPossible("Debian's kernel for amd64 needs an x86-64 host to be fetched and built for")


class Emulator:
    """A running qemu and the link to what runs in it."""

    def __init__(self, root, work, image, options, timeout=1800):
        path = os.path.join(work, "link")
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen(1)
        listener.settimeout(timeout)
        self.console = os.path.join(work, "console")
        self.process = subprocess.Popen(
            ["qemu-system-x86_64", "-accel", "tcg", "-cpu", "max",
             "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
             "-kernel", glob.glob(f"{root}/boot/vmlinuz-*")[0], "-initrd", image,
             "-append", "console=ttyS0 quiet panic=-1 mitigations=off random.trust_cpu=on no_timer_check",
             "-serial", f"file:{self.console}", "-device", "virtio-serial-pci",
             "-chardev", f"socket,id=link,path={path}", "-device", "virtserialport,chardev=link",
             *options],
            stdin=subprocess.DEVNULL)
        try:
            self.link, _ = listener.accept()
            listener.close()
            self.link.settimeout(timeout)
            self.stream = self.link.makefile("rb", 1 << 18)
        except BaseException:
            self.end()
            raise

    def silence(self, error):
        """What to raise when the machine does not answer."""
        with open(self.console, encoding="utf-8", errors="replace") as file:
            return RuntimeError(f"the emulated machine is silent ({error!r}); its console:\n"
                                + file.read()[-4000:])

    def end(self, farewell=b""):
        """The machine powers off when it has read the farewell; if it does not, its process is ended."""
        try:
            self.link.sendall(farewell)
            self.process.wait(10 if farewell else 0)
        except (AttributeError, OSError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()


class Machine(Emulator):
    """The kernel's tunnels. `send` hands it frames or packets and gives what came of each."""

    def __init__(self, cache, work):
        check_host()
        root = kernel(cache)
        image = initramfs(root, work, MODULES, "init", ["guest.c"], files=["network"])
        super().__init__(root, work, image, ["-smp", "1", "-m", "512"])
        try:
            self.version = self.expect(VERSION).decode()
            self.routes = [self.expect(ROUTES), self.expect(ROUTES)]
        except BaseException:
            self.close()
            raise

    def message(self):
        try:
            head = self.stream.read(8)
            kind, length = struct.unpack("<II", head)
            return kind, self.stream.read(length)
        except (OSError, struct.error) as error:
            raise self.silence(error) from None

    def expect(self, wanted):
        kind, data = self.message()
        if kind != wanted:
            raise RuntimeError(f"message {kind} instead of {wanted}")
        return data

    def send(self, kind, items):
        """For each item the list of (TUNNEL | POD | WIRE, device or None, packet) that came of it."""
        def write():
            for start in range(0, len(items), 256):
                part = items[start:start + 256]
                self.link.sendall(b"".join(struct.pack("<II", kind, len(item)) + item for item in part))
            self.link.sendall(struct.pack("<II", kind, 0))

        writer = threading.Thread(target=write, daemon=True)
        writer.start()
        results = []
        for _ in items:
            result = []
            while True:
                got, data = self.message()
                if got == DONE:
                    break
                if got == TUNNEL:
                    result.append((got, data[:16].rstrip(b"\0").decode(), data[16:]))
                else:
                    result.append((got, None, data))
            results.append(result)
        writer.join()
        return results

    def close(self):
        self.end(struct.pack("<II", END, 0))
