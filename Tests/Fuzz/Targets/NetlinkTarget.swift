// Any bytes as what the kernel answers a dump with: what is found lies within them.

import IP
import LinuxIO
import Routing

public final class NetlinkTarget: FuzzTarget {
    private let memory = GuardedMemory(capacity: 1 << 20)

    public init() {}

    public func run(_ input: UnsafeRawBufferPointer) throws(Violation) {
        let bytes = UnsafeRawBufferPointer(start: memory.copy(input), count: input.count)
        var isConsistent = true
        var found = 0
        var entries: [RouteEntry] = []
        var broken: String?
        let progress = NetlinkParser.walk(bytes, 7, &isConsistent) { message in
            found += 1
            if let link = NetlinkParser.link(message), link.name.utf8.count > 3 * message.count {
                broken = "a name longer than its message"
            }
            guard let route = NetlinkParser.route(message) else { return }
            let entry = route.entry
            if entry.interfaces.count > message.count || entry.gateways.count != entry.interfaces.count {
                broken = "more in a route than in its message"
            }
            entries.append(entry)
            _ = NetlinkParser.rule(message)
        }
        if let broken { throw Violation(broken) }
        guard found * 16 <= input.count else { throw Violation("more messages than bytes") }
        if case .failed = progress { return }
        // Whatever a kernel lists must make a table.
        _ = RouteTable(entries)
    }

    public func seed(_ number: Int) -> [UInt8]? {
        func le16(_ value: Int) -> [UInt8] { [UInt8(value & 255), UInt8(value >> 8)] }
        func le32(_ value: Int) -> [UInt8] { le16(value & 0xffff) + le16(value >> 16) }
        func message(_ type: Int, _ body: [UInt8], flags: Int = 2) -> [UInt8] {
            le32(16 + body.count) + le16(type) + le16(flags) + le32(7) + le32(0) + body
        }
        func attribute(_ type: Int, _ value: [UInt8]) -> [UInt8] {
            let padding = [UInt8](repeating: 0, count: (4 - value.count % 4) % 4)
            return le16(4 + value.count) + le16(type) + value + padding
        }
        func route(_ family: UInt8, _ length: UInt8, _ attributes: [UInt8]) -> [UInt8] {
            message(24, [family, length, 0, 0, 254, 2, 0, 1] + le32(0) + attributes)
        }
        let done = message(3, le32(0))
        let hops =
            le16(8) + [0, 0] + le32(3) + le16(16) + [0, 0] + le32(4)
            + attribute(5, [192, 0, 2, 1])
        switch number {
        case 0:
            return message(
                16,
                [0, 0] + le16(1) + le32(2) + le32(1) + le32(0)
                    + attribute(3, Array("eth0\0".utf8)) + attribute(4, le32(1500))) + done
        case 1:
            return route(2, 24, attribute(1, [10, 1, 2, 0]) + attribute(4, le32(3)))
                + route(2, 0, attribute(9, hops) + attribute(6, le32(100))) + done
        case 2:
            return route(
                10, 64,
                attribute(1, [0x20, 1, 13, 0xb8] + [UInt8](repeating: 0, count: 12))
                    + attribute(15, le32(254)) + attribute(4, le32(5))) + done
        case 3: return message(2, le32(-1 & 0xffff_ffff) + [UInt8](repeating: 0, count: 16))
        default: return nil
        }
    }
}
