// What inner packets carry: TCP with options good and bad, UDP, ICMP with quotes, and the rest.

import Forwarding
import IP

extension PacketGenerator {
    mutating func upperKind(_ rule: Policy.Destination?, isIPv4: Bool) -> UInt8 {
        if let number = rule?.protocolNumber, random.percent(70) { return number }
        switch random.below(20) {
        case 0..<10: return 6
        case 10..<14: return 17
        case 14..<17: return isIPv4 ? 1 : 58
        case 17: return random.pick([4, 41, 47, 137, 50, 115])
        case 18: return random.pick([132, 33, 136])
        default: return random.byte()
        }
    }

    mutating func putUpper(
        _ upper: inout Upper, _ inner: PacketWriter.Header, _ rule: Policy.Destination?,
        from: Address, to: Address
    ) {
        let hostPort = port(rule)
        let otherPort = 1024 + random.below(60000)
        switch upper.number {
        case 6:
            putTCP(from: otherPort, to: hostPort)
            upper.checksum = upper.start + 16
            upper.isPseudo = random.percent(8)
        case 17:
            writer.put(otherPort)
            writer.put(hostPort)
            writer.put(8)
            writer.put(0)
            upper.checksum = upper.start + 6
            upper.isPseudo = random.percent(8)
        case 1 where inner.isIPv4, 58 where !inner.isIPv4:
            putICMP(inner, rule, from: from, to: to)
            upper.checksum = upper.start + 2
        default:
            writer.put(otherPort)
            writer.put(hostPort)
            for _ in 0..<8 { writer.bytes.append(random.byte()) }
        }
        putPayload()
        if random.percent(3) {
            // Too short for its own header.
            let excess = writer.bytes.count - upper.start
            writer.bytes.removeLast(random.below(excess + 1))
            if upper.checksum.map({ $0 + 2 > writer.bytes.count }) ?? false {
                upper.checksum = nil
                upper.isPseudo = false
            }
        }
    }

    private mutating func putPayload() {
        let length =
            random.percent(95)
            ? random.below(24)
            : random.percent(95) ? random.below(1500) : random.chance(40) ? 40000 : 3000
        let start = random.byte()
        for index in 0..<length { writer.bytes.append(start &+ UInt8(truncatingIfNeeded: index)) }
    }

    private mutating func port(_ rule: Policy.Destination?) -> Int {
        if let ports = rule?.ports, !ports.isEmpty, random.percent(85) {
            let range = random.pick(ports)
            return Int(range.lowerBound) + random.below(range.count + (random.chance(20) ? 1 : 0))
        }
        return 55 + random.below(80)
    }

    // MARK: TCP

    private mutating func putTCP(from source: Int, to destination: Int) {
        let start = writer.bytes.count
        writer.put(source)
        writer.put(destination)
        for _ in 0..<8 { writer.bytes.append(random.byte()) }
        let flags: UInt8 =
            random.percent(40) ? random.pick([2, 2, 0x12, 0xc2]) : random.pick([0x10, 0x18, 4])
        writer.bytes += [0x50, flags, 0xfa, 0xf0, 0, 0, 0, 0]
        if flags & 2 != 0 || random.chance(4) { putTCPOptions() }
        while (writer.bytes.count - start) % 4 != 0 { writer.bytes.append(0) }
        if writer.bytes.count - start > 60 { writer.bytes.removeLast(writer.bytes.count - start - 60) }
        writer.bytes[start + 12] = UInt8((writer.bytes.count - start) / 4) << 4
        if random.percent(3) { writer.bytes[start + 12] = random.byte() }
    }

    private mutating func putTCPOptions() {
        for _ in 0...random.below(5) {
            switch random.below(16) {
            case 0..<6:
                let value = random.pick([1460, 1440, 1400, 536, 9000, 65535, 0, random.below(65536)])
                writer.bytes += [2, 4, UInt8(value >> 8), UInt8(value & 255)]
            case 6..<9: writer.bytes += [1]
            case 9: writer.bytes += [4, 2]
            case 10: writer.bytes += [3, 3, 7]
            case 11: writer.bytes += [8, 10, 1, 2, 3, 4, 5, 6, 7, 8]
            case 12: writer.bytes += [254, 6, 2, 4, 5, 180]
            case 13: writer.bytes += [random.byte(), random.byte() & 15]
            case 14: writer.bytes += [2, random.pick([0, 1, 2, 3, 5, 44]), 5, 180]
            default: writer.bytes += [random.percent(50) ? 0 : 1]
            }
        }
    }

    // MARK: ICMP

    private mutating func putICMP(
        _ inner: PacketWriter.Header, _ rule: Policy.Destination?, from: Address, to: Address
    ) {
        let isError = random.percent(60)
        let queries: [UInt8] = inner.isIPv4 ? [8, 0, 13] : [128, 129, 128, 129, 135, 136, 143]
        let type: UInt8 =
            !isError
            ? random.pick(queries)
            : random.percent(5)
                ? random.byte()
                : random.pick(inner.isIPv4 ? [3, 11, 12, 5, 4] : [1, 2, 3, 4, 100])
        writer.bytes += [type, 0, 0, 0, 0, 0, 5, 180]
        guard isError else { return }
        // The quoted packet went the other way.
        let number = rule?.protocolNumber ?? random.pick([6, 17])
        let quotedSource = random.percent(92) ? to : from
        let isOddChain = !inner.isIPv4 && random.percent(25)
        let header = writer.putHeader(
            isIPv4: inner.isIPv4, from: quotedSource, to: from, number: isOddChain ? 60 : number,
            trafficClass: 0, ttl: 60,
            fragment: random.percent(90) ? 0x4000 : random.pick([0x2000, 0x0010]), options: [])
        if isOddChain {
            let later = random.chance(3)
            writer.bytes += [later ? 44 : number, 0, 1, 4, 0, 0, 0, 0]
            if later { writer.bytes += [number, 0, 0, random.chance(2) ? 8 : 0, 0, 0, 0, 9] }
        }
        writer.put(port(rule))
        writer.put(40000)
        for _ in 0..<4 { writer.bytes.append(random.byte()) }
        writer.close(header)
        if random.percent(10) { writer.bytes[header.start] = random.byte() }
    }
}
