// What the judge reads of a policy.

import Routing

/// The rules that an inner destination address is put to, in order.
struct DestinationList: BitwiseCopyable {
    var isMartian: Bool
    var count: UInt32
    var first: UInt32
}

/// Pointers into memory that `PolicyTables` owns.
public struct PolicyView: @unchecked Sendable, BitwiseCopyable {
    let locals: PrefixTable.View
    /// `candidates[locals.lookup(destination)]` is a count, then so many tunnel indices.
    let candidates: UnsafePointer<UInt16>
    let tunnels: UnsafePointer<TunnelRecord>
    let tunnelCount: Int
    /// `AddressClass` of any address.
    let addresses: PrefixTable.View
    let lists: UnsafePointer<DestinationList>
    let rules: UnsafePointer<DestinationRule>
    let ports: UnsafePointer<UInt32>
    let rewrites: UnsafePointer<SourceRewriteRecord>
    let rewriteCount: Int
    let deviceMTUs: UnsafePointer<UInt32>
    /// Bit inner ECN << 2 | outer ECN: such a packet's marks and TTL stay as they are.
    let untouchedCells: UInt16
    let mssIPv4: UInt16
    let mssIPv6: UInt16
    let ecn: ECNMode
    let dscp: FieldMode
    let ttl: FieldMode
}
