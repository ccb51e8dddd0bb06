// Devices in other namespaces, and a table of our own: what the kernel does with them when we or they go.

import CLinux
import Foundation
import Glibc
import IP
import Testing

@testable import LinuxIO

extension OnHost {
    @Suite struct NamespaceTests {
        /// A named namespace beside the test's own; made anew for each test.
        private static let name = "shucktest\(getpid())-extra"
        private static let path = "/run/netns/" + name

        private static func withOther(_ body: () throws -> Void) throws {
            try Network.with { _ in
                try Network.run("ip netns add \(name)")
                defer { _ = try? Network.run("ip netns delete \(name) 2>/dev/null || true") }
                try body()
            }
        }

        @Test func whatIsNoNamespaceIsSaid() throws {
            for path in ["/run/netns/shucktest-none", "/dev/null", "/proc/self/ns/mnt"] {
                #expect(NetworkNamespace.identity(at: path) == nil)
                do throws(SystemError) {
                    _ = try NetworkNamespace(path)
                    Issue.record("\(path) is none")
                } catch {
                    #expect(error.description.contains(path), "\(error)")
                    #expect(error.hint?.contains("ip netns add") == true)
                }
            }
            let own = NetworkNamespace.identity(at: "/proc/self/ns/net")
            #expect(own != nil && own == NetworkNamespace.identity(at: "/proc/self/ns/net"))
        }

        @Test func aMovedDeviceDiesWithItsNamespace() throws {
            try Self.withOther {
                var namespace: NetworkNamespace? = try NetworkNamespace(Self.path)
                let device = try TunDevice(name: "shucktest1", queues: 2, namespace: namespace)
                try device.configure(
                    mtu: 1400, address: Prefix(host: Address(ipv4: 0x7f00_002a)), in: namespace)
                #expect(if_nametoindex("shucktest1") == 0)
                let inside = try Network.run("ip -n \(Self.name) address show shucktest1")
                #expect(inside.contains("mtu 1400") && inside.contains(",UP"), "\(inside)")
                #expect(inside.contains("inet 127.0.0.42/32 scope host"), "\(inside)")
                #expect(device.isAlive && device.namespace == namespace?.identity)
                // Held, it would outlive its name.
                namespace = nil
                let queue = device.queues[0].number
                var packet = [UInt8](repeating: 0, count: 10) + [0x45] + [UInt8](repeating: 0, count: 39)
                #expect(write(queue, &packet, packet.count) == packet.count)
                try Network.run("ip netns delete \(Self.name)")
                try Network.eventually("its end") { !device.isAlive }
                // For a moment it is only down.
                try Network.eventually("EBADFD") {
                    let count = write(queue, &packet, packet.count)
                    return count == -1 && errno == EBADFD
                }
            }
        }

        /// Its end wakes who waits for it: 10 s would be over before a look by chance.
        @Test func theEndOfAMovedDeviceIsHeardOf() throws {
            try Self.withOther {
                let device = try TunDevice(
                    name: "shucktest1", queues: 1, namespace: NetworkNamespace(Self.path))
                let queue = device.queues[0].number
                #expect(
                    Host.waitReadable([], failing: [queue], milliseconds: 0) == [false])
                let removal = try WorkerThread(name: "removal") {
                    Host.pause(milliseconds: 50)
                    _ = try? Network.run("ip netns delete \(Self.name)")
                }
                let start = Host.monotonicNanoseconds()
                #expect(
                    Host.waitReadable([], failing: [queue], milliseconds: 10_000) == [true])
                #expect(Host.monotonicNanoseconds() - start < 9_000_000_000)
                removal.join()
                #expect(!device.isAlive)
            }
        }

        @Test func somebodyElsesDeviceIsNotMoved() throws {
            try Self.withOther {
                let first = try TunDevice(name: "shucktest2", queues: 1)
                let namespace = try NetworkNamespace(Self.path)
                #expect(throws: SystemError.self) {
                    _ = try TunDevice(name: "shucktest2", queues: 1, namespace: namespace)
                }
                #expect(Int32(if_nametoindex("shucktest2")) == first.index)
                // Nor is one that the other has put in the way of.
                try Network.run("ip -n \(Self.name) link add shucktest3 type veth peer name x")
                do throws(SystemError) {
                    _ = try TunDevice(name: "shucktest3", queues: 1, namespace: namespace)
                    Issue.record("there are two of it")
                } catch {
                    #expect(error.errno == EEXIST && error.hint?.contains("another name") == true)
                }
                #expect(if_nametoindex("shucktest3") == 0)
            }
        }

        @Test func aDirectoryTellsOfWhatComes() throws {
            let directory = NSTemporaryDirectory() + "shucktest-watch-\(getpid())"
            let watch = try DirectoryWatch()
            watch.watch(directory)
            try FileManager.default.createDirectory(
                atPath: directory, withIntermediateDirectories: true)
            defer { try? FileManager.default.removeItem(atPath: directory) }
            // Not there the first time, and once is enough.
            watch.watch(directory)
            watch.watch(directory)
            #expect(Host.waitReadable([watch.descriptor], milliseconds: 0) == [false])
            try "".write(toFile: directory + "/a", atomically: false, encoding: .utf8)
            #expect(Host.waitReadable([watch.descriptor], milliseconds: 1000) == [true])
            watch.clear()
            #expect(Host.waitReadable([watch.descriptor], milliseconds: 0) == [false])
        }
    }

    @Suite struct FilterTableTests {
        private static func chain(_ rule: String) -> String { "chain one {\n\(rule)\n}\n" }

        @Test func aTableIsReplacedWholeOrNotAtAll() throws {
            try Network.with { _ in
                let context = try FilterContext()
                let table = try FilterTable(
                    context, name: "shucktest", chains: Self.chain("tcp dport 1 drop"))
                #expect(table.name == "shucktest")
                let list = { try Network.run("nft list ruleset") }
                #expect(try list().contains("flags owner") && list().contains("tcp dport 1 drop"))
                try table.replace(chains: Self.chain("tcp dport 2 drop"))
                #expect(try list().contains("tcp dport 2 drop"))
                #expect(try !list().contains("tcp dport 1 drop"))
                for bad in ["tcp dport nonsense drop", "jump nowhere"] {
                    #expect(throws: SystemError.self) {
                        try table.replace(chains: Self.chain(bad))
                    }
                    #expect(try list().contains("tcp dport 2 drop"))
                }
                let second = try FilterTable(context, name: "shucktest", chains: Self.chain("accept"))
                #expect(second.name == "shucktest-2")
                // What the kernel would not have, it says: the table can still be changed.
                #expect(!context.isSpoiled)
                try table.remove()
                #expect(try !list().contains("shucktest {"))
                #expect(try list().contains("shucktest-2"))
            }
        }
    }
}
