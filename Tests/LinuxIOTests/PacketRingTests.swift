// Receive rings on a veth: order, what is let in, frames larger than a slot, and overruns.

import CLinux
import Glibc
import IP
import Testing

@testable import Forwarding
@testable import LinuxIO

extension OnHost {
    @Suite struct PacketRingTests {
        /// Waits for the next slot's frame, without its link-layer header.
        private static func next(_ slots: Slots, _ index: Int) throws -> Slot {
            try Network.eventually("slot \(index)") { slots.slot(at: index) != nil }
            return slots.slot(at: index)!
        }

        private static func bytes(_ slot: Slot) -> [UInt8] {
            Array(UnsafeRawBufferPointer(start: slot.frame, count: slot.capturedLength))
        }

        private static func ring(
            _ network: Network, slots: Int = 256, fanout: FanoutGroup? = nil
        ) throws -> PacketRing {
            try PacketRing(
                interface: "near", index: network.near, slotSize: 2048, slotCount: slots,
                fanout: fanout, place: .new())
        }

        @Test func framesComeInOrderAndWhole() throws {
            try Network.with { network in
                let ring = try Self.ring(network)
                try network.send([Frames.numbered(999)])  // before anything is let in
                try ring.startReceiving()
                let slots = ring.slots
                var index = 0
                // Three times around.
                for round in 0..<8 {
                    let frames = (0..<100).map { Frames.numbered(round * 100 + $0) }
                    try network.send(frames)
                    for frame in frames {
                        let slot = try Self.next(slots, index)
                        #expect(Self.bytes(slot) == frame)
                        #expect(slot.wireLength == frame.count && slot.linkLength == 14)
                        #expect(slot.isForUs && !slot.isCopied)
                        let header = UnsafeRawBufferPointer(
                            start: slot.frame - PacketRing.virtioHeaderBytes, count: 2)
                        #expect(Array(header) == [0, 0])
                        Slots.release(slot.start)
                        index = (index + 1) % slots.count
                    }
                }
                #expect(ring.droppedByKernel() == 0)
                let other = try Self.ring(network)
                try other.startReceiving()
                try ring.stopReceiving()
                // Every ring is given a frame before the next frame comes.
                try network.send([Frames.numbered(1), Frames.numbered(2)])
                _ = try Self.next(other.slots, 1)
                #expect(slots.slot(at: index) == nil)
            }
        }

        @Test func onlyTunnelFramesForUsAreLetIn() throws {
            try Network.with { network in
                let ring = try Self.ring(network)
                try ring.startReceiving()
                let payload = [UInt8](repeating: 0, count: 40)
                func four(_ number: UInt8) -> [UInt8] {
                    Frames.ethernet(
                        Network.nearAddress, 0x0800,
                        Frames.ipv4(number, from: Frames.four(1), to: Frames.four(2), payload))
                }
                func six(_ number: UInt8) -> [UInt8] {
                    Frames.ethernet(
                        Network.nearAddress, 0x86dd,
                        Frames.ipv6(number, from: Frames.six(1), to: Frames.six(2), payload))
                }
                let stranger = Array([2, 9, 9, 9, 9, 9] + four(4)[6...])
                let tagged = Array(four(4)[..<12]) + [0x81, 0, 0, 5] + Array(four(4)[12...])
                let arp = Frames.ethernet(Network.nearAddress, 0x0806, payload)
                let refused = [6, 17, 47, 50, 58].map { four($0) } + [6, 17, 58, 59].map { six($0) }
                let accepted = [4, 41].map { four($0) } + [4, 41, 0, 43, 44, 60].map { six($0) }
                try network.send(refused + [stranger, tagged, arp] + accepted)
                for (index, frame) in accepted.enumerated() {
                    #expect(Self.bytes(try Self.next(ring.slots, index)) == frame)
                }
                #expect(ring.slots.slot(at: accepted.count) == nil)
            }
        }

        /// By source and next header, as many sources as a configuration may have; and changed.
        @Test func nativeFramesOfNamedSourcesAreLetIn() throws {
            try Network.with { network in
                let ring = try Self.ring(network)
                func frame(_ number: UInt8, _ source: UInt8) -> [UInt8] {
                    Frames.ethernet(
                        Network.nearAddress, 0x86dd,
                        Frames.ipv6(
                            number, from: Frames.six(source), to: Frames.six(200),
                            [UInt8](repeating: 0, count: 40)))
                }
                var index = 0
                func expect(_ frames: [[UInt8]]) throws {
                    for frame in frames {
                        let slot = try Self.next(ring.slots, index)
                        #expect(Self.bytes(slot) == frame)
                        Slots.release(slot.start)
                        index += 1
                    }
                }
                for sources: ClosedRange<UInt8> in [1...1, 1...64, 5...6] {
                    try ring.startReceiving(natives: sources.map { Frames.six($0) })
                    let some = [sources.lowerBound, sources.upperBound]
                    let wanted =
                        some.flatMap { source in
                            [6, 17, 58, 41, 44].map { frame($0, source) }
                        } + [frame(41, 100)]
                    let others = [frame(6, 100), frame(17, 0), frame(59, 5), frame(132, 5)]
                    try network.send(others + wanted)
                    try expect(wanted)
                }
                try ring.startReceiving()
                try network.send([frame(6, 5), frame(41, 5)])
                try expect([frame(41, 5)])
            }
        }

        /// More sources than a socket filter has instructions for.
        @Test func thousandsOfSourcesOfNativeFramesAreLetIn() throws {
            try Network.with { network in
                let ring = try Self.ring(network)
                let blocks = Array(Frames.six(0)[..<14])
                func frame(_ source: [UInt8]) -> [UInt8] {
                    Frames.ethernet(
                        Network.nearAddress, 0x86dd,
                        Frames.ipv6(
                            6, from: source, to: Frames.six(200), [UInt8](repeating: 0, count: 40)))
                }
                let sources = (0..<10_000).map { blocks + Frames.word($0) }
                #expect(
                    TapFilter.prefixes(of: sources.map { Address(bytes: $0)! }).count
                        <= TapFilter.nativesMax)
                try ring.startReceiving(natives: sources)
                let far = frame([0xfe, 0x80] + [UInt8](repeating: 0, count: 14))
                let wanted = [0, 1, 255, 256, 5000, 9999].map { frame(sources[$0]) }
                try network.send([far] + wanted)
                for (index, frame) in wanted.enumerated() {
                    #expect(Self.bytes(try Self.next(ring.slots, index)) == frame)
                }
            }
        }

        @Test func aFrameBeyondItsSlotComesByTheSocket() throws {
            try Network.with(mtu: 9000) { network in
                let ring = try Self.ring(network)
                try ring.startReceiving()
                let frames = [
                    Frames.numbered(1), Frames.numbered(2, bytes: 4000), Frames.numbered(3),
                    Frames.numbered(4, bytes: 8900),
                ]
                try network.send(frames)
                var buffer = [UInt8](repeating: 0, count: PacketRing.frameBytesMax)
                for (index, frame) in frames.enumerated() {
                    let slot = try Self.next(ring.slots, index)
                    #expect(slot.wireLength == frame.count)
                    #expect(slot.isCopied == (frame.count > 2048))
                    guard slot.isCopied else {
                        #expect(Self.bytes(slot) == frame)
                        continue
                    }
                    #expect(Self.bytes(slot) == Array(frame[..<slot.capturedLength]))
                    let count = ring.receive(
                        into: &buffer, capacity: buffer.count, slot: index, wireLength: slot.wireLength)
                    #expect(count == PacketRing.virtioHeaderBytes + frame.count)
                    #expect(Array(buffer[PacketRing.virtioHeaderBytes..<count]) == frame)
                }
                #expect(
                    ring.receive(into: &buffer, capacity: buffer.count, slot: 4, wireLength: 4000) == 0)
            }
        }

        /// What a slot went without is not taken for the next one's, and a socket error costs none.
        @Test func aFrameBeyondItsSlotIsNotAnothers() throws {
            try Network.with(mtu: 9000) { network in
                let ring = try Self.ring(network)
                try ring.startReceiving()
                let frames = [4000, 5000, 6000].enumerated().map {
                    Frames.numbered($0, bytes: $1)
                }
                try network.send(frames)
                for index in frames.indices { _ = try Self.next(ring.slots, index) }
                _ = try Network.run("ip link set near down")
                var buffer = [UInt8](repeating: 0, count: PacketRing.frameBytesMax)
                let count = ring.receive(
                    into: &buffer, capacity: buffer.count, slot: 1, wireLength: frames[1].count)
                #expect(count == PacketRing.virtioHeaderBytes + frames[1].count)
                #expect(Array(buffer[PacketRing.virtioHeaderBytes..<max(count, 10)]) == frames[1])
                #expect(
                    ring.receive(
                        into: &buffer, capacity: buffer.count, slot: 2, wireLength: frames[2].count)
                        == PacketRing.virtioHeaderBytes + frames[2].count)
            }
        }

        /// The moments at which a worker can die around the system call that takes a frame from the queue.
        enum Moment: CaseIterable { case before, within, after }

        /// The next worker has each frame once and whole, whenever the first one died.
        @Test(arguments: Moment.allCases)
        func aFrameTakenByAKilledWorkerIsNotLost(moment: Moment) throws {
            try Network.with(mtu: 9000) { network in
                let ring = try Self.ring(network)
                try ring.startReceiving()
                let frames = [3000, 4000, 5000].enumerated().map { Frames.numbered($0, bytes: $1) }
                try network.send(frames)
                for index in frames.indices { _ = try Self.next(ring.slots, index) }
                let memory = try NamedMemory(name: "copies", byteCount: FrameCopies.byteCount, cpu: 0)
                let copies = FrameCopies(in: memory)
                // The first is taken; at the second the worker dies.
                for (slot, frame) in frames.prefix(2).enumerated() {
                    #expect(copies.begin(interface: ring.interfaceIndex, slot: slot) == slot)
                    if slot == 1 && moment == .before { break }
                    let count = ring.receive(
                        into: copies.buffer(slot), capacity: PacketRing.frameBytesMax, slot: slot,
                        wireLength: frame.count)
                    if slot == 1 && moment == .within { break }
                    copies.end(slot, bytes: count)
                }
                let next = try PacketRing(
                    adopting: Descriptor(dup(ring.descriptor.number)), interface: "near",
                    index: network.near, slotSize: 2048, slotCount: 256, place: ring.place)
                let left = try NamedMemory(adopting: memory.file, byteCount: FrameCopies.byteCount)
                next.adopt(FrameCopies(in: left), batch: 64)
                #expect(next.resume().resumption == .init(cursor: 0))
                var buffer = [UInt8](repeating: 0, count: PacketRing.frameBytesMax)
                for (slot, frame) in frames.enumerated() {
                    let count = next.receive(
                        into: &buffer, capacity: buffer.count, slot: slot, wireLength: frame.count)
                    #expect(count == PacketRing.virtioHeaderBytes + frame.count)
                    #expect(Array(buffer[PacketRing.virtioHeaderBytes..<max(count, 10)]) == frame)
                }
            }
        }

        /// A batch in which two workers were killed is not tried by a third: it is handed out whole.
        @Test func aBatchThatKillsTwiceIsHandedOut() throws {
            try Network.with(mtu: 9000) { network in
                let ring = try Self.ring(network)
                try ring.startReceiving()
                let frames = [100, 4000, 200].enumerated().map { Frames.numbered($0, bytes: $1) }
                try network.send(frames)
                for index in frames.indices { _ = try Self.next(ring.slots, index) }
                let memory = try NamedMemory(name: "copies", byteCount: FrameCopies.byteCount, cpu: 0)
                let copies = FrameCopies(in: memory)
                var next = ring
                for death in 1...2 {
                    next.place.take(upTo: 3, mask: 255)
                    if death == 1 {
                        let place = try #require(copies.begin(interface: ring.interfaceIndex, slot: 1))
                        let count = ring.receive(
                            into: copies.buffer(place), capacity: PacketRing.frameBytesMax, slot: 1,
                            wireLength: frames[1].count)
                        copies.end(place, bytes: count)
                    }
                    next = try PacketRing(
                        adopting: Descriptor(dup(ring.descriptor.number)), interface: "near",
                        index: network.near, slotSize: 2048, slotCount: 256, place: ring.place)
                    next.adopt(copies, batch: 64)
                    let (resumption, skipped) = next.resume()
                    if death == 1 {
                        #expect(resumption == .init(cursor: 0, repeated: 3) && skipped.isEmpty)
                        continue
                    }
                    #expect(resumption.cursor == 3)
                    #expect(skipped.map(\.bytes) == frames)
                    #expect(skipped.map(\.wireLength) == frames.map(\.count))
                    #expect(skipped.allSatisfy { abs(Double($0.seconds) - Host.unixSeconds()) < 60 })
                    #expect(!(0..<3).contains(where: next.slots.isReady))
                }
            }
        }

        /// What stands there of an earlier batch is nobody's.
        @Test func copiesOfABatchThatIsOverAreNotTaken() throws {
            try Network.with(mtu: 9000) { network in
                let ring = try Self.ring(network)
                try ring.startReceiving()
                let memory = try NamedMemory(name: "copies", byteCount: FrameCopies.byteCount, cpu: 0)
                let copies = FrameCopies(in: memory)
                for (slot, isCleared) in [(0, true), (1, false)] {
                    let frame = Frames.numbered(slot, bytes: 4000)
                    #expect(copies.begin(interface: ring.interfaceIndex, slot: slot) == 0)
                    memset(copies.buffer(0), 0x55, 4010)
                    copies.end(0, bytes: 4010)
                    if isCleared { copies.clear(1) }
                    try network.send([frame])
                    _ = try Self.next(ring.slots, slot)
                    // Not cleared, it does not begin as the slot does.
                    ring.adopt(copies, batch: 64)
                    var buffer = [UInt8](repeating: 0, count: PacketRing.frameBytesMax)
                    let count = ring.receive(
                        into: &buffer, capacity: buffer.count, slot: slot, wireLength: frame.count)
                    #expect(Array(buffer[PacketRing.virtioHeaderBytes..<max(count, 10)]) == frame)
                }
            }
        }

        @Test func theQueueForLargeFramesIsAsLargeAsTheRing() throws {
            try Network.with { network in
                let ring = try Self.ring(network, slots: 1024)
                #expect(ring.byteCount == 1024 * 2048)
                #expect(ring.queueBytes == ring.byteCount)
            }
        }

        @Test func anOverrunIsCounted() throws {
            try Network.with { network in
                let ring = try Self.ring(network, slots: 128)
                try ring.startReceiving()
                try network.send((0..<200).map { Frames.numbered($0) })
                try Network.eventually("72 drops") { ring.droppedByKernel() >= 72 }
                #expect(ring.droppedByKernel() == 72)
                let slots = ring.slots
                for index in 0..<128 {
                    let slot = try Self.next(slots, index)
                    #expect(Self.bytes(slot) == Frames.numbered(index))
                    Slots.release(slot.start)
                }
                // And on from where it began.
                try network.send([Frames.numbered(500)])
                #expect(Self.bytes(try Self.next(slots, 0)) == Frames.numbered(500))
                #expect(ring.droppedByKernel() == 72)
                // The next process counts on, though the kernel began at 0 with each reading.
                let next = try PacketRing(
                    adopting: Descriptor(dup(ring.descriptor.number)), interface: "near",
                    index: network.near, slotSize: 2048, slotCount: 128, place: ring.place)
                #expect(next.droppedByKernel() == 72)
            }
        }

        /// Spread by the inner flow, each flow to one ring, nothing lost between two.
        @Test func aGroupSharesFlows() throws {
            try Network.with { network in
                let group = FanoutGroup()
                let rings = try (0..<2).map { _ in try Self.ring(network, fanout: group) }
                for ring in rings { try ring.startReceiving() }
                // Flow and round: the source port tells flows apart.
                let flows = 40
                for _ in 0..<3 { try network.send((0..<flows).map { Frames.numbered($0) }) }
                var found: [[[UInt8]]] = [[], []]
                try Network.eventually("all frames") {
                    for (number, ring) in rings.enumerated() {
                        while let slot = ring.slots.slot(at: found[number].count) {
                            found[number].append(Self.bytes(slot))
                        }
                    }
                    return found[0].count + found[1].count >= 3 * flows
                }
                #expect(found[0].count + found[1].count == 3 * flows)
                #expect(!found[0].isEmpty && !found[1].isEmpty)
                #expect(Set(found[0]).isDisjoint(with: Set(found[1])))
            }
        }

        @Test func aLinkThatWentDownCanBeHeardAgain() throws {
            try Network.with { network in
                let ring = try Self.ring(network)
                try ring.startReceiving()
                try Network.run("ip link set near down")
                var state = pollfd(fd: ring.descriptor.number, events: Int16(POLLIN), revents: 0)
                #expect(poll(&state, 1, 0) == 1 && state.revents & Int16(POLLERR) != 0)
                ring.clearError()
                #expect(poll(&state, 1, 0) == 0)
                try Network.run("ip link set near up")
                try Network.waitForCarrier()
                try network.send([Frames.numbered(7)])
                #expect(Self.bytes(try Self.next(ring.slots, 0)) == Frames.numbered(7))
            }
        }
    }
}
