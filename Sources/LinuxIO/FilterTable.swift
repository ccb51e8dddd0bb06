// A table of nftables that this process owns, by libnftables: the kernel removes it with the process.

import CLinux
import Glibc

/// A table that is there until it is removed, or its context is gone.
public final class FilterTable {
    /// As `nft list tables` has it, of family inet.
    public let name: String
    private let context: FilterContext

    /// - Parameter chains: what stands within the table, in the language of nft(8).
    public init(_ context: FilterContext, name: String, chains: String) throws(SystemError) {
        self.context = context
        self.name = try Self.create(context, name, chains)
    }

    /// Nothing can be changed any more: another table must take its place.
    public var isSpoiled: Bool { context.isSpoiled }

    public func remove() throws(SystemError) {
        if isSpoiled { return }
        try Self.run(context, name, "delete table inet \(name)\n")
    }

    /// Another process of this network namespace may have the name: two containers on the
    /// host's network can both be process 1.
    private static func create(
        _ context: FilterContext, _ name: String, _ chains: String
    ) throws(SystemError) -> String {
        var candidate = name
        for number in 2...9 {
            do throws(SystemError) {
                try run(context, candidate, text(candidate, chains))
                return candidate
            } catch {
                // Somebody else's table answers EPERM when it has an owner, else EOPNOTSUPP or
                // EEXIST: not to be told from a host that permits or knows no such table.
                guard [EPERM, EOPNOTSUPP, EEXIST].contains(error.errno) else { throw error }
            }
            candidate = "\(name)-\(number)"
        }
        try run(context, candidate, text(candidate, chains))
        return candidate
    }

    /// `create` refuses a name that exists, but this library forgets the chains that stand in it.
    private static func text(_ name: String, _ chains: String) -> String {
        """
        create table inet \(name) { flags owner; }
        add table inet \(name) {
            flags owner
        \(chains)}

        """
    }

    /// Puts other chains in place of those there are, in one transaction: no packet meets
    /// neither or both. On failure the old ones stay.
    public func replace(chains: String) throws(SystemError) {
        try Self.run(
            context, name, "delete table inet \(name)\n" + Self.text(name, chains))
    }

    private static func run(
        _ context: FilterContext, _ name: String, _ commands: String
    ) throws(SystemError) {
        guard !context.isSpoiled else {
            throw SystemError(
                "nft transaction", "table inet \(name)", errno: EPIPE, hint: "it is tried again")
        }
        errno = 0
        guard nft_run_cmd_from_buffer(context.pointer, commands) != 0 else { return }
        let number = errno == 0 ? EINVAL : errno
        context.isSpoiled = ![EPERM, EOPNOTSUPP, EEXIST, EINVAL, ENOENT].contains(number)
        let said = String(cString: nft_ctx_get_error_buffer(context.pointer))
        // Its first line says what; the rest repeats the commands.
        let first = said.split(separator: "\n").first.map { "nft: \($0)" }
        throw SystemError(
            "nft transaction", "table inet \(name)", errno: number,
            hint: hint(number) ?? first)
    }

    private static func hint(_ error: Int32) -> String? {
        switch error {
        case EPERM, EACCES: "grant CAP_NET_ADMIN"
        case EOPNOTSUPP, EINVAL, EAFNOSUPPORT, EPROTONOSUPPORT:
            "Linux 5.12 or newer with nf_tables is needed (modprobe nf_tables)"
        default: nil
        }
    }
}
