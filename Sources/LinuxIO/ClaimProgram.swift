// The BPF program that drops at ingress what our tunnels claim, behind the tap and before the IP stack.
// Assembled at run time from the claims, so that it needs no compiler on the host.

import CLinux
import Glibc

/// Frames of protocol 4 or 41 to `local`; see `Policy.Claim`, of which this is the byte form.
public struct ClaimRule: Sendable, Equatable {
    public struct Network: Sendable, Equatable {
        /// 4 or 16 bytes, network order.
        public var bytes: [UInt8]
        public var length: Int
        public init(bytes: [UInt8], length: Int) {
            self.bytes = bytes
            self.length = length
        }
    }
    public var local: Network
    /// nil: from anyone.
    public var remotes: [Network]?
    /// Sources that are never claimed, when `remotes` is given.
    public var excluded: [Network]
    public init(local: Network, remotes: [Network]?, excluded: [Network]) {
        self.local = local
        self.remotes = remotes
        self.excluded = excluded
    }
}

/// Native IPv6 frames; see `Policy.NativeClaim`, of which this is the byte form.
public struct NativeClaimRule: Sendable, Equatable {
    public struct Target: Sendable, Equatable {
        public var network: ClaimRule.Network
        /// TCP, UDP or ICMPv6; nil: any of them.
        public var protocolNumber: UInt8?
        /// Empty: any.
        public var ports: [ClosedRange<UInt16>]
        public init(
            network: ClaimRule.Network, protocolNumber: UInt8?, ports: [ClosedRange<UInt16>]
        ) {
            self.network = network
            self.protocolNumber = protocolNumber
            self.ports = ports
        }
    }
    /// 16 bytes each.
    public var sources: [[UInt8]]
    public var targets: [Target]
    public var excluded: [ClaimRule.Network]
    public init(sources: [[UInt8]], targets: [Target], excluded: [ClaimRule.Network]) {
        self.sources = sources
        self.targets = targets
        self.excluded = excluded
    }
}

/// Instructions with symbolic jump targets (linux/bpf.h `struct bpf_insn`, 8 bytes each).
struct ClaimProgram {
    private(set) var words: [UInt64] = []
    private var labels: [String: Int] = [:]
    private var jumps: [(at: Int, to: String)] = []

    // Codes of linux/bpf_common.h and linux/bpf.h, combined.
    private enum Code {
        static let loadByte: UInt8 = 0x30  // LD | B | ABS
        static let loadWord: UInt8 = 0x20  // LD | W | ABS
        static let loadHalf: UInt8 = 0x28  // LD | H | ABS
        static let loadByteIndirect: UInt8 = 0x50  // LD | B | IND
        static let loadHalfIndirect: UInt8 = 0x48  // LD | H | IND
        static let loadContext: UInt8 = 0x61  // LDX | W | MEM
        static let store: UInt8 = 0x63  // STX | W | MEM
        static let move: UInt8 = 0xbf  // ALU64 | MOV | X
        static let moveImmediate: UInt8 = 0xb7  // ALU64 | MOV | K
        static let add: UInt8 = 0x0f  // ALU64 | ADD | X
        static let addImmediate: UInt8 = 0x07  // ALU64 | ADD | K
        static let shiftLeft: UInt8 = 0x67  // ALU64 | LSH | K
        static let and: UInt8 = 0x54  // ALU | AND | K
        static let jumpAlways: UInt8 = 0x05  // JMP | JA
        static let jumpEqual: UInt8 = 0x16  // JMP32 | JEQ | K
        static let jumpNotEqual: UInt8 = 0x56  // JMP32 | JNE | K
        static let jumpGreaterEqual: UInt8 = 0x36  // JMP32 | JGE | K
        static let jumpGreaterEqualTo: UInt8 = 0x3e  // JMP32 | JGE | X
        static let exit: UInt8 = 0x95  // JMP | EXIT
    }

    /// Offset from the network header (linux/filter.h `SKF_NET_OFF`).
    private static let network: Int32 = -0x100000
    // Stack slots of the addresses' words, from the frame pointer on.
    private static let destinationSlot: Int16 = -16
    private static let sourceSlot: Int16 = -32

    init(_ rules: [ClaimRule], native: NativeClaimRule? = nil) {
        // r6: context, as LD_ABS wants it; r0 takes what it loads, in host order.
        emit(Code.move, to: 6, from: 1)
        emit(Code.loadContext, to: 0, from: 6, offset: 4)  // pkt_type
        jump(Code.jumpNotEqual, 0, Int32(PACKET_HOST), "next")
        emit(Code.loadContext, to: 0, from: 6, offset: 20)  // vlan_present
        jump(Code.jumpNotEqual, 0, 0, "next")
        emit(Code.loadContext, to: 0, from: 6, offset: 16)  // protocol, network order
        jump(Code.jumpEqual, 0, Int32(UInt16(0x0800).bigEndian), "ipv4")
        jump(Code.jumpEqual, 0, Int32(UInt16(0x86dd).bigEndian), "ipv6")
        label("next")
        neverJump("claim")
        emit(Code.moveImmediate, to: 0, value: -1)  // TC_ACT_UNSPEC, TCX_NEXT
        emit(Code.exit)
        label("claim")
        emit(Code.moveImmediate, to: 0, value: 2)  // TC_ACT_SHOT, TCX_DROP
        emit(Code.exit)
        ipv4(rules.filter { $0.local.bytes.count == 4 })
        ipv6(rules.filter { $0.local.bytes.count == 16 }, hasNative: native != nil)
        if let native { self.native(native) }
        resolve()
    }

    private mutating func ipv4(_ rules: [ClaimRule]) {
        label("ipv4")
        load(Code.loadByte, 9)
        jump(Code.jumpEqual, 0, 4, "ipv4 tunnel")
        jump(Code.jumpNotEqual, 0, 41, "next")
        label("ipv4 tunnel")
        storeWords(16, Self.destinationSlot, count: 1)
        storeWords(12, Self.sourceSlot, count: 1)
        match(rules, "4")
    }

    /// Walks extension headers as the judge does: at most 8, at most 256 bytes, unrolled.
    private mutating func ipv6(_ rules: [ClaimRule], hasNative: Bool) {
        label("ipv6")
        load(Code.loadByte, 6)
        emit(Code.move, to: 7, from: 0)  // r7: next header
        if hasNative {
            for number: Int32 in [6, 17, 58] { jump(Code.jumpEqual, 7, number, "native") }
        }
        emit(Code.moveImmediate, to: 8, value: 40)  // r8: its offset
        for step in 0..<8 {
            jump(Code.jumpEqual, 7, 4, "ipv6 tunnel")
            jump(Code.jumpEqual, 7, 41, "ipv6 tunnel")
            jump(Code.jumpEqual, 7, 44, "fragment \(step)")
            for walked: Int32 in [0, 43, 60] { jump(Code.jumpEqual, 7, walked, "header \(step)") }
            jump("next")
            label("header \(step)")
            // Beyond the bound the chain may still lead to a tunnel: ours to refuse.
            jump(Code.jumpGreaterEqual, 8, 40 + 256, "ipv6 tunnel")
            loadIndirect(Code.loadByteIndirect, 0)
            emit(Code.move, to: 7, from: 0)
            loadIndirect(Code.loadByteIndirect, 1)
            emit(Code.addImmediate, to: 0, value: 1)
            emit(Code.shiftLeft, to: 0, value: 3)
            emit(Code.add, to: 8, from: 0)
            jump("step \(step)")
            label("fragment \(step)")
            jump(Code.jumpGreaterEqual, 8, 40 + 256, "ipv6 tunnel")
            loadIndirect(Code.loadByteIndirect, 0)
            emit(Code.move, to: 7, from: 0)
            loadIndirect(Code.loadHalfIndirect, 2)
            emit(Code.addImmediate, to: 8, value: 8)
            emit(Code.and, to: 0, value: 0xfff8)
            jump(Code.jumpEqual, 0, 0, "step \(step)")
            // Behind a later fragment's header lies no header that could be walked.
            jump(Code.jumpEqual, 7, 4, "ipv6 tunnel")
            jump(Code.jumpEqual, 7, 41, "ipv6 tunnel")
            jump("next")
            label("step \(step)")
        }
        for number: Int32 in [4, 41, 0, 43, 44, 60] {
            jump(Code.jumpEqual, 7, number, "ipv6 tunnel")
        }
        jump("next")
        label("ipv6 tunnel")
        storeWords(24, Self.destinationSlot, count: 4)
        storeWords(8, Self.sourceSlot, count: 4)
        match(rules, "6")
    }

    /// Exactly what the judge injects of native frames. `r7` holds the next header. Its answers
    /// stand near: there may be thousands of targets, and a jump reaches 32767 instructions.
    private mutating func native(_ rule: NativeClaimRule) {
        label("native")
        storeWords(8, Self.sourceSlot, count: 4)
        storeWords(24, Self.destinationSlot, count: 4)
        for (number, source) in rule.sources.enumerated() {
            let miss = "source \(number)"
            compare(.init(bytes: source, length: 128), Self.sourceSlot, miss)
            jump("native source")
            label(miss)
        }
        label("native pass")
        answer(-1)
        label("native source")
        nativeHeader()
        for (number, network) in rule.excluded.enumerated() {
            let miss = "excluded \(number)"
            compare(network, Self.destinationSlot, miss)
            jump("native pass")
            label(miss)
        }
        for (number, target) in rule.targets.enumerated() {
            let miss = "target \(number)"
            compare(target.network, Self.destinationSlot, miss)
            if let protocolNumber = target.protocolNumber {
                jump(Code.jumpNotEqual, 7, Int32(protocolNumber), miss)
            }
            if !target.ports.isEmpty { ports(target.ports, "target \(number)", miss) }
            answer(2)
            label(miss)
        }
        answer(-1)
    }

    /// Goes on where a whole IPv6 header and an upper-layer one up to its checksum are there, and
    /// the packet is none of those that belong to one link.
    private mutating func nativeHeader() {
        load(Code.loadByte, 0)
        emit(Code.and, to: 0, value: 0xf0)
        jump(Code.jumpNotEqual, 0, 0x60, "native pass")
        load(Code.loadByte, 7)
        jump(Code.jumpEqual, 0, 0, "native pass")
        load(Code.loadHalf, 4)
        emit(Code.move, to: 8, from: 0)  // r8: payload length
        // What is there: the frame without its Ethernet and IPv6 headers.
        emit(Code.loadContext, to: 0, from: 6, offset: 0)  // len
        emit(Code.addImmediate, to: 0, value: -(14 + 40))
        jump(Code.jumpGreaterEqualTo, 0, from: 8, "native whole")
        jump("native pass")
        label("native whole")
        jump(Code.jumpEqual, 7, 6, "native TCP")
        jump(Code.jumpEqual, 7, 17, "native UDP")
        jump(Code.jumpGreaterEqual, 8, 4, "native ICMPv6")
        jump("native pass")
        label("native ICMPv6")
        load(Code.loadByte, 40)
        // Multicast listener and neighbour discovery.
        for type: Int32 in Array(130...137) + [143] {
            jump(Code.jumpEqual, 0, type, "native pass")
        }
        jump("native upper")
        label("native TCP")
        jump(Code.jumpGreaterEqual, 8, 18, "native upper")
        jump("native pass")
        label("native UDP")
        jump(Code.jumpGreaterEqual, 8, 8, "native upper")
        jump("native pass")
        label("native upper")
    }

    /// Goes on where the destination port is in one of the ranges; ICMPv6 has none.
    private mutating func ports(
        _ ranges: [ClosedRange<UInt16>], _ name: String, _ otherwise: String
    ) {
        jump(Code.jumpEqual, 7, 58, otherwise)
        load(Code.loadHalf, 42)
        for (number, range) in ranges.enumerated() {
            let miss = "\(name) ports \(number)"
            if range.upperBound < .max {
                jump(Code.jumpGreaterEqual, 0, Int32(range.upperBound) + 1, miss)
            }
            jump(Code.jumpGreaterEqual, 0, Int32(range.lowerBound), "\(name) port")
            label(miss)
        }
        jump(otherwise)
        label("\(name) port")
    }

    private mutating func answer(_ value: Int32) {
        emit(Code.moveImmediate, to: 0, value: value)
        emit(Code.exit)
    }

    /// The first rule whose prefix holds the destination decides.
    private mutating func match(_ rules: [ClaimRule], _ family: String) {
        for (index, rule) in rules.enumerated() {
            let otherwise = "rule \(family) \(index)"
            compare(rule.local, Self.destinationSlot, otherwise)
            if let remotes = rule.remotes {
                for (number, own) in rule.excluded.enumerated() {
                    let miss = "own \(family) \(index) \(number)"
                    compare(own, Self.sourceSlot, miss)
                    jump("next")
                    label(miss)
                }
                for (number, remote) in remotes.enumerated() {
                    let miss = "remote \(family) \(index) \(number)"
                    compare(remote, Self.sourceSlot, miss)
                    jump("claim")
                    label(miss)
                }
                jump("next")
            } else {
                jump("claim")
            }
            label(otherwise)
        }
        jump("next")
    }

    /// Goes on when the address in the slot lies in the network; else jumps to `otherwise`.
    private mutating func compare(
        _ network: ClaimRule.Network, _ slot: Int16, _ otherwise: String
    ) {
        if network.length == 0 { neverJump(otherwise) }
        for word in 0..<(network.bytes.count / 4) {
            let bits = min(max(network.length - word * 32, 0), 32)
            if bits == 0 { return }
            let mask: UInt32 = bits == 32 ? .max : ~(UInt32.max >> UInt32(bits))
            let value = network.bytes[(word * 4)..<(word * 4 + 4)].reduce(UInt32(0)) {
                $0 << 8 | UInt32($1)
            }
            emit(Code.loadContext, to: 1, from: 10, offset: slot + Int16(word * 4))
            if bits < 32 { emit(Code.and, to: 1, value: Int32(bitPattern: mask)) }
            jump(Code.jumpNotEqual, 1, Int32(bitPattern: value & mask), otherwise)
        }
    }

    private mutating func storeWords(_ offset: Int32, _ slot: Int16, count: Int) {
        for word in 0..<count {
            load(Code.loadWord, offset + Int32(word * 4))
            emit(Code.store, to: 10, from: 0, offset: slot + Int16(word * 4))
        }
    }

    private mutating func load(_ code: UInt8, _ offset: Int32) {
        emit(code, to: 0, value: Self.network + offset)
    }

    private mutating func loadIndirect(_ code: UInt8, _ offset: Int32) {
        emit(code, to: 0, from: 8, value: Self.network + offset)
    }

    private mutating func emit(
        _ code: UInt8, to: UInt8 = 0, from: UInt8 = 0, offset: Int16 = 0, value: Int32 = 0
    ) {
        words.append(
            UInt64(code) | UInt64(to) << 8 | UInt64(from) << 12
                | UInt64(UInt16(bitPattern: offset)) << 16
                | UInt64(UInt32(bitPattern: value)) << 32)
    }

    private mutating func jump(_ code: UInt8, _ register: UInt8, _ value: Int32, _ target: String) {
        jumps.append((words.count, target))
        emit(code, to: register, value: value)
    }

    private mutating func jump(
        _ code: UInt8, _ register: UInt8, from other: UInt8, _ target: String
    ) {
        jumps.append((words.count, target))
        emit(code, to: register, from: other)
    }

    private mutating func jump(_ target: String) {
        jumps.append((words.count, target))
        emit(Code.jumpAlways)
    }

    /// A jump that is never taken: the verifier refuses a program with code that none leads to.
    private mutating func neverJump(_ target: String) {
        emit(Code.moveImmediate, to: 1, value: 0)
        jump(Code.jumpNotEqual, 1, 0, target)
    }

    private mutating func label(_ name: String) { labels[name] = words.count }

    private mutating func resolve() {
        for jump in jumps {
            let distance = labels[jump.to]! - jump.at - 1
            precondition(abs(distance) < 32_768, "too many claims for one program")
            words[jump.at] |= UInt64(UInt16(bitPattern: Int16(distance))) << 16
        }
    }

    /// Loads it as a traffic-control classifier. Needs CAP_BPF, or CAP_SYS_ADMIN before 5.8.
    func load(object: String) throws(SystemError) -> Descriptor {
        try Self.load(
            words, type: BPF_PROG_TYPE_SCHED_CLS, object: object,
            mend: "grant CAP_BPF and CAP_NET_ADMIN, or set consume: socket")
    }

    /// Loads instructions as a program of a type.
    static func load(
        _ words: [UInt64], type: bpf_prog_type, object: String, mend: String
    ) throws(SystemError) -> Descriptor {
        var attributes = bpf_attr()
        let license: StaticString = "Apache-2.0"
        let result = words.withUnsafeBufferPointer { instructions in
            attributes.prog_type = UInt32(type.rawValue)
            attributes.insn_cnt = UInt32(instructions.count)
            attributes.insns = UInt64(UInt(bitPattern: instructions.baseAddress))
            attributes.license = UInt64(UInt(bitPattern: license.utf8Start))
            // A signal, or the kernel's own work for this thread, ends the verifier's with EAGAIN.
            var result = -EAGAIN
            for _ in 0..<5 where result == -EAGAIN {
                result = clinux_bpf(
                    Int32(BPF_PROG_LOAD.rawValue), &attributes, UInt32(MemoryLayout<bpf_attr>.size))
            }
            return result
        }
        return Descriptor(try checkNegative("bpf(BPF_PROG_LOAD)", object, mend: mend, result))
    }

    /// Runs a loaded program over one frame (`BPF_PROG_TEST_RUN`): its return value.
    static func run(_ program: Descriptor, frame: [UInt8]) throws(SystemError) -> Int32 {
        var attributes = bpf_attr()
        let result = frame.withUnsafeBufferPointer { bytes in
            attributes.test.prog_fd = UInt32(program.number)
            attributes.test.data_in = UInt64(UInt(bitPattern: bytes.baseAddress))
            attributes.test.data_size_in = UInt32(bytes.count)
            attributes.test.repeat = 1
            return clinux_bpf(
                Int32(BPF_PROG_TEST_RUN.rawValue), &attributes,
                UInt32(MemoryLayout<bpf_attr>.size))
        }
        try checkNegative("bpf(BPF_PROG_TEST_RUN)", "claim program", result)
        return Int32(bitPattern: attributes.test.retval)
    }
}
