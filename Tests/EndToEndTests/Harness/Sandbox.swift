// A network namespace with directories of its own, for commands that change a host.

import Foundation
import Testing

/// A host with an uplink `eth0`, a pod's veth `cali1` and a device `shuck0`. Its /etc/sysctl.d,
/// /run/sysctl.d, /usr/lib/sysctl.d and /etc/shuck are empty and its own. Its processes end with it.
final class Sandbox {
    private let directory: String
    private let holder: RunningCommand
    private var commands = 0

    static func with(_ body: (Sandbox) throws -> Void) throws {
        let sandbox = try Sandbox()
        defer {
            sandbox.holder.end()
            try? FileManager.default.removeItem(atPath: sandbox.directory)
        }
        try body(sandbox)
    }

    private static let setup = """
        set -e
        mount -t sysfs sysfs /sys
        for folder in /etc/sysctl.d /run/sysctl.d /usr/lib/sysctl.d /etc/shuck /run/netns; do
            mkdir -p $folder
            mount -t tmpfs tmpfs $folder
        done
        ip link set lo up
        ip link add eth0 numrxqueues 2 numtxqueues 2 type veth peer name balancer mtu 1460
        ip link add cali1 mtu 1460 type veth peer name pod mtu 1460
        ip tuntap add shuck0 mode tun
        for link in eth0 balancer cali1 pod shuck0; do ip link set $link up; done
        ip address add 127.0.0.42/32 scope host dev shuck0
        ethtool -K eth0 gro on >/dev/null
        sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
        sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0
        for link in eth0 balancer cali1 pod; do sysctl -qw net.ipv4.conf.$link.rp_filter=0; done
        sysctl -qw net.ipv4.conf.shuck0.rp_filter=2
        touch "$0"
        # Process 1 takes in the children of processes that ended.
        while sleep 60; do :; done
        """

    private init() throws {
        directory = NSTemporaryDirectory() + "shucksandbox\(getpid())"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        let ready = directory + "/ready"
        holder = try RunningCommand(
            [
                "unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c",
                Self.setup, ready,
            ], directory: directory + "/holder")
        let holder = holder
        try eventually("the sandbox") {
            guard holder.isRunning else { throw Failure("the sandbox: \(holder.errors)") }
            return FileManager.default.fileExists(atPath: ready)
        }
    }

    /// Runs lines of sh(1) inside, however they end. `$SHUCK` is the executable.
    func attempt(_ script: String) throws -> CommandResult {
        commands += 1
        let arguments = [
            "nsenter", "--target", "\(holder.processID)", "--net", "--mount",
            "--pid=/proc/\(holder.processID)/ns/pid_for_children", "env", "SHUCK=\(Tools.shuck)",
            "sh",
            "-c", script,
        ]
        return try RunningCommand(arguments, directory: "\(directory)/command\(commands)").wait()
    }

    @discardableResult
    func run(_ script: String) throws -> String { try attempt(script).get() }
}
