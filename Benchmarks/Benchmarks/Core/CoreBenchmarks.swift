// Batches of one packet from frame to operation, and route lookups: what a function costs, in ratios to one
// another.

import Benchmark
import Forwarding
import IP
import Routing

/// A 64-byte packet of this protocol in IPv4, as UDP from 198.51.100.2 through 192.0.2.1 to 203.0.113.4.
private func packet(_ number: UInt8) -> [UInt8] {
    func header(_ number: UInt8, _ length: UInt8, _ source: [UInt8], _ target: [UInt8]) -> [UInt8] {
        var bytes: [UInt8] = [0x45, 0, 0, length, 0, 0, 0, 0, 64, number, 0, 0] + source + target
        var sum: UInt32 = 0
        for index in stride(from: 0, to: 20, by: 2) {
            sum += UInt32(bytes[index]) << 8 | UInt32(bytes[index + 1])
        }
        while sum >> 16 != 0 { sum = sum & 0xffff + sum >> 16 }
        bytes[10] = UInt8(~sum >> 8 & 0xff)
        bytes[11] = UInt8(~sum & 0xff)
        return bytes
    }
    let inner =
        header(number, 64, [198, 51, 100, 2], [203, 0, 113, 4])
        + [0x04, 0x00, 0x00, 0x09, 0, 44, 0, 0] + [UInt8](repeating: 0, count: 36)
    return header(4, 84, [192, 0, 2, 1], [192, 0, 2, 2]) + inner
}

private func ipv4(_ a: UInt32, _ b: UInt32, _ c: UInt32, _ d: UInt32) -> Address {
    Address(ipv4: a << 24 | b << 16 | c << 8 | d)
}

private func world() -> ForwardingTables {
    let routes = (0..<100_000).map { number in
        RouteEntry(
            prefix: Prefix(Address(ipv4: 0x0b00_0000 &+ UInt32(number) << 8), length: 24)!,
            table: RouteEntry.tableMain, interfaces: [3])
    }
    let policy = Policy(
        interfaces: [.init(name: "eth0", reversePath: .strict)],
        tunnels: [
            .init(
                name: "lvs", interfaces: [0], local: [Prefix(host: ipv4(192, 0, 2, 2))],
                remotes: [Prefix(ipv4(192, 0, 2, 0), length: 24)!],
                destinations: [.init(prefix: Prefix(host: ipv4(203, 0, 113, 4)))])
        ])
    let way = RouteEntry(prefix: .allIPv4, table: RouteEntry.tableMain, interfaces: [2])
    return ForwardingTables(
        policy: PolicyTables(policy), routes: RouteTable(routes + [way]),
        interfaces: [InterfaceState(index: 2, mtu: 1500, reversePath: .strict)])
}

let benchmarks: @Sendable () -> Void = {
    Benchmark.defaultConfiguration = .init(metrics: [.wallClock, .cpuTotal], scalingFactor: .kilo)
    // The short way is for TCP and UDP.
    for (name, number) in [("plan ipip, UDP", 17), ("plan ipip, ICMP, long way", 1)] as [(String, UInt8)] {
        Benchmark(name) { benchmark in
            let world = world()
            let bytes = packet(number)
            let memory = UnsafeMutableRawPointer.allocate(byteCount: 2048, alignment: 64)
            memory.copyMemory(from: bytes, byteCount: bytes.count)
            let place = UnsafeMutableRawPointer.allocate(
                byteCount: Batch.byteCount(capacity: 1), alignment: 128)
            defer {
                memory.deallocate()
                place.deallocate()
            }
            let batch = Batch(in: place, capacity: 1)
            batch.adopt(world.view, kinds: [[.tcp, .udp]], errors: nil, isShadow: false)
            batch.frames.initialize(
                to: Frame(
                    network: UnsafeRawPointer(memory), head: batch.head(0), length: bytes.count,
                    wireLength: bytes.count, linkLength: 14, etherType: 0x0800, interface: 0,
                    isForUs: true))
            benchmark.startMeasurement()
            for _ in benchmark.scaledIterations {
                blackHole(batch.plan(count: 1, reassembler: nil, now: 0))
            }
            benchmark.stopMeasurement()
            precondition(batch.verdicts.pointee.kind == .inject)
        }
    }
    Benchmark("route lookup, 100,001 routes") { benchmark in
        let world = world()
        let routes = world.routes!.view
        var address: UInt32 = 0x0b00_0000
        benchmark.startMeasurement()
        for _ in benchmark.scaledIterations {
            address = address &* 1_664_525 &+ 1_013_904_223
            blackHole(routes.lookup(ipv4: address))
        }
        benchmark.stopMeasurement()
    }
}
