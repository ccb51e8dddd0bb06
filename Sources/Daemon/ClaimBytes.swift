// A policy's claims in the bytes that the claim program's maps take.

import Forwarding
import LinuxIO
import Routing

extension ClaimTables.Network {
    fileprivate init(_ prefix: Prefix) {
        self.init(bytes: prefix.address.bytes, length: prefix.length)
    }
}

extension ClaimTables {
    init(_ claims: Policy.Claims) {
        self.init(
            locals: claims.locals.map {
                Local(network: Network($0.prefix), remotes: $0.remotes)
            },
            remotes: claims.remotes.map { $0.map(Network.init) },
            endpoints: claims.endpoints.map(\.bytes), native: claims.native.map(Native.init))
    }
}

extension ClaimTables.Native {
    fileprivate init(_ claims: Policy.NativeClaims) {
        // IPv4's prefix stands for IPv4-mapped addresses.
        let mapped = ClaimTables.Network(
            bytes: [UInt8](repeating: 0, count: 10) + [255, 255, 0, 0, 0, 0], length: 96)
        self.init(
            sources: claims.sources.map(\.bytes),
            targets: claims.targets.map { target in
                let ports: Ports =
                    switch target.ports {
                    case .never: .never
                    case .any: .any
                    case .set(let index): .set(index)
                    }
                return Target(
                    network: target.prefix.isIPv4 ? mapped : ClaimTables.Network(target.prefix),
                    protocolNumber: target.protocolNumber, ports: ports)
            },
            portSets: claims.portSets)
    }
}
