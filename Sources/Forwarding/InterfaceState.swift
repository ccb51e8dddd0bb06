// A configured interface as this host has it at the moment.

public struct InterfaceState: BitwiseCopyable, Sendable {
    /// 0: absent.
    public var index: Int32
    /// Bytes of the largest IP packet on the link; 0 when unknown.
    public var mtu: Int32
    public var reversePath: ReversePathMode
    /// Table of the VRF that it is enslaved to; 0: none.
    public var vrf: UInt32

    public init(index: Int32, mtu: Int32, reversePath: ReversePathMode, vrf: UInt32 = 0) {
        self.index = index
        self.mtu = mtu
        self.reversePath = reversePath
        self.vrf = vrf
    }
}
