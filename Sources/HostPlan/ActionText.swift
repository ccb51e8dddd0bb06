// Actions as `shuck check --diff` prints them.

extension Action {
    public var text: String {
        switch self {
        case .open(let resource): "open: \(resource.text)"
        case .change(let old, let new): "change: \(old.text), to: \(new.text)"
        case .remove(let resource): "close: \(resource.text)"
        }
    }
}

extension Resource {
    public var text: String {
        switch self {
        case .hold(let interface, _): "the hold on \(interface) that keeps a second shuck off"
        case .rings(let rings):
            """
            \(rings.cpus.count) rings of \(rings.interface), each \(rings.slotCount) slots of \
            \(rings.slotBytes) bytes
            """
        case .device(let device): "device \(device.name) of \(device.queues) queues" + device.place
        case .settings(let device, let mtu, let address):
            "mtu \(mtu) and address \(address.text) of \(device.name)"
        case .errors: "sockets for ICMP errors to the senders of pods' packets"
        case .reading(let device): "\(device.name), read for answers to probes"
        case .returnSocket(let interface, _): "a raw socket on \(interface) for answers to probes"
        case .returnRoute(let address, let device): "the route of \(address.text) through \(device.name)"
        case .filter(let interface, _, let natives):
            natives.isEmpty
                ? "frames of tunnels from \(interface)"
                : "frames of tunnels and probes of \(natives.count) sources from \(interface)"
        case .claim(let claim):
            "the program at \(claim.interface) that claims \(claim.claims.locals.count) prefixes"
        case .socketClaim(let addresses): "raw sockets that claim \(addresses.count) addresses"
        case .replyTable: "the nft table that clamps pods' answers"
        }
    }
}

extension Resource.Device {
    fileprivate var place: String { namespace.map { " in \($0.path)" } ?? "" }
}
