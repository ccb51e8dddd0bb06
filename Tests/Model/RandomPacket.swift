// Packets in packets at random: mostly whole and allowed, often odd in one way, at times broken.

import Forwarding
import IP

public struct PacketGenerator {
    /// Prefixes of one tunnel by family: IPv4 first.
    private struct Names {
        var local: [[Prefix]]
        var remotes: [[Prefix]]
        var destinations: [[Policy.Destination]]
    }

    let policy: Policy
    private let names: [Names]
    var random: Random
    var writer = PacketWriter()
    /// Fragments that are still to come.
    var waiting: [Arrival] = []

    public init(_ setting: Setting, _ random: Random) {
        policy = setting.policy
        self.random = random
        names = setting.policy.tunnels.map { tunnel in
            func split<T>(_ items: [T], _ isIPv4: (T) -> Bool) -> [[T]] {
                [items.filter { isIPv4($0) }, items.filter { !isIPv4($0) }]
            }
            return Names(
                local: split(tunnel.local, \.isIPv4), remotes: split(tunnel.remotes, \.isIPv4),
                destinations: split(tunnel.destinations, \.prefix.isIPv4))
        }
    }

    /// What the frame in the making has been given so far.
    private struct Plan {
        var outer: PacketWriter.Header
        var inner: PacketWriter.Header
        var upper: Upper
    }

    struct Upper {
        var number: UInt8
        var start: Int
        var checksum: Int?
        var isPseudo = false
    }

    /// At times with tags, most of VLAN 0.
    public mutating func next() -> Arrival {
        var arrival = nextUntagged()
        guard random.percent(3) else { return arrival }
        let count = random.percent(60) ? 1 : 1 + random.below(10)
        for _ in 0..<count {
            let vlan = random.percent(95) ? 0 : random.pick([1, 256, 4095])
            let tag = UInt16(random.below(16)) << 12 | UInt16(vlan)
            let type = arrival.etherType
            arrival.bytes = [tag, type].flatMap { [UInt8($0 >> 8), UInt8($0 & 255)] } + arrival.bytes
            arrival.etherType = random.pick([0x8100, 0x88a8])
            arrival.vnet.checksumStart &+= 4
            arrival.vnet.headerLength &+= 4
        }
        if random.percent(2) { arrival.bytes.removeLast(random.below(arrival.bytes.count)) }
        return arrival
    }

    /// At times a packet comes in fragments, between others.
    private mutating func nextUntagged() -> Arrival {
        if !waiting.isEmpty && (waiting.count > 100 || random.percent(60)) { return nextFragment() }
        let arrival = nextWhole()
        if random.percent(5) {
            waiting += cut(arrival)
            if !waiting.isEmpty { return nextFragment() }
        }
        return arrival
    }

    public mutating func nextWhole() -> Arrival {
        var arrival = Arrival()
        let tunnel = random.below(policy.tunnels.count)
        let rules = policy.tunnels[tunnel]
        arrival.interface =
            random.percent(95)
            ? random.pick(rules.interfaces) : random.below(policy.interfaces.count)
        var mode = Mode.allCases[random.below(4)]
        // Again, where this tunnel refuses the mode or has no address for it.
        for _ in 0..<4
        where !rules.modes.contains(mode)
            || names[tunnel].local[mode.outerIsIPv4 ? 0 : 1].isEmpty
        {
            mode = Mode.allCases[random.below(4)]
        }
        arrival.etherType = mode.outerIsIPv4 ? 0x0800 : 0x86dd
        arrival.linkLength = random.percent(90) ? 14 : random.pick([0, 16, 20])
        writer.bytes = []
        writer.bytes.reserveCapacity(256)
        let isNative = !policy.rewrites.isEmpty && random.percent(15)
        if isNative { arrival.etherType = 0x86dd }
        var plan =
            isNative
            ? lay(isIPv4: false, tunnel, behind: nil)
            : lay(isIPv4: mode.innerIsIPv4, tunnel, behind: layOuter(mode, tunnel))
        offload(&arrival, &plan)
        if random.percent(20) { damage(plan) }
        if random.percent(10) {
            for _ in 0...random.below(20) { writer.bytes.append(random.byte()) }
        }
        if random.percent(2) { arrival.cut = 1 + random.below(40) }
        if random.percent(2) { strange(&arrival) }
        arrival.bytes = writer.bytes
        return arrival
    }

    private mutating func strange(_ arrival: inout Arrival) {
        switch random.below(4) {
        case 0: arrival.isForUs = false
        case 1: arrival.etherType = random.pick([0x0806, 0, 0x8100, 0x88cc])
        case 2: arrival.etherType ^= 0x0800 ^ 0x86dd
        default:
            writer.bytes.removeLast(writer.bytes.count - random.below(min(writer.bytes.count, 50)))
        }
    }

    // MARK: Headers

    private mutating func lay(
        isIPv4: Bool, _ tunnel: Int, behind outer: PacketWriter.Header?
    ) -> Plan {
        let rules = names[tunnel].destinations[isIPv4 ? 0 : 1]
        let rule = rules.isEmpty ? nil : random.pick(rules)
        let to =
            rule != nil && random.percent(92)
            ? rule!.prefix.address(&random)
            : random.percent(70)
                ? Block.pod.address(isIPv4: isIPv4, &random)
                : strangeAddress(isIPv4: isIPv4)
        let isProbe = !isIPv4 && !policy.rewrites.isEmpty && random.percent(outer == nil ? 95 : 30)
        let from =
            isProbe
            ? random.pick(policy.rewrites).from
            : random.chance(50)
                ? to
                : random.percent(92)
                    ? Block.client.address(isIPv4: isIPv4, &random)
                    : strangeAddress(isIPv4: isIPv4)
        let kind = upperKind(rule, isIPv4: isIPv4)
        let chain = isIPv4 || !random.percent(20) ? [] : innerChain()
        let inner = writer.putHeader(
            isIPv4: isIPv4, from: from, to: to, number: chain.first ?? kind,
            trafficClass: trafficClass(), ttl: ttl(), fragment: fragmentField(share: 8),
            options: isIPv4 ? options() : [])
        putChain(chain, last: kind)
        var upper = Upper(number: kind, start: writer.bytes.count)
        putUpper(&upper, inner, rule, from: from, to: to)
        writer.close(inner)
        if !upper.isPseudo, let place = upper.checksum { sum(upper, inner, place) }
        if let outer { writer.close(outer) }
        return Plan(outer: outer ?? inner, inner: inner, upper: upper)
    }

    private mutating func sum(_ upper: Upper, _ inner: PacketWriter.Header, _ place: Int) {
        writer.sumUpper(
            inner, number: upper.number, at: upper.start, checksumAt: place, pseudoOnly: false)
        if upper.number == 17 && random.percent(5) { writer.set(0, at: place) }
        if random.percent(5) { writer.bytes[place] &+= 1 + random.byte() % 255 }
    }

    private mutating func layOuter(_ mode: Mode, _ tunnel: Int) -> PacketWriter.Header {
        let isIPv4 = mode.outerIsIPv4
        let family = isIPv4 ? 0 : 1
        let local = names[tunnel].local[family]
        let remotes = names[tunnel].remotes[family]
        let to =
            !local.isEmpty && random.percent(97)
            ? random.pick(local).address(&random)
            : Block.local.address(isIPv4: isIPv4, &random)
        let from =
            !remotes.isEmpty && random.percent(94)
            ? random.pick(remotes).address(&random)
            : random.percent(30)
                ? to
                : Block.allCases[random.below(4)].address(isIPv4: isIPv4, &random)
        let number: UInt8 =
            random.percent(98)
            ? mode.innerIsIPv4 ? 4 : 41 : random.pick([4, 41, 6, 17, 47, 50, 89])
        let chain = isIPv4 || !random.percent(15) ? [] : outerChain()
        let header = writer.putHeader(
            isIPv4: isIPv4, from: from, to: to, number: chain.first ?? number,
            trafficClass: trafficClass(), ttl: ttl(), fragment: fragmentField(share: 3),
            options: isIPv4 ? options() : [])
        putChain(chain, last: number)
        return header
    }

    private mutating func strangeAddress(isIPv4: Bool) -> Address {
        if random.chance(2) {
            return Block.allCases[random.below(4)].address(isIPv4: isIPv4, &random)
        }
        let low = UInt64(random.below(4))
        if isIPv4 {
            return Address(
                ipv4: random.pick([0, 0x7f00_0000, 0xa9fe_0000, 0xe000_0000, 0xffff_fffc, 0x0808_0800])
                    + UInt32(low))
        }
        if random.chance(3) {
            // 6to4 and NAT64.
            let held =
                random.chance(4)
                ? random.pick([0x7f00_0001, 0x0a63_0101, 0x0808_0808])
                : UInt64(Block.allCases[random.below(4)].address(isIPv4: true, &random).ipv4)
            return random.chance(2)
                ? Address(high: 0x2002 << 48 | held << 16, low: 1)
                : Address(high: 0x0064_ff9b << 32, low: held)
        }
        let high: UInt64 = random.pick([0, 0, 0xfe80 << 48, 0xff02 << 48, 0xfec0 << 48, 0x2a00 << 48])
        return Address(high: high, low: low | (random.chance(3) ? 0xffff_0000_0000 : 0))
    }

    private mutating func trafficClass() -> UInt8 {
        random.percent(50) ? 0 : random.percent(60) ? random.byte() & 3 : random.byte()
    }

    private mutating func ttl() -> UInt8 {
        random.percent(90) ? 64 : random.percent(30) ? 0 : random.byte()
    }

    private mutating func fragmentField(share: Int) -> Int {
        if !random.percent(share) { return random.chance(2) ? 0x4000 : 0 }
        return random.pick([0x2000, 0x2000, 0x0001, 0x2010, 0x1fff, 0x8000])
    }

    /// Of an IPv4 header, filled up to a multiple of 4.
    private mutating func options() -> [UInt8] {
        guard random.percent(10) else { return [] }
        var bytes: [UInt8] = []
        for _ in 0...random.below(3) {
            switch random.below(9) {
            case 0, 1: bytes += [1]
            case 2: bytes += [7, 7, random.pick([4, 4, 8, 5, 3, 0]), 1, 2, 3, 4]
            case 3: bytes += [148, 4, 0, 0]
            case 4: putTimestamp(&bytes)
            case 5: bytes += [random.pick([131, 137]), 7, 4, 9, 9, 9, 9]
            case 6: bytes += [random.byte(), random.byte() % 12]
            case 7: bytes += [134, 6, 0, 0, 0, 1]
            default: bytes += [0]
            }
        }
        while bytes.count % 4 != 0 { bytes.append(random.chance(8) ? random.byte() : 0) }
        return bytes
    }

    private mutating func putTimestamp(_ bytes: inout [UInt8]) {
        let entries = random.below(3)
        let pointer = random.percent(80) ? 5 + 4 * random.below(entries + 1) : random.below(16)
        bytes += [68, UInt8(4 + 4 * entries), UInt8(pointer), random.pick([0, 0, 1, 3, 0xf0, 0xf3, 2])]
        for _ in 0..<4 * entries { bytes.append(random.byte()) }
    }

    // MARK: Extension headers

    private mutating func outerChain() -> [UInt8] {
        let count = random.percent(90) ? 1 + random.below(3) : 7 + random.below(4)
        return (0..<count).map { index in
            index == 0 && random.chance(3)
                ? 0
                : random.pick([60, 60, 60, 44, 43, random.percent(10) ? 0 : 60])
        }
    }

    private mutating func innerChain() -> [UInt8] {
        let count = random.percent(90) ? 1 + random.below(3) : 7 + random.below(4)
        return (0..<count).map { _ in random.pick([60, 0, 44, 43, 51]) }
    }

    private mutating func putChain(_ chain: [UInt8], last: UInt8) {
        for (index, header) in chain.enumerated() {
            let next = index + 1 < chain.count ? chain[index + 1] : last
            writer.bytes.append(next)
            switch header {
            case 44:
                writer.bytes.append(0)
                writer.put(random.percent(60) ? 0 : random.pick([1, 1, 8, 9, 6, 0xfff8]))
                writer.put(0)
                writer.put(0x77)
            case 43:
                writer.bytes += [2, random.percent(80) ? 0 : random.byte() & 7, random.percent(70) ? 0 : 1]
                writer.bytes += [0, 0, 0, 0]
                for _ in 0..<16 { writer.bytes.append(0x20) }
            case 51:
                writer.bytes += [4, 0, 0]
                for _ in 0..<20 { writer.bytes.append(0x11) }
            default: putOptions()
            }
        }
    }

    /// The rest of a hop-by-hop or destination header.
    private mutating func putOptions() {
        let start = writer.bytes.count - 1
        writer.bytes.append(0)
        let count = random.percent(95) ? random.below(3) : 6 + random.below(5)
        for _ in 0..<count {
            switch random.below(12) {
            case 0, 1, 2: writer.bytes += [4, 1, random.byte()]
            case 3: writer.bytes += [5, 2, 0, 0]
            case 4: writer.bytes += [0]
            case 5: writer.bytes += [1, 2, 0, random.percent(80) ? 0 : 1]
            case 6: writer.bytes += [random.byte(), random.byte() & 3]
            case 7: writer.bytes += [1, random.byte() & 7, 0, 0, 0, 0, 0, 0]
            case 10: writer.bytes += [0x31, 2, 0, 0]
            case 11: writer.bytes += [random.pick([5, 7]), random.pick([2, 3]), 0, 0, 0]
            default: writer.bytes += [0x1e, 4, 1, 2, 3, 4]
            }
        }
        if random.percent(3) { for _ in 0..<random.below(300) { writer.bytes.append(0x1e) } }
        while (writer.bytes.count - start) % 8 != 0 { writer.bytes.append(0) }
        writer.bytes[start + 1] = UInt8(truncatingIfNeeded: (writer.bytes.count - start) / 8 - 1)
    }

    // MARK: What may be wrong

    private mutating func damage(_ plan: Plan) {
        for _ in 0...random.below(2) where !writer.bytes.isEmpty {
            let count = writer.bytes.count
            let near = random.chance(2) ? plan.inner.start : 0
            let place = min(near + random.below(80), count - 1)
            switch random.below(9) {
            case 0: writer.bytes[place] ^= 1 << UInt8(random.below(8))
            case 1: writer.bytes[place] = random.byte()
            case 2: writer.bytes[place] = random.pick([0, 1, 2, 4, 41, 44, 60, 127, 255])
            case 3: writer.bytes[place] &+= random.chance(2) ? 1 : 255
            case 4: writer.bytes.insert(random.byte(), at: place)
            case 5: writer.bytes.removeLast(count - random.below(count))
            case 6: writer.bytes.removeLast(min(1 + random.below(12), count))
            case 7: lieOfLength(random.chance(2) ? plan.outer : plan.inner)
            default:
                let header = random.chance(2) ? plan.outer : plan.inner
                if header.start < count { writer.bytes[header.start] = random.byte() }
            }
        }
        guard random.percent(70) else { return }
        if plan.inner.isIPv4 { writer.sumHeader(at: plan.inner.start) }
        if plan.outer.isIPv4 { writer.sumHeader(at: 0) }
    }

    private mutating func lieOfLength(_ header: PacketWriter.Header) {
        let place = header.start + (header.isIPv4 ? 2 : 4)
        guard place + 2 <= writer.bytes.count else { return }
        let length = word(writer.bytes, place)
        writer.set(
            random.chance(4)
                ? random.below(65536)
                : random.chance(4) ? 0 : max(0, length + random.below(60) - 50), at: place)
    }

    /// A virtio_net_hdr as the kernel gives it for its own or joined segments, or a false one.
    private mutating func offload(_ arrival: inout Arrival, _ plan: inout Plan) {
        guard random.percent(plan.upper.isPseudo ? 100 : 6) else { return }
        let base = arrival.linkLength
        if plan.upper.isPseudo, let place = plan.upper.checksum {
            arrival.vnet.flags = 1
            arrival.vnet.checksumStart = UInt16(base + plan.upper.start)
            arrival.vnet.checksumOffset = UInt16(place - plan.upper.start)
            writer.sumUpper(
                plan.inner, number: plan.upper.number, at: plan.upper.start, checksumAt: place,
                pseudoOnly: true)
        }
        if random.percent(50) {
            arrival.vnet.gsoType = plan.upper.number == 17 ? 5 : plan.inner.isIPv4 ? 1 : 4
            if random.percent(10) { arrival.vnet.gsoType |= 0x80 }
            // Few packets have more than some bytes of payload.
            arrival.vnet.gsoSize = UInt16(1 + random.below(random.chance(2) ? 16 : 1440))
            arrival.vnet.headerLength = UInt16(base + plan.upper.start + random.below(40))
        }
        guard random.percent(20) else { return }
        switch random.below(6) {
        case 0: arrival.vnet.flags = random.byte() & 7
        case 1: arrival.vnet.gsoType = random.pick([0, 1, 2, 3, 4, 5, 0x80, 0x81, 0x85])
        case 2: arrival.vnet.gsoSize = 0
        case 3:
            let near = base + plan.upper.start + random.below(9)
            arrival.vnet.checksumStart = UInt16(random.chance(2) ? near : random.below(300))
        case 4:
            arrival.vnet.checksumOffset =
                random.chance(2)
                ? random.pick([2, 6, 16]) : UInt16(truncatingIfNeeded: random.next())
        default: arrival.vnet.headerLength = UInt16(truncatingIfNeeded: random.next())
        }
    }
}
