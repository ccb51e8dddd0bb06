// A network namespace for one test on its thread, with a veth pair, and raw frames into it.

import CLinux
import Foundation
import Glibc
import Testing

@testable import LinuxIO

/// Why tests of network devices cannot run here; nil when they can.
let networkMissing: String? =
    geteuid() != 0
    ? "network namespaces need root"
    : ["/usr/sbin/ip", "/sbin/ip", "/usr/bin/ip", "/bin/ip"].contains {
        FileManager.default.isExecutableFile(atPath: $0)
    } ? nil : "the program ip is not installed"

struct Failure: Error, CustomStringConvertible {
    let description: String
}

/// A veth pair in a namespace that goes with it: `near`, where frames arrive, and `far`.
struct Network {
    static let nearAddress: [UInt8] = [2, 0, 0, 0, 0, 1]
    static let farAddress: [UInt8] = [2, 0, 0, 0, 0, 2]
    let near: Int32
    let far: Int32

    /// Runs `body` in a new namespace. It must not leave its thread, and does not: no `await`.
    static func with<R>(mtu: Int = 1500, _ body: (Network) throws -> R) throws -> R {
        try NetworkNamespace.make().enter {
            for scope in ["all", "default"] {
                try Host.setSysctl("net.ipv4.conf.\(scope).rp_filter", "0")
                try Host.setSysctl("net.ipv6.conf.\(scope).addr_gen_mode", "1")
            }
            try Host.setSysctl("net.ipv4.icmp_ratelimit", "0")
            try Host.setSysctl("net.ipv6.icmp.ratelimit", "0")
            let netlink = try NetlinkSocket()
            try netlink.addVeth(
                VethEnd(name: "near", mtu: mtu, hardwareAddress: nearAddress),
                VethEnd(name: "far", mtu: mtu, hardwareAddress: farAddress))
            for link in ["lo", "near", "far"] { try netlink.setUp(link) }
            try waitForCarrier()
            return try body(
                Network(near: Int32(if_nametoindex("near")), far: Int32(if_nametoindex("far"))))
        }
    }

    /// A link that was set up takes frames, and has all routes of the kernel's own, only once the kernel
    /// has looked at its carrier.
    static func waitForCarrier(_ links: [String] = ["near", "far"]) throws {
        let netlink = try NetlinkSocket()
        try eventually("the carrier") { try netlink.areRunning(links) }
    }

    /// Of a carrier that went, routes and nexthops hear only once the kernel has looked at it, up to a
    /// second later; then it tells of the link.
    static func waitForCarrierLoss(_ links: [String]) throws {
        try eventually("the loss of the carrier") {
            let states = try run("ip -brief link show").split(separator: "\n")
            let down = states.filter { $0.contains("DOWN") }
                .map { $0.prefix { $0 != "@" && $0 != " " } }
            return links.allSatisfy { down.contains(Substring($0)) }
        }
    }

    /// Runs a shell script in this thread's namespace: its output.
    @discardableResult
    static func run(_ script: String) throws -> String {
        var ends: [Int32] = [0, 0]
        guard pipe(&ends) == 0 else { throw Failure(description: "pipe") }
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        for number: Int32 in [1, 2] { posix_spawn_file_actions_adddup2(&actions, ends[1], number) }
        for end in ends { posix_spawn_file_actions_addclose(&actions, end) }
        let command = ["sh", "-c", script]
        var words: [UnsafeMutablePointer<CChar>?] = command.map { strdup($0) }
        defer { for word in words { free(word) } }
        words.append(nil)
        let environment = ProcessInfo.processInfo.environment.map { "\($0.key)=\($0.value)" }
        var variables: [UnsafeMutablePointer<CChar>?] = environment.map { strdup($0) }
        defer { for variable in variables { free(variable) } }
        variables.append(nil)
        var child = pid_t()
        let result = posix_spawn(&child, "/bin/sh", &actions, nil, words, variables)
        close(ends[1])
        let output = FileHandle(fileDescriptor: ends[0], closeOnDealloc: true)
        let text = String(decoding: output.readDataToEndOfFile(), as: UTF8.self)
        var status: Int32 = -1
        guard result == 0, waitpid(child, &status, 0) == child, status == 0 else {
            throw Failure(description: "\(script): \(text)")
        }
        return text
    }

    /// Sends frames out of `far`, so that they arrive at `near`.
    func send(_ frames: [[UInt8]]) throws {
        let sender = Descriptor(
            socket(AF_PACKET, Int32(SOCK_RAW.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0))
        var address = sockaddr_ll()
        address.sll_family = UInt16(AF_PACKET)
        address.sll_ifindex = far
        try check("bind", "far") {
            withUnsafePointer(to: &address) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    bind(sender.number, $0, socklen_t(MemoryLayout<sockaddr_ll>.size))
                }
            }
        }
        // On one CPU: frames that are sent from two may overtake one another.
        let allowed = Placement.allowedCPUs().map { Int32($0) }
        try Placement.pinSelf(to: Int(allowed[0]))
        defer { clinux_allow_cpus(allowed, Int32(allowed.count)) }
        for frame in frames {
            let count = Glibc.send(sender.number, frame, frame.count, 0)
            guard count == frame.count else {
                throw Failure(description: "send: \(String(cString: strerror(errno)))")
            }
        }
    }

    /// Waits until something holds: frames take a moment from one end to the other.
    static func eventually(_ what: String, _ holds: () throws -> Bool) throws {
        let end = Host.monotonicNanoseconds() + 30_000_000_000
        while Host.monotonicNanoseconds() < end {
            if try holds() { return }
            usleep(1000)
        }
        throw Failure(description: "waited in vain for \(what)")
    }

    /// A counter of the kernel's, from `Icmp:` or `Icmp6` lines and their like.
    static func counter(_ name: String) throws -> Int {
        let lines = try run("nstat -asz \(name) | grep \(name)").split(separator: "\n")
        guard let value = lines.first?.split(separator: " ").dropFirst().first,
            let number = Int(value)
        else { throw Failure(description: "no counter \(name)") }
        return number
    }
}

/// What works on namespaces and devices: one test at a time.
@Suite(
    .serialized,
    .enabled(if: networkMissing == nil, Comment(rawValue: networkMissing ?? "all is there")))
enum OnHost {}
