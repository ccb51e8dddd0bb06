// Flows and the frames that they are made of: what balancers send, in bursts, whole and in fragments.

import Forwarding
import IP
import Model
import TestPackets

/// Packets of one connection, all by one interface and in one mode.
struct Flow {
    let mode: Mode
    let interface: Int
    let isTCP: Bool
    /// Templates of the ordinary segment, then of those that end a run or are odd.
    var templates: [Int] = []
    var identification: UInt16 = 0
    var sequence: UInt32 = 0
}

/// A frame as the kernel is to put it into a slot.
struct Draft {
    var template: Int
    var marks = Marks()
    /// Of a fragment; nil: the template's.
    var bytes: [UInt8]?
    /// Decides the worker: the hash of the fanout.
    var worker = 0
}

/// Draws frames. Takes nothing but its own numbers, so that the n-th frame is always the same.
struct Traffic {
    private(set) var templates: [Template] = []
    private var flows: [Flow] = []
    private var junk: [Int] = []
    private var random: RandomStream
    /// Frames drawn.
    private(set) var count = 0
    private var flow = 0
    private var left = 0
    private var waiting: [Draft] = []
    /// The last pieces of datagrams, for when their memory is short.
    private var late: [Draft] = []
    /// Of 1,000 draws those of a fragmented packet.
    private let fragmentShare: Int
    private let junkShare: Int
    private let floods: Bool
    private var identification: UInt16 = 0

    init(_ seed: UInt64, _ setting: Setting) {
        random = RandomStream(seed, 1)
        fragmentShare = random.pick([0, 1, 5, 20])
        junkShare = random.pick([0, 10, 50, 200])
        floods = random.chance(2)
        let count = random.pick([1, 4, 12, 32])
        for _ in 0..<count { addFlow(setting.policy) }
        var generator = PacketGenerator(setting, seed: random.next())
        for _ in 0..<60 { addJunk(generator.nextWhole()) }
    }

    /// To be called once, when nobody draws any more.
    func deallocate() { for template in templates { template.bytes.deallocate() } }

    var flowCount: Int { flows.count }

    // MARK: Templates

    private mutating func addFlow(_ policy: Policy) {
        let mode = random.pick(Mode.allCases)
        let isTCP = random.percent(55)
        let interface = random.below(policy.interfaces.count)
        let number = flows.count
        var flow = Flow(mode: mode, interface: interface, isTCP: isTCP)
        var outer = IPHeader(
            from: Blocks.remote(mode.outerIsIPv4, random.below(2) * 32 + random.below(8)),
            to: Blocks.local(mode.outerIsIPv4, random.below(2)), protocolNumber: mode.innerIsIPv4 ? 4 : 41)
        outer.trafficClass = random.percent(80) ? 0 : UInt8(random.below(4))
        var inner = IPHeader(
            from: Blocks.client(mode.innerIsIPv4, random.below(16)),
            to: Blocks.pod(mode.innerIsIPv4, random.below(8)), protocolNumber: isTCP ? 6 : 17)
        inner.identification = 0
        inner.fragment = random.percent(70) ? 0x4000 : 0
        inner.trafficClass = random.percent(80) ? 0 : UInt8(random.below(256))
        inner.ttl = random.pick([64, 64, 64, 2, 1, 255])
        let size = random.pick([8, 18, 64, 100, 100, 200, 512, 1200])
        let port = UInt16(40_000 + number)
        func add(_ segment: SegmentText) -> Int {
            templates.append(segment.template(outer, inner, mode, interface, number, port))
            return templates.count - 1
        }
        var text = SegmentText(isTCP: isTCP, payload: size)
        // Checksums that a sender on this host left unfinished.
        text.isUnfinished = random.percent(25)
        flow.templates.append(add(text))
        for kind in SegmentText.Oddity.allCases {
            var odd = text
            odd.change(kind, size)
            flow.templates.append(add(odd))
        }
        flows.append(flow)
    }

    private mutating func addJunk(_ arrival: Arrival) {
        guard arrival.bytes.count <= 1800 else { return }
        // Tags hide what is behind them, an IPv6 chain may hide a fragment header.
        let isPlain =
            arrival.etherType == 0x0800
            ? arrival.bytes.count >= 20 && (arrival.bytes[6] & 0x3f | arrival.bytes[7]) == 0
            : arrival.etherType == 0x86dd && arrival.bytes.count >= 40 && [4, 41].contains(arrival.bytes[6])
        junk.append(templates.count)
        templates.append(
            Template(
                arrival.bytes, linkLength: arrival.linkLength, etherType: arrival.etherType,
                interface: arrival.interface, isForUs: arrival.isForUs, vnet: arrival.vnet, hasState: !isPlain
            ))
    }

    // MARK: Drawing

    mutating func next() -> Draft {
        count &+= 1
        if !late.isEmpty && random.chance(100) { return late.remove(at: random.below(late.count)) }
        if !waiting.isEmpty && random.chance(2) { return waiting.removeFirst() }
        let dice = random.below(1000)
        if dice < fragmentShare && waiting.count < 64 {
            if floods && random.chance(100) { flood() } else { cut() }
            if !waiting.isEmpty { return waiting.removeFirst() }
        }
        if dice >= 1000 - junkShare && !junk.isEmpty {
            let template = random.pick(junk)
            return Draft(template: template, worker: hash(template))
        }
        if left == 0 {
            flow = random.below(flows.count)
            left = random.chance(3) ? 1 : 1 + random.below(48)
        }
        left &-= 1
        let isOdd = left == 0 ? random.chance(2) : random.chance(40)
        return segment(isOdd ? 1 + random.below(flows[flow].templates.count - 1) : 0)
    }

    /// The flow's next packet, by one of its templates.
    private mutating func segment(_ place: Int) -> Draft {
        let index = flows[flow].templates[place]
        let marks = Marks(
            identification: flows[flow].identification, sequence: flows[flow].sequence, tag: UInt64(count))
        flows[flow].identification &+= random.chance(64) ? 7 : 1
        flows[flow].sequence &+= templates[index].step &+ (random.chance(64) ? 1 : 0)
        return Draft(template: index, marks: marks, worker: flow)
    }

    /// Of addresses alone: fragments have no ports.
    private func hash(_ template: Int) -> Int {
        let template = templates[template]
        let range = template.etherType == 0x0800 ? 12..<20 : 8..<40
        guard template.count >= range.upperBound else { return 0 }
        return range.reduce(0) { $0 &* 31 &+ Int(template.bytes.load(fromByteOffset: $1, as: UInt8.self)) }
            & 0xffff
    }

    /// A packet in outer fragments: mostly well, at times twice, out of order, overlapping or not whole.
    private mutating func cut() {
        let kept = flow
        flow = random.below(flows.count)
        let draft = segment(0)
        let template = templates[draft.template]
        var packet = Array(UnsafeRawBufferPointer(start: template.bytes, count: template.count))
        packet.withUnsafeMutableBytes {
            draft.marks.write(to: $0.baseAddress! + template.innerOffset, template.layout, template.sums)
        }
        let isIPv4 = flows[flow].mode.outerIsIPv4
        flow = kept
        guard template.vnet == VirtioHeader() else { return }
        identification &+= 1
        let header = isIPv4 ? 20 : 40
        let size = 8 * (1 + random.below(max(1, (packet.count - header) / 8)))
        var pieces: [[UInt8]] = []
        var start = 0
        while start < packet.count - header {
            var end = min(start + size, packet.count - header)
            let isLast = end == packet.count - header
            if !isLast && random.chance(40) { end += 8 }
            end = min(end, packet.count - header)
            pieces.append(
                Self.piece(packet, header, start..<end, !isLast, isIPv4: isIPv4, identification))
            start += size
        }
        guard pieces.count <= 60 else { return }
        if random.chance(4) {
            for place in pieces.indices { pieces.swapAt(place, random.below(pieces.count)) }
        }
        if random.chance(8) { pieces.append(random.pick(pieces)) }
        let worker = hash(draft.template)
        if random.chance(8) {
            let piece = pieces.remove(at: random.below(pieces.count))
            late.append(Draft(template: draft.template, marks: draft.marks, bytes: piece, worker: worker))
        }
        waiting += pieces.map {
            Draft(template: draft.template, marks: draft.marks, bytes: $0, worker: worker)
        }
    }

    /// Fragments of datagrams that never become whole, from one remote or from many.
    private mutating func flood() {
        let isOne = random.chance(2)
        let number = random.below(flows.count)
        for _ in 0..<(20 + random.below(300)) {
            let flow = isOne ? flows[number] : random.pick(flows)
            let template = flow.templates[0]
            let source = templates[template]
            guard source.vnet == VirtioHeader() else { continue }
            let isIPv4 = flow.mode.outerIsIPv4
            let header = isIPv4 ? 20 : 40
            let size = 8 * (1 + random.below(180))
            identification &+= 1
            var packet = Array(UnsafeRawBufferPointer(start: source.bytes, count: header))
            packet += [UInt8](repeating: 0, count: size + 8)
            let start = random.chance(4) ? 8 : 0
            let piece = Self.piece(packet, header, start..<size, true, isIPv4: isIPv4, identification)
            waiting.append(Draft(template: template, bytes: piece, worker: hash(template)))
        }
    }

    private static func piece(
        _ packet: [UInt8], _ header: Int, _ range: Range<Int>, _ hasMore: Bool, isIPv4: Bool, _ number: UInt16
    ) -> [UInt8] {
        var bytes = Array(packet[..<header])
        let payload = packet[(header + range.lowerBound)..<(header + range.upperBound)]
        if isIPv4 {
            bytes.replaceSubrange(2..<4, with: word(UInt16(header + payload.count)))
            bytes.replaceSubrange(4..<6, with: word(number))
            bytes.replaceSubrange(6..<8, with: word(UInt16(range.lowerBound / 8) | (hasMore ? 0x2000 : 0)))
            bytes.replaceSubrange(10..<12, with: [0, 0])
            bytes.replaceSubrange(10..<12, with: word(~sum(bytes)))
        } else {
            bytes.replaceSubrange(4..<6, with: word(UInt16(8 + payload.count)))
            bytes +=
                [bytes[6], 0] + word(UInt16(range.lowerBound) | (hasMore ? 1 : 0)) + wide(UInt32(number))
            bytes[6] = 44
        }
        return bytes + payload
    }
}
