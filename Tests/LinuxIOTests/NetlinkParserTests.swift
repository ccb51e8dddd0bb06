// What is read out of rtnetlink's messages, from messages made here: dumps that were disturbed or cut, and
// attributes that few hosts have.

import CLinux
import Glibc
import Routing
import Testing

@testable import LinuxIO

@Suite struct NetlinkParserTests {
    /// The bytes of a message.
    private static func message(
        type: Int, flags: UInt16 = 0, sequence: UInt32 = 7, _ build: (inout NetlinkMessage) -> Void
    ) -> [UInt8] {
        let buffer = UnsafeMutableRawPointer.allocate(byteCount: 4096, alignment: 16)
        defer { buffer.deallocate() }
        var message = NetlinkMessage(buffer: buffer)
        message.begin(type: type, flags: flags)
        build(&message)
        message.header.pointee.nlmsg_seq = sequence
        let length = Int(message.header.pointee.nlmsg_len)
        return Array(UnsafeRawBufferPointer(start: message.header, count: length))
    }

    private static func link(_ index: Int32, flags: UInt16 = 0, sequence: UInt32 = 7) -> [UInt8] {
        message(type: RTM_NEWLINK, flags: flags, sequence: sequence) {
            $0.linkHeader(index: index, up: true)
        }
    }

    private static func walk(
        _ datagram: [UInt8]
    ) -> (links: [Int32], progress: NetlinkParser.Progress, isConsistent: Bool) {
        var isConsistent = true
        var links: [Int32] = []
        let progress = datagram.withUnsafeBytes { bytes in
            NetlinkParser.walk(bytes, 7, &isConsistent) { message in
                links.append(NetlinkParser.link(message)?.index ?? -1)
            }
        }
        return (links, progress, isConsistent)
    }

    @Test func aDumpEndsWithItsLastMessage() {
        let done = Self.message(type: Int(NLMSG_DONE)) { _ in }
        let found = Self.walk(Self.link(1) + Self.link(2, sequence: 6) + Self.link(3) + done + Self.link(4))
        // One of another dump is none of this one.
        #expect(found.links == [1, 3])
        #expect(found.progress == .done && found.isConsistent)
    }

    /// What is left of a request whose answer could not be read would end the next dump before it began.
    @Test func theEndOfAnotherDumpIsNotThisOnes() {
        let other = Self.message(type: Int(NLMSG_DONE), sequence: 6) { _ in }
        let error = Self.message(type: Int(NLMSG_ERROR), sequence: 6) { $0.linkHeader(index: -12, up: false) }
        let disturbed = Self.link(2, flags: UInt16(NLM_F_DUMP_INTR), sequence: 6)
        let found = Self.walk(other + error + disturbed + Self.link(1))
        #expect(found.links == [1])
        #expect(found.progress == .more && found.isConsistent)
    }

    /// NLM_F_DUMP_INTR: what was told before does not go with what comes after.
    @Test func aDumpThatWasDisturbedSaysSo() {
        let found = Self.walk(Self.link(1) + Self.link(2, flags: UInt16(NLM_F_DUMP_INTR)))
        #expect(found.links == [1, 2])
        #expect(found.progress == .more && !found.isConsistent)
    }

    @Test func aMessageThatIsCutIsNotRead() {
        let whole = Self.link(1) + Self.link(2)
        for count in 0...whole.count {
            let found = Self.walk(Array(whole[..<count]))
            #expect(found.links == [[], [1], [1, 2]][count / (whole.count / 2)], "\(count)")
            #expect(found.progress == .more)
        }
        // A length that leads nowhere ends the walk as well.
        var empty = Self.link(1)
        empty.replaceSubrange(0..<4, with: [0, 0, 0, 0])
        #expect(Self.walk(empty).links.isEmpty)
    }

    @Test func anErrorIsToldByItsNumber() {
        let error = Self.message(type: Int(NLMSG_ERROR)) { message in
            // A negative errno, where a link message has its family and type.
            message.extraHeader(fib_rule_hdr.self)
        }
        for number in [EPERM, ENODEV] {
            var bytes = error
            withUnsafeBytes(of: -number) { bytes.replaceSubrange(16..<20, with: Array($0)) }
            #expect(Self.walk(bytes).progress == .failed(number))
        }
        #expect(Self.walk(Array(error[..<16])).progress == .more)
    }

    /// - Parameter action: `FR_ACT_*`; it stands in the eighth byte of struct fib_rule_hdr.
    private static func rule(
        action: Int = Int(FR_ACT_TO_TBL), _ attribute: (NetlinkMessage) -> Void
    ) -> RuleEntry? {
        var bytes = message(type: RTM_NEWRULE) { message in
            message.extraHeader(fib_rule_hdr.self, family: AF_INET)
            attribute(message)
        }
        bytes[16 + 7] = UInt8(action)
        return bytes.withUnsafeBytes { NetlinkParser.rule($0) }
    }

    @Test func theActionOfARuleIsTold() {
        let actions: [(Int, RuleEntry.Action?)] = [
            (Int(FR_ACT_TO_TBL), .lookup(100)), (Int(FR_ACT_GOTO), .goto(200)), (Int(FR_ACT_NOP), .nop),
            (Int(FR_ACT_BLACKHOLE), .refuse(.blackhole)), (Int(FR_ACT_UNREACHABLE), .refuse(.unreachable)),
            (Int(FR_ACT_PROHIBIT), .refuse(.prohibit)), (0, nil), (4, nil), (9, nil),
        ]
        for (number, action) in actions {
            let rule = Self.rule(action: number) {
                $0.attribute(FRA_TABLE, UInt32(100))
                $0.attribute(FRA_GOTO, UInt32(200))
            }
            #expect(rule?.action == action, "\(number)")
        }
    }

    /// `ip rule add l3mdev`: by the VRF of the packet's link.
    @Test func aRuleOfVRFsIsTold() {
        #expect(Self.rule { $0.attribute(FRA_L3MDEV, [1]) }?.isL3mdev == true)
        #expect(Self.rule { $0.attribute(FRA_L3MDEV, [0]) }?.isL3mdev == false)
        #expect(Self.rule { _ in }?.isL3mdev == false)
    }

    /// RTM_F_CLONED: of a route that the kernel caches for one destination, with its MTU.
    @Test func aCachedRouteIsNone() {
        for (family, isIPv4) in [(AF_INET, true), (AF_INET6, false)] {
            var bytes = Self.message(type: RTM_NEWROUTE) { $0.extraHeader(rtmsg.self, family: family) }
            let route = bytes.withUnsafeBytes { NetlinkParser.route($0) }
            #expect(route?.entry.prefix.isIPv4 == isIPv4)
            // rtm_flags, the last word of struct rtmsg.
            withUnsafeBytes(of: UInt32(RTM_F_CLONED)) {
                bytes.replaceSubrange(24..<28, with: Array($0))
            }
            #expect(bytes.withUnsafeBytes { NetlinkParser.route($0) } == nil)
        }
    }
}
