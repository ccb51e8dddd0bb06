// Outer fragments (O8, O11): every order, duplicates, overlaps, floods, and a slow model beside them.

import Glibc
import SlowJudge
import TestPackets
import Testing

@testable import Forwarding

/// What became of one frame, fragments included.
private enum Fate: Equatable {
    case inject([UInt8])
    case pass, hold
    case drop(DropReason)
}

/// One worker's reassembly, fed frame by frame.
private final class Line {
    let world: ForwardingTables
    let reassembler: Reassembler?
    private let head = UnsafeMutableRawPointer.allocate(byteCount: Limits.headBytes, alignment: 8)

    init(_ world: ForwardingTables, memory: Int = 4 << 20, seconds: UInt64 = 30, seed: UInt64 = 1) {
        self.world = world
        reassembler =
            memory == 0
            ? nil : Reassembler(memory: memory, timeout: seconds * Line.second, seed: seed)
    }

    deinit { head.deallocate() }

    static let second: UInt64 = 1_000_000_000

    /// In a heap block of its own size, gone when the next frame comes.
    func take(
        _ bytes: [UInt8], at now: UInt64 = 0, vnet: VirtioHeader = VirtioHeader(),
        interface: UInt16 = 0
    ) -> Fate {
        let block = malloc(bytes.count)!
        defer { free(block) }
        bytes.withUnsafeBytes { _ = memcpy(block, $0.baseAddress!, $0.count) }
        var frame = Frame(
            network: UnsafeRawPointer(block), head: head, length: bytes.count,
            wireLength: bytes.count, linkLength: 14,
            etherType: bytes[0] >> 4 == 4 ? 0x0800 : 0x86dd, interface: interface, isForUs: true,
            vnet: vnet)
        var verdict = Verdict(kind: .pass)
        Judge.judge(
            &frame, into: &verdict, count: 1, tables: world.view, reassembler: reassembler, now: now)
        switch verdict.kind {
        case .inject:
            let rewritten = UnsafeRawBufferPointer(start: head, count: Int(verdict.headLength))
            let rest = UnsafeRawBufferPointer(
                start: frame.network + Int(verdict.offset) + Int(verdict.headLength),
                count: Int(verdict.length) - Int(verdict.headLength))
            #expect(Int(verdict.offset) + Int(verdict.length) <= frame.length)
            return .inject(Array(rewritten) + Array(rest))
        case .pass: return .pass
        case .hold: return .hold
        case .drop: return .drop(verdict.reason)
        case .reply: return .drop(.none)
        }
    }
}

extension Encapsulated {
    /// The outer packet in fragments that begin at these offsets (multiples of 8, 0 first).
    fileprivate func cut(at offsets: [Int], id: UInt16 = 7) -> [[UInt8]] {
        cut(
            ranges: offsets.indices.map { index in
                let end = index + 1 < offsets.count ? offsets[index + 1] : fragmentable.count
                return offsets[index]..<end
            }, id: id)
    }

    /// What may be cut: behind an IPv4 header, or behind the unfragmentable headers.
    fileprivate var fragmentable: [UInt8] { innerPacket }

    fileprivate func cut(ranges: [Range<Int>], id: UInt16 = 7) -> [[UInt8]] {
        ranges.map { piece($0, of: fragmentable, more: $0.upperBound < fragmentable.count, id: id) }
    }

    fileprivate func piece(
        _ range: Range<Int>, of bytes: [UInt8], more: Bool, id: UInt16 = 7
    ) -> [UInt8] {
        var header = outer
        if outer.isIPv4 {
            header.identification = id
            header.fragment = UInt16(range.lowerBound / 8) | (more ? 0x2000 : 0)
        } else {
            var fragment = Extension.fragment(offset: UInt16(range.lowerBound / 8), more: more)
            fragment.bytes.replaceSubrange(4..<8, with: [0, 0] + word(id))
            header.extensions.append(fragment)
        }
        return header.packet(Array(bytes[range]))
    }

    /// With an inner packet of `count` bytes of UDP payload.
    fileprivate static func large(_ mode: Mode, _ count: Int = 3000) -> Encapsulated {
        Encapsulated(mode).with {
            $0.inner.protocolNumber = 17
            $0.payload = udp(
                $0.inner, to: 53, (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ $0 >> 8) })
        }
    }
}

private let overIPv6: [Mode] = [.ipip6, .ip6ip6]

@Suite("Reassembly of outer fragments")
struct ReassemblyTests {
    private static let world = ForwardingTests.world()

    @Test("O8 fragments in every order make the whole", arguments: Mode.allCases)
    func everyOrder(mode: Mode) {
        let packet = Encapsulated.large(mode)
        let pieces = packet.cut(at: [0, 800, 1600, 2400])
        var orders: [[Int]] = [[]]
        for _ in 0..<4 {
            orders = orders.flatMap { order in
                (0..<4).filter { !order.contains($0) }.map { order + [$0] }
            }
        }
        #expect(orders.count == 24)
        let line = Line(Self.world)
        for order in orders {
            let fates = order.map { line.take(pieces[$0]) }
            #expect(fates == [.hold, .hold, .hold, .inject(packet.innerPacket)])
        }
        #expect(line.reassembler!.isEmpty)
        #expect(line.reassembler!.failures == Reassembler.Failures())
    }

    @Test("O8 the longest datagram", arguments: Mode.allCases)
    func longest(mode: Mode) {
        let packet = Encapsulated(mode).with {
            $0.inner.protocolNumber = 17
            let headers = ($0.outer.isIPv4 ? 20 : 0) + ($0.inner.isIPv4 ? 20 : 40) + 8
            $0.payload = udp($0.inner, to: 53, [UInt8](repeating: 9, count: 65_535 - headers))
        }
        let pieces = packet.cut(at: Array(stride(from: 0, to: packet.innerPacket.count, by: 1480)))
        let line = Line(Self.world, memory: 1 << 18)
        for piece in pieces.dropLast().reversed() { #expect(line.take(piece) == .hold) }
        #expect(line.take(pieces.last!) == .inject(packet.innerPacket))
    }

    @Test("O8 an exact duplicate is dropped alone", arguments: Mode.allCases)
    func duplicates(mode: Mode) {
        let packet = Encapsulated.large(mode)
        let pieces = packet.cut(at: [0, 1000, 2000])
        let line = Line(Self.world)
        #expect(line.take(pieces[1]) == .hold)
        #expect(line.take(pieces[1]) == .drop(.duplicateFragment))
        #expect(line.take(pieces[2]) == .hold)
        #expect(line.take(pieces[2]) == .drop(.duplicateFragment))
        #expect(line.take(pieces[0]) == .inject(packet.innerPacket))
        // Then a late duplicate is the first of a new datagram.
        #expect(line.take(pieces[0]) == .hold)
    }

    @Test("O11 an overlap refuses the datagram, also what still comes of it", arguments: Mode.allCases)
    func overlaps(mode: Mode) {
        let packet = Encapsulated.large(mode)
        let length = packet.innerPacket.count
        let first = [0..<1000, 1000..<2000, 2000..<length]
        let pieces = packet.cut(ranges: first)
        for bad in [
            0..<1008, 0..<992, 8..<1000, 992..<1008, 992..<2000, 1000..<2008, 1008..<1992,
            1992..<2008, 0..<2000, 1992..<length, 2008..<length,
        ] {
            let line = Line(Self.world)
            // All but one piece that it does not touch, so that the whole is still open.
            let open = bad.upperBound <= 2000 ? 2 : 0
            for index in 0..<3 where index != open {
                #expect(line.take(pieces[index]) == .hold)
            }
            #expect(line.take(packet.cut(ranges: [bad])[0]) == .drop(.fragmentOverlap), "\(bad)")
            for piece in pieces {
                #expect(line.take(piece, at: 29 * Line.second) == .drop(.fragmentOverlap))
            }
            #expect(line.reassembler!.failures.overlap == 1)
            // Another datagram of the same remote is not concerned.
            #expect(line.take(packet.cut(ranges: first, id: 8)[0]) == .hold)
            // When its time is over, the same identification is a new datagram.
            let fates = pieces.map { line.take($0, at: 30 * Line.second) }
            #expect(fates == [.hold, .hold, .inject(packet.innerPacket)])
            #expect(line.reassembler!.failures.timeout == 1)
        }
    }

    @Test("O11 two ends, or bytes behind the end", arguments: Mode.allCases)
    func ends(mode: Mode) {
        let packet = Encapsulated.large(mode)
        let bytes = packet.innerPacket
        let end = packet.piece(1600..<2000, of: bytes, more: false)
        for other in [
            packet.piece(2000..<2400, of: bytes, more: false),
            packet.piece(2000..<2400, of: bytes, more: true),
            packet.piece(800..<1200, of: bytes, more: false),
        ] {
            let line = Line(Self.world)
            #expect(line.take(end) == .hold)
            #expect(line.take(other) == .drop(.fragmentOverlap))
        }
        let line = Line(Self.world)
        #expect(line.take(packet.piece(2000..<2400, of: bytes, more: true)) == .hold)
        #expect(line.take(end) == .drop(.fragmentOverlap))
    }

    @Test("O8 what waits too long is given up", arguments: Mode.allCases)
    func timeouts(mode: Mode) {
        let packet = Encapsulated.large(mode)
        let pieces = packet.cut(at: [0, 1000])
        let line = Line(Self.world, seconds: 3)
        #expect(line.take(pieces[0], at: 5 * Line.second) == .hold)
        #expect(line.reassembler!.deadline == 8 * Line.second)
        #expect(line.take(pieces[1], at: 8 * Line.second) == .hold)
        #expect(line.reassembler!.failures.timeout == 1)
        #expect(line.take(pieces[0], at: 11 * Line.second - 1) == .inject(packet.innerPacket))
        // Time that stands, or goes back as in a capture, gives nothing up.
        #expect(line.take(pieces[0], at: 20 * Line.second) == .hold)
        #expect(line.take(pieces[1], at: Line.second) == .inject(packet.innerPacket))
        #expect(line.reassembler!.failures.timeout == 1 && line.reassembler!.isEmpty)
    }

    @Test("O11 a tiny first fragment is no way around the checks", arguments: Mode.allCases)
    func tiny(mode: Mode) {
        let packet = Encapsulated.large(mode)
        let line = Line(Self.world)
        let pieces = packet.cut(at: [0, 8, 16])
        #expect(pieces.map { line.take($0) } == [.hold, .hold, .inject(packet.innerPacket)])
        let bad = packet.with { $0.inner.protocolNumber = mode.innerIsIPv4 ? 4 : 41 }
        #expect(bad.cut(at: [0, 8, 16]).map { line.take($0) }.last == .drop(.nestedTunnel))
    }

    @Test("O8 lengths that no fragment can have", arguments: Mode.allCases)
    func lengths(mode: Mode) {
        let packet = Encapsulated.large(mode)
        let bytes = packet.innerPacket + [UInt8](repeating: 0, count: 66_000)
        let line = Line(Self.world)
        #expect(line.take(packet.piece(0..<1001, of: bytes, more: true)) == .drop(.invalidHeader))
        #expect(
            line.take(packet.piece(8..<8, of: bytes, more: false, id: 8)) == .drop(.packetTooSmall))
        // The ping of death.
        #expect(
            line.take(packet.piece(65_528..<65_544, of: bytes, more: false, id: 9))
                == .drop(.invalidHeader))
        let room = packet.outer.isIPv4 ? 65_515 : 65_535
        #expect(line.take(packet.piece(65_000..<room, of: bytes, more: false, id: 10)) == .hold)
        #expect(
            line.take(packet.piece(65_000..<room + 1, of: bytes, more: false, id: 11), at: 1)
                == .drop(.invalidHeader))
        // All but the empty one refuse their datagram.
        #expect(line.reassembler!.failures.overlap == 3)
    }

    /// Linux queues it, cut to a multiple of eight, and finds the overlap.
    @Test("O11 a fragment that is refused takes its datagram along", arguments: Mode.allCases)
    func refusedFragments(mode: Mode) {
        let packet = Encapsulated.large(mode)
        let bytes = packet.innerPacket + [UInt8](repeating: 0, count: 66_000)
        let pieces = packet.cut(at: [0, 800, 1600])
        let odd = packet.piece(800..<1613, of: bytes, more: true)
        let short = packet.piece(808..<813, of: bytes, more: true)
        let long = packet.piece(65_528..<65_544, of: bytes, more: true)
        let bad = [
            (odd, VirtioHeader()), (short, VirtioHeader()), (long, VirtioHeader()),
            (pieces[1], VirtioHeader(flags: 1)),
        ]
        for (fragment, vnet) in bad {
            for place in 0..<3 {
                let line = Line(Self.world)
                for piece in pieces[..<place] { #expect(line.take(piece) == .hold) }
                let reason: DropReason = vnet.flags == 1 ? .gsoInvalid : .invalidHeader
                #expect(line.take(fragment, vnet: vnet) == .drop(reason))
                for piece in pieces { #expect(line.take(piece) == .drop(.fragmentOverlap)) }
                #expect(line.reassembler!.failures.overlap == 1)
                // Others are whole, and when its time is over so is the next of its key.
                let others = packet.cut(at: [0, 800], id: 8).map { line.take($0) }
                #expect(others == [.hold, .inject(packet.innerPacket)])
                let later = pieces.map { line.take($0, at: 30 * Line.second) }
                #expect(later.last == .inject(packet.innerPacket))
            }
        }
    }

    @Test("a fragment that is damaged says nothing of its datagram", arguments: Mode.allCases)
    func damaged(mode: Mode) {
        let packet = Encapsulated.large(mode)
        let pieces = packet.cut(at: [0, 800])
        var odd = packet.piece(800..<1613, of: packet.innerPacket, more: true)
        let line = Line(Self.world)
        #expect(line.take(pieces[0]) == .hold)
        #expect(line.take(Array(odd.dropLast())) == .drop(.packetTooSmall))
        if mode.outerIsIPv4 {
            odd[10] ^= 1
            #expect(line.take(odd) == .drop(.invalidHeader))
        }
        #expect(line.take(pieces[1]) == .inject(packet.innerPacket))
    }

    @Test("O11 a repetition that claims to be the last fragment", arguments: Mode.allCases)
    func repetitionWithAnEnd(mode: Mode) {
        let packet = Encapsulated.large(mode)
        let bytes = packet.innerPacket
        let pieces = packet.cut(at: [0, 800, 1600])
        let line = Line(Self.world)
        #expect(line.take(pieces[1]) == .hold)
        #expect(
            line.take(packet.piece(800..<1600, of: bytes, more: false)) == .drop(.fragmentOverlap))
        #expect(line.take(pieces[0]) == .drop(.fragmentOverlap))
        // The other way round Linux takes note of nothing.
        let other = packet.cut(at: [0, 800, 1600], id: 8)
        #expect(line.take(other[2]) == .hold)
        #expect(
            line.take(packet.piece(1600..<bytes.count / 8 * 8, of: bytes, more: true, id: 8))
                == .drop(bytes.count % 8 == 0 ? .duplicateFragment : .fragmentOverlap))
    }

    @Test("O11 fragments of one key and another protocol", arguments: overIPv6)
    func strays(mode: Mode) {
        let packet = Encapsulated.large(mode)
        let pieces = packet.cut(at: [0, 800])
        let stray = packet.with { $0.outer.protocolNumber = 17 }.cut(at: [0, 400])
        for fragment in stray {
            let line = Line(Self.world)
            #expect(line.take(pieces[0]) == .hold)
            #expect(line.take(fragment) == .pass)
            #expect(line.take(pieces[1]) == .drop(.fragmentOverlap))
        }
        // Where nothing of a tunnel's has come, others' fragments are the kernel's alone.
        let line = Line(Self.world)
        for fragment in stray { #expect(line.take(fragment) == .pass) }
        #expect(line.reassembler!.isEmpty)
    }

    @Test("O8 fragments that came in by two VRFs are two datagrams", arguments: Mode.allCases)
    func domains(mode: Mode) {
        let world = ForwardingTables(
            policy: PolicyTables(.usual), routes: nil,
            interfaces: [
                InterfaceState(index: 2, mtu: 1500, reversePath: .off, vrf: 100),
                InterfaceState(index: 3, mtu: 1500, reversePath: .off, vrf: 200),
            ])
        let packet = Encapsulated.large(mode)
        let pieces = packet.cut(at: [0, 800])
        let line = Line(world)
        #expect(line.take(pieces[0]) == .hold)
        #expect(line.take(pieces[1], interface: 1) == .hold)
        #expect(line.take(pieces[0], interface: 1) == .inject(packet.innerPacket))
    }

    @Test("an empty fragment leaves its datagram no honest end", arguments: Mode.allCases)
    func emptyFragment(mode: Mode) {
        let packet = Encapsulated.large(mode)
        let pieces = packet.cut(at: [0, 800])
        let line = Line(Self.world)
        let bytes = packet.innerPacket
        #expect(line.take(pieces[0]) == .hold)
        #expect(line.take(packet.piece(800..<800, of: bytes, more: false)) == .drop(.packetTooSmall))
        #expect(line.take(pieces[1]) == .drop(.fragmentOverlap))
        #expect(line.reassembler!.failures.overlap == 1)
        // Of another datagram it means nothing, nor where there is none.
        let others = packet.cut(ranges: [0..<800, 800..<bytes.count], id: 8)
        #expect(line.take(packet.piece(800..<800, of: bytes, more: true, id: 8)) == .drop(.packetTooSmall))
        #expect(line.take(others[0]) == .hold)
        #expect(line.take(packet.piece(8..<8, of: bytes, more: true, id: 9)) == .drop(.packetTooSmall))
        #expect(line.take(others[1]) == .inject(bytes))
    }

    @Test("O11 more fragments than a datagram can need", arguments: Mode.allCases)
    func tooMany(mode: Mode) {
        let packet = Encapsulated.large(mode)
        let pieces = packet.cut(at: Array(stride(from: 0, to: 66 * 8, by: 8)))
        let line = Line(Self.world)
        for piece in pieces[..<Limits.fragments] { #expect(line.take(piece) == .hold) }
        #expect(line.take(pieces[Limits.fragments]) == .drop(.fragmentMemoryLimit))
        #expect(line.reassembler!.failures.memory == 1)
        // They make no other datagram either.
        for piece in pieces { #expect(line.take(piece) == .drop(.fragmentOverlap)) }
        line.reassembler!.expire(now: 30 * Line.second)
        #expect(line.reassembler!.isEmpty)
        #expect(line.reassembler!.failures.memory == 1 && line.reassembler!.failures.timeout == 0)
    }

    @Test(
        "O9 headers behind the fragment header, as Linux writes its encapsulation limit",
        arguments: overIPv6)
    func chain(mode: Mode) {
        let packet = Encapsulated.large(mode)
        // Destination options with the limit, then the tunnel's protocol.
        let limit: [UInt8] = [packet.outer.protocolNumber, 0, 4, 1, 4, 1, 1, 0]
        let bytes = limit + packet.innerPacket
        let cut = packet.with { $0.outer.protocolNumber = 60 }
        let pieces = [0..<800, 800..<1600, 1600..<bytes.count].map {
            cut.piece($0, of: bytes, more: $0.upperBound < bytes.count)
        }
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [1, 0, 2]] {
            let line = Line(Self.world)
            #expect(
                order.map { line.take(pieces[$0]) } == [.hold, .hold, .inject(packet.innerPacket)])
        }
        // From a stranger, or where fragments are not kept, such a one may be another's.
        let stranger = cut.with { $0.outer.source = ip("2001:db8:6::1") }
        #expect(Line(Self.world).take(stranger.piece(800..<1600, of: bytes, more: true)) == .pass)
        #expect(Line(Self.world, memory: 0).take(pieces[1]) == .pass)
    }

    @Test("O11 a first fragment without the whole chain (RFC 7112)", arguments: overIPv6)
    func incompleteChain(mode: Mode) {
        let packet = Encapsulated.large(mode).with { $0.outer.protocolNumber = 60 }
        let chain: [UInt8] = [packet.inner.isIPv4 ? 4 : 41, 1] + [UInt8](repeating: 0, count: 14)
        let piece = packet.piece(0..<8, of: chain, more: true)
        #expect(Line(Self.world).take(piece) == .drop(.badExtensionHeader))
    }

    @Test("RFC 3168 §5.3 the fragments' congestion marks, all pairs", arguments: Mode.allCases)
    func congestion(mode: Mode) {
        for first: UInt8 in 0..<4 {
            for second: UInt8 in 0..<4 {
                let packet = Encapsulated.large(mode).with {
                    $0.inner.trafficClass = 2
                    $0.outer.trafficClass = first
                }
                let other = packet.with { $0.outer.trafficClass = second }
                let line = Line(Self.world)
                #expect(line.take(packet.cut(at: [0, 800])[0]) == .hold)
                let fate = line.take(other.cut(at: [0, 800])[1])
                if (first == 0) != (second == 0) {
                    #expect(fate == .drop(.tunnelECN))
                    continue
                }
                let whole = packet.with { $0.outer.trafficClass = max(first, second) == 3 ? 3 : first }
                #expect(Outcome.inject(injected(fate)) == outcome(whole, in: Self.world))
            }
        }
    }

    private func injected(_ fate: Fate) -> [UInt8] {
        if case .inject(let bytes) = fate { bytes } else { [] }
    }

    @Test("O4 a fragment is put to the tunnel before it is kept", arguments: Mode.allCases)
    func tunnel(mode: Mode) {
        let stranger = Encapsulated.large(mode).with {
            $0.outer.source = ip($0.outer.isIPv4 ? "198.18.0.1" : "2001:db8:6::1")
        }
        let line = Line(Self.world)
        for piece in stranger.cut(at: [0, 800]) {
            #expect(line.take(piece) == .drop(.remoteNotAllowed))
        }
        let elsewhere = Encapsulated.large(mode).with {
            $0.outer.destination = ip($0.outer.isIPv4 ? "192.0.2.3" : "2001:db8::3")
        }
        for piece in elsewhere.cut(at: [0, 800]) { #expect(line.take(piece) == .pass) }
        #expect(line.reassembler!.isEmpty)
        let off = Line(Self.world, memory: 0)
        let pieces = Encapsulated.large(mode).cut(at: [0, 800])
        #expect(pieces.map { off.take($0) } == [.drop(.fragmentsDisabled), .drop(.fragmentsDisabled)])
        // An unfinished checksum or a super-frame cannot be a fragment's.
        for vnet in [VirtioHeader(flags: 1), VirtioHeader(gsoType: 1, gsoSize: 800)] {
            #expect(line.take(pieces[0], vnet: vnet) == .drop(.gsoInvalid))
        }
    }

    @Test(
        "O8 datagrams differ by addresses, identification and, for IPv4, protocol",
        arguments: Mode.allCases)
    func keys(mode: Mode) {
        let packet = Encapsulated.large(mode)
        var others = [packet, packet.with { $0.outer.source = ip("198.51.100.9") }]
        if !mode.outerIsIPv4 { others[1].outer.source = ip("2001:db8:5::9") }
        if mode.outerIsIPv4 {
            others.append(Encapsulated.large(mode == .ipip ? .ip6ip : .ipip))
        }
        let line = Line(Self.world)
        for id: UInt16 in [7, 8] {
            for other in others { #expect(line.take(other.cut(at: [0, 800], id: id)[0]) == .hold) }
        }
        for id: UInt16 in [7, 8] {
            for other in others {
                #expect(
                    line.take(other.cut(at: [0, 800], id: id)[1]) == .inject(other.innerPacket))
            }
        }
    }

    @Test("a flood of first fragments costs its remote, and no other", arguments: Mode.allCases)
    func flood(mode: Mode) {
        let packet = Encapsulated.large(mode)
        let pieces = packet.cut(at: [0, 1480])
        let flood = Encapsulated.large(mode).with {
            $0.outer.source = ip($0.outer.isIPv4 ? "198.51.100.66" : "2001:db8:5::66")
        }
        let line = Line(Self.world)
        for number in 0..<30_000 {
            let now = UInt64(number) * Line.second / 150_000
            let first = flood.cut(at: [0, 1480], id: UInt16(number))[0]
            #expect(line.take(first, at: now) == .hold)
            if number % 100 == 0 { #expect(line.take(pieces[0], at: now) == .hold) }
            if number % 100 == 99 {
                #expect(line.take(pieces[1], at: now) == .inject(packet.innerPacket))
            }
        }
        #expect(line.reassembler!.failures.memory > 29_000)
    }

    @Test("a flood from many remotes stays within the memory")
    func wideFlood() {
        var random = Random(11)
        let line = Line(Self.world, memory: 1 << 18)
        let packet = Encapsulated.large(.ipip)
        let pieces = packet.cut(at: [0, 1480])
        var whole = 0
        for number in 0..<20_000 {
            let flood = packet.with { $0.outer.source = ip("198.51.100.\(random.below(200) + 2)") }
            let cut = flood.cut(at: [0, 8 * (1 + random.below(180))], id: UInt16(number))
            let fate = line.take(cut[random.below(2)])
            #expect(fate == .hold || fate == .drop(.fragmentMemoryLimit))
            if number % 10 == 0 { _ = line.take(pieces[0]) }
            if number % 10 == 1 { whole += line.take(pieces[1]) == .hold ? 0 : 1 }
        }
        // Ten evictions between the two among some fifty held: most survive.
        #expect(whole > 1200)
        line.reassembler!.expire(now: 31 * Line.second)
        #expect(line.reassembler!.isEmpty)
    }

    /// Each takes one cell, so that no datagram is left to describe another with.
    @Test("a flood of the smallest fragments gives up the oldest", arguments: Mode.allCases)
    func smallestFragments(mode: Mode) {
        let line = Line(Self.world, memory: 1)
        let packet = Encapsulated.large(mode, 24)
        let whole = packet.fragmentable
        let count = 2000
        for id in 0..<count {
            #expect(line.take(packet.piece(0..<8, of: whole, more: true, id: UInt16(id))) == .hold)
        }
        let held = count - Int(line.reassembler!.failures.memory)
        #expect(held > 256 && held < 1024)
        // The newest have all that came of them.
        for id in (count - held / 2)..<count {
            let rest = packet.piece(8..<whole.count, of: whole, more: false, id: UInt16(id))
            #expect(line.take(rest) == .inject(packet.innerPacket))
        }
        // The first of the others needed a cell.
        #expect(line.reassembler!.failures.memory == UInt64(count - held + 1))
    }

    @Test("O7 each fragment's own header is checked", arguments: [.ipip, .ip6ip] as [Mode])
    func options(mode: Mode) {
        let packet = Encapsulated.large(mode).with { $0.outer.options = [131, 7, 4, 10, 0, 0, 1] }
        #expect(Line(Self.world).take(packet.cut(at: [0, 800])[1]) == .drop(.sourceRoute))
        let broken = Encapsulated.large(mode).with { $0.outer.checksumError = 1 }
        #expect(Line(Self.world).take(broken.cut(at: [0, 800])[0]) == .drop(.invalidChecksum))
        // Record route in the first fragment, nothing in the others (RFC 791, not copied).
        let record = Encapsulated.large(mode).with { $0.outer.options = [7, 7, 4, 0, 0, 0, 0] }
        let line = Line(Self.world)
        #expect(line.take(record.cut(at: [0, 800])[0]) == .hold)
        #expect(
            line.take(Encapsulated.large(mode).cut(at: [0, 800])[1])
                == .inject(record.innerPacket))
    }

    /// Bytes of a datagram, by who came first; as slow and as obvious as can be.
    private struct Model {
        var parts: [Range<Int>] = []
        var end: Int?
        var isRefused = false

        mutating func take(_ range: Range<Int>, more: Bool) -> Fate? {
            if isRefused { return .drop(.fragmentOverlap) }
            let highest = parts.map(\.upperBound).max() ?? 0
            let bad =
                more
                ? end.map { range.upperBound > $0 } ?? false
                : highest > range.upperBound || (end != nil && end != range.upperBound)
            if !bad && parts.contains(range) && (more || end == range.upperBound) {
                return .drop(.duplicateFragment)
            }
            if bad || parts.contains(where: { $0.overlaps(range) }) {
                isRefused = true
                return .drop(.fragmentOverlap)
            }
            parts.append(range)
            if !more { end = range.upperBound }
            return parts.map(\.count).reduce(0, +) == end ? nil : .hold
        }
    }

    @Test("random fragments of random datagrams, against a slow model", arguments: 0..<8)
    func random(seed: Int) {
        var random = Random(UInt64(seed) + 77)
        for _ in 0..<300 {
            let mode = Mode.allCases[random.below(4)]
            let packet = Encapsulated.large(mode, 100 + random.below(400))
            let bytes = packet.innerPacket
            let line = Line(Self.world, seed: random.next())
            var models: [UInt16: Model] = [:]
            for _ in 0..<40 {
                let id = UInt16(random.below(3))
                let from = random.below(bytes.count / 8) * 8
                var to = min(bytes.count, from + 8 * (1 + random.below(12)))
                if random.chance(3) { to = bytes.count }
                let more = to < bytes.count && !random.chance(20)
                // Neither may a fragment be odd, nor is the whole in one a fragment.
                if (more && (to - from) % 8 != 0) || (from == 0 && !more) { continue }
                let fate = line.take(packet.piece(from..<to, of: bytes, more: more, id: id))
                let expected = models[id, default: Model()].take(from..<to, more: more)
                if let expected {
                    #expect(fate == expected)
                } else {
                    let end = models[id]!.end!
                    models[id] = nil
                    // A datagram that ended early is judged as what it is.
                    if end == bytes.count { #expect(fate == .inject(bytes)) }
                    #expect(fate != .hold)
                }
            }
        }
    }
}
