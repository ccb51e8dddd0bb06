// A list of the system calls that a process may still use (seccomp(2)).

import CLinux
import Glibc

/// A value, made into a program of classic BPF.
public struct SystemCallFilter: Sendable {
    /// When a call is let through. Of an argument the lower 32 bits are seen, unless a rule says more.
    public enum Rule: Sendable {
        case always
        case argument(Int, isOneOf: [UInt32])
        /// None of the bits is set.
        case argumentWithout(Int, bits: UInt32)
        /// One of the bits is set at least.
        case argumentWith(Int, bits: UInt32)
        /// All 64 bits are zero.
        case argumentIsZero(Int)
        /// Never, with this error instead of EPERM.
        case never(errno: Int32)
    }

    private let calls: [(number: UInt32, rule: Rule)]

    /// - Parameter calls: by name, the most frequent first. One that this architecture has not is left out.
    public init(_ calls: [(name: String, rule: Rule)]) {
        self.calls = calls.compactMap { name, rule in Self.number(name).map { ($0, rule) } }
    }

    /// As the filter sees it; nil: this architecture has it not, or it is not in the table of CLinux.
    public static func number(_ name: String) -> UInt32? { UInt32(exactly: clinux_system_call(name)) }

    /// AUDIT_ARCH_X86_64 or AUDIT_ARCH_AARCH64.
    public static var architecture: UInt32 { clinux_audit_architecture() }

    /// Instructions of 8 bytes as they lie in memory. What is not listed answers EPERM.
    public var program: [UInt64] {
        // struct seccomp_data: nr, arch, instruction_pointer, args[6].
        var code: [UInt64] = [Self.load(4), Self.jump(Self.equal, Self.architecture, 1, 0), Self.deny(EPERM)]
        code.append(Self.load(0))
        for (number, rule) in calls {
            let block = Self.block(rule)
            code.append(Self.jump(Self.equal, number, 0, UInt8(block.count)))
            code += block
        }
        return code + [Self.deny(EPERM)]
    }

    /// Its last instruction returns.
    private static func block(_ rule: Rule) -> [UInt64] {
        switch rule {
        case .always: return [allow]
        case .never(let errno): return [deny(errno)]
        case .argument(let index, let values):
            let checks = values.enumerated().map { place, value in
                jump(equal, value, UInt8(values.count - place), 0)
            }
            return [load(16 + 8 * index)] + checks + [deny(EPERM), allow]
        case .argumentIsZero(let index):
            return [
                load(16 + 8 * index), jump(equal, 0, 0, 2), load(20 + 8 * index), jump(equal, 0, 1, 0),
                deny(EPERM), allow,
            ]
        case .argumentWithout(let index, let bits):
            return [load(16 + 8 * index), jump(anyBit, bits, 0, 1), deny(EPERM), allow]
        case .argumentWith(let index, let bits):
            return [load(16 + 8 * index), jump(anyBit, bits, 1, 0), deny(EPERM), allow]
        }
    }

    // BPF_JMP | BPF_JEQ | BPF_K and BPF_JMP | BPF_JSET | BPF_K.
    private static let (equal, anyBit): (UInt64, UInt64) = (0x15, 0x45)
    /// BPF_RET | BPF_K, SECCOMP_RET_ALLOW.
    private static let allow: UInt64 = 0x06 | 0x7fff_0000 << 32

    /// BPF_RET | BPF_K, SECCOMP_RET_ERRNO.
    private static func deny(_ errno: Int32) -> UInt64 { 0x06 | (0x0005_0000 | UInt64(errno)) << 32 }

    /// BPF_LD | BPF_W | BPF_ABS.
    private static func load(_ offset: Int) -> UInt64 { 0x20 | UInt64(offset) << 32 }

    private static func jump(_ code: UInt64, _ value: UInt32, _ then: UInt8, _ otherwise: UInt8) -> UInt64 {
        code | UInt64(then) << 16 | UInt64(otherwise) << 24 | UInt64(value) << 32
    }

    /// In force for all threads of this process, for good. Needs no_new_privs (`Privileges.giveUp`).
    public func install() throws(SystemError) {
        let program = program
        try checkNegative("seccomp", "engine", clinux_filter_system_calls(program, UInt16(program.count)))
    }
}
