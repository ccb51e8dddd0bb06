// EchoStream, and connections, datagrams and echoes from a self-test's client to its pod.

import Forwarding
import Foundation
import IP
import LinuxIO
import SelfTesting

/// Datagrams from the client to one service and back, each with a number.
final class EchoStream {
    private let lab: SelfTestLab
    private let client: IPSocket
    private let service: IPSocket
    private var isOpen: [Bool] = []
    private var next: UInt64 = 0
    /// Answers that came a second time, or were changed.
    private(set) var surplus = 0

    private static let port: UInt16 = 7

    init(_ lab: SelfTestLab, _ mode: Mode) throws {
        self.lab = lab
        let address = TestNetwork.service(mode)
        service = try lab.inside(.pod) { try IPSocket(.datagram, isIPv4: address.isIPv4) }
        try service.bind(to: address, port: Self.port)
        client = try lab.inside(.client) { try IPSocket(.datagram, isIPv4: address.isIPv4) }
        try client.connect(to: address, port: Self.port)
    }

    var sent: Int { isOpen.count }
    var lost: Int { isOpen.count(where: \.self) }

    /// Sends one per millisecond until something holds, then waits for what is still on its way.
    func run(until holds: () -> Bool) throws {
        while !holds() {
            if Host.monotonicNanoseconds() >= next { send() }
            try turn()
        }
        try settle()
    }

    /// Sends so many, of different sizes, and waits for their answers.
    func run(count: Int) throws {
        for _ in 0..<count {
            send()
            try turn()
        }
        try settle()
    }

    private func send() {
        let number = isOpen.count
        let bytes = Self.datagram(number)
        // A full queue is no loss on the way.
        if client.send(bytes) == bytes.count { isOpen.append(true) }
        next = Host.monotonicNanoseconds() + 1_000_000
    }

    private static func datagram(_ number: Int) -> [UInt8] {
        withUnsafeBytes(of: UInt32(number).bigEndian, Array.init)
            + [UInt8](repeating: UInt8(truncatingIfNeeded: number), count: number * 37 % 1300)
    }

    private func settle() throws {
        for _ in 0..<2000 where lost > 0 { try turn() }
    }

    private func turn() throws {
        try lab.wait([client.descriptor.number, service.descriptor.number], milliseconds: 1)
        service.echo()
        while let bytes = client.receive() {
            let number = bytes.prefix(4).reduce(0) { $0 << 8 | Int($1) }
            if isOpen.indices.contains(number), isOpen[number], bytes == Self.datagram(number) {
                isOpen[number] = false
            } else {
                surplus += 1
            }
        }
    }
}

extension SelfTestLab {
    /// Sends datagrams and expects each back.
    func expectDatagrams(_ mode: Mode, count: Int = 40, _ checks: inout Checks) throws {
        let stream = try EchoStream(self, mode)
        try stream.run(count: count)
        checks.expect(
            stream.lost == 0, "\(mode.name): \(stream.lost) of \(stream.sent) datagrams were not answered")
        checks.expect(
            stream.surplus == 0, "\(mode.name): \(stream.surplus) answers came twice or changed")
    }

    /// A service of TCP in the pod, at port 80.
    func listener(_ mode: Mode) throws -> IPSocket {
        let address = TestNetwork.service(mode)
        let listener = try inside(.pod) { try IPSocket(.stream, isIPv4: address.isIPv4) }
        try listener.bind(to: address, port: 80)
        try listener.listen()
        return listener
    }

    /// Uploads bytes over a connection, and expects an answer.
    func expectConnection(_ mode: Mode, bytes: Int = 1 << 20, _ checks: inout Checks) throws {
        let address = TestNetwork.service(mode)
        let listener = try listener(mode)
        let client = try inside(.client) { try IPSocket(.stream, isIPv4: address.isIPv4) }
        try client.connect(to: address, port: 80)
        let data = (0..<bytes).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 11) }
        var (sent, received, answer): (Int, [UInt8], [UInt8]) = (0, [], [])
        var service: IPSocket?
        let isOver = try wait(seconds: 5) {
            if service == nil { service = listener.accept() }
            if sent < data.count { sent += max(client.send(data[sent..<min(sent + 65_536, data.count)]), 0) }
            while received.count < data.count, let more = service?.receive(), !more.isEmpty {
                received += more
                if received.count >= data.count { _ = service?.send([1, 2, 3]) }
            }
            answer += client.receive() ?? []
            return answer.count >= 3
        }
        checks.expect(service != nil, "\(mode.name): no connection was made within 5 s")
        guard service != nil else { return }
        checks.expect(
            isOver, "\(mode.name): \(received.count) of \(data.count) bytes arrived within 5 s")
        checks.expect(data.starts(with: received), "\(mode.name): the data was changed")
    }

    /// Sends ICMP echo requests of different sizes, one after the other.
    func expectEchoes(_ target: Address, _ name: String, _ checks: inout Checks) throws {
        let socket = try inside(.client) { try IPSocket(.echo, isIPv4: target.isIPv4) }
        try socket.connect(to: target)
        for (number, size) in [0, 1, 56, 1000, 1392].enumerated() {
            // Type, code; the kernel fills in checksum and identifier; sequence number.
            let body = [UInt8](repeating: UInt8(size % 251), count: size)
            let request: [UInt8] = [target.isIPv4 ? 8 : 128, 0, 0, 0, 0, 0, 0, UInt8(number)] + body
            _ = socket.send(request)
            let isAnswered = try wait(seconds: 2) {
                guard let answer = socket.receive() else { return false }
                return answer.count == request.count && answer[7] == UInt8(number)
                    && answer[8...].elementsEqual(body)
            }
            checks.expect(isAnswered, "\(name): an echo request of \(size) bytes was not answered")
            // Each of them would be waited for.
            if !isAnswered { return }
        }
    }

    /// Sends packets that fit every link but the pod's, and expects the client to hear of it.
    func expectPathMTU(_ mode: Mode, _ mtu: Int, _ checks: inout Checks) throws {
        let address = TestNetwork.service(mode)
        let service = try inside(.pod) { try IPSocket(.datagram, isIPv4: address.isIPv4) }
        try service.bind(to: address, port: 7)
        let client = try inside(.client) { try IPSocket(.datagram, isIPv4: address.isIPv4) }
        try client.forbidFragments()
        try client.connect(to: address, port: 7)
        let headers = (address.isIPv4 ? 20 : 40) + 8
        func datagram(_ size: Int) -> [UInt8] { [UInt8](repeating: 7, count: size - headers) }
        _ = client.send(datagram(TestNetwork.encapsulatorMTU))
        let isTold = try wait(seconds: 2) {
            _ = client.receive()
            return client.pathMTU == mtu
        }
        checks.expect(
            isTold, "\(mode.name): the client was not told of \(mtu) bytes, it assumes \(client.pathMTU ?? 0)"
        )
        _ = client.send(datagram(mtu))
        let isAnswered = try wait(seconds: 1) {
            service.echo()
            return client.receive()?.count == mtu - headers
        }
        checks.expect(isAnswered, "\(mode.name): a packet of \(mtu) bytes was not answered")
    }
}
