// What a configuration opens on a veth, without a daemon around it: rings that fit their link, what stays
// when it is asked for again, and a worker's way from a frame to a datagram.

import CLinux
import Foundation
import Glibc
import HostPlan
import IP
import Synchronization
import Testing

@testable import Daemon
@testable import LinuxIO
@testable import Settings

extension OnHost {
    @Suite struct PlumbingTests {
        private static let yaml = """
            interfaces: [near]
            tunnels: [{name: lvs, local: [192.0.2.2], remotes: [192.0.2.1]}]
            devices: [{name: shuckplumb0}]
            reversePath: {mode: off}
            mss: {ipv4: off, ipv6: off}

            """

        private static func configuration(_ more: String = "") throws -> Configuration {
            try #require(Configuration.load(files: [("c.yaml", yaml + more)]).configuration)
        }

        private static func opened(
            _ configuration: Configuration, after old: Plumbing = Plumbing()
        ) throws -> Plumbing {
            let facts = HostFacts.read(
                for: configuration, cpus: [Placement.allowedCPUs()[0]], links: try NetlinkSocket().links())
            var next = old
            _ = try next.reach(configuration, facts, .start)
            return next
        }

        /// Frames of the link's MTU fit a slot, up to 16 KiB; what is larger comes by the socket.
        @Test(arguments: [(1500, 2048), (1920, 2048), (1921, 4096), (9000, 16_384), (65_535, 16_384)])
        func aSlotTakesAFrameOfTheLink(mtu: Int, slotSize: Int) throws {
            try Network.with(mtu: mtu) { _ in
                let plumbing = try Self.opened(try Self.configuration("consume: off\n"))
                #expect(plumbing.interface("near")?.rings.map(\.slotSize) == [slotSize])
            }
        }

        @Test func whatIsAskedForAgainStays() throws {
            try Network.with { _ in
                let configuration = try Self.configuration("consume: bpf\n")
                let first = try Self.opened(configuration)
                let again = try Self.opened(configuration, after: first)
                #expect(again.interface("near") === first.interface("near"))
                #expect(again.device("shuckplumb0") === first.device("shuckplumb0"))
                #expect(again.held.keys.filter { if case .hold = $0 { true } else { false } }.count == 1)
                let claims = try [first, again].map { try #require($0.claim("near")) }
                #expect(claims[0] === claims[1])
                // Another tunnel is another claim.
                var wider = configuration
                wider.tunnels[0].local.append(try #require(Prefix("192.0.2.3")))
                let widened = try Self.opened(wider, after: again)
                #expect(widened.claim("near") !== claims[0])
                #expect(widened.interface("near") === first.interface("near"))
                // An interface that was made again is another one, whatever its name.
                try Network.run(
                    """
                    set -e
                    ip link delete near
                    ip link add near type veth peer name far
                    ip link set near up
                    ip link set far up
                    """)
                let remade = try Self.opened(configuration, after: again)
                #expect(remade.interface("near") !== first.interface("near"))
                #expect(remade.claim("near") !== claims[0])
                #expect(remade.device("shuckplumb0") === first.device("shuckplumb0"))
            }
        }

        @Test func whereAllIsThereNothingIsDue() throws {
            try Network.with { _ in
                let configuration = try Self.configuration("consume: off\n")
                let plumbing = try Self.opened(configuration)
                for looks in [true, false] {
                    #expect(!plumbing.isDue(configuration, looksAtNamespaces: looks))
                }
                #expect(plumbing.queuesElsewhere.isEmpty && plumbing.absences.isEmpty)
            }
        }

        /// Frames that are copied, and frames that are gathered from their slots.
        @Test func aWorkerHandsOnWhatTheFramesHold() throws {
            try Network.with { network in
                try Network.run(
                    """
                    set -e
                    ip address add 203.0.113.4/32 dev lo
                    ip route add 198.51.100.0/24 dev near
                    """)
                let file = NSTemporaryDirectory() + "shuck-plumbing-\(getpid()).yaml"
                try (Self.yaml + "consume: off\n").write(toFile: file, atomically: true, encoding: .utf8)
                defer { unlink(file) }
                let receiver = try Self.receiver(port: 9)
                let sizes = [2, 32, 33, 100, 200, 500, 1400]
                let outcome = Mutex<Result<[UInt64], any Error>?>(nil)
                let thread = try WorkerThread(name: "drain") {
                    let result = Result {
                        let done = try WorkerBench.drain(
                            configurationPath: file, frames: 4 * sizes.count, extraRoutes: 3)
                        return [done.received, done.injected, done.writes]
                    }
                    outcome.withLock { $0 = result }
                }
                try Network.eventually("the frames worked off") {
                    try network.send(sizes.map { Frames.numbered($0, bytes: $0) })
                    usleep(20_000)
                    return outcome.withLock { $0 != nil }
                }
                thread.join()
                let counts = try #require(try outcome.withLock { $0 }?.get())
                #expect(counts[0] >= 4 * sizes.count)
                // None is refused, and no two are of a flow that can be joined.
                #expect(counts[1] == counts[0] && counts[2] == counts[0])
                for size in sizes {
                    let datagram = try #require(Self.next(receiver))
                    #expect(datagram == Array(Frames.numbered(size, bytes: size).suffix(size)))
                }
            }
        }

        private static func receiver(port: UInt16) throws -> Descriptor {
            let receiver = Descriptor(
                socket(AF_INET, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0))
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_port = port.bigEndian
            let result = withUnsafePointer(to: &address) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    bind(receiver.number, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
                }
            }
            try #require(result == 0)
            var limit = timeval(tv_sec: 5, tv_usec: 0)
            setsockopt(
                receiver.number, SOL_SOCKET, SO_RCVTIMEO, &limit,
                socklen_t(MemoryLayout<timeval>.size))
            return receiver
        }

        private static func next(_ receiver: Descriptor) -> [UInt8]? {
            var bytes = [UInt8](repeating: 0, count: 2048)
            let count = recv(receiver.number, &bytes, bytes.count, 0)
            return count < 0 ? nil : Array(bytes[..<count])
        }
    }
}
