// Interfaces of one configuration that see the same frame: a port and its bond, a macvlan and its parent.
// The kernel shows such a frame to the taps of both, and each would judge and inject it.

import Routing
import Settings

extension Configuration {
    /// Interfaces that stand for the same frames on these links, and other names of interfaces.
    /// - Returns: the interface to leave out or to rename, and what to say of it.
    public func doubleInterfaces(_ links: [Link]) -> [(name: String, text: String)] {
        var found = otherNames(links)
        for lower in interfaces where hasTunnel(lower) {
            guard let link = links.first(where: { $0.name == lower }) else { continue }
            let above = Self.above(link, links)
            for upper in interfaces where hasTunnel(upper) && above.contains(upper) {
                found.append(
                    (
                        upper,
                        """
                        \(lower) and \(upper) see the same frames, since \(lower) is below \(upper): each \
                        packet would arrive twice; leave one of them out of interfaces
                        """
                    ))
            }
        }
        return found
    }

    /// The kernel lists a link under one name; `ip link show` takes the others, too.
    private func otherNames(_ links: [Link]) -> [(name: String, text: String)] {
        interfaces.compactMap { name in
            guard !links.contains(where: { $0.name == name }),
                let link = links.first(where: { $0.otherNames.contains(name) })
            else { return nil }
            return (name, "\(name) is another name of \(link.name): write \(link.name)")
        }
    }

    private func hasTunnel(_ name: String) -> Bool {
        tunnels.contains { $0.interfaces.isEmpty || $0.interfaces.contains(name) }
    }

    /// Names of the links that get a link's frames as they are, through whatever stands between.
    private static func above(_ link: Link, _ links: [Link]) -> Set<String> {
        var names: Set<String> = []
        var waiting = [link]
        while let lower = waiting.popLast() {
            for upper in links where getsFrames(upper, from: lower) {
                if names.insert(upper.name).inserted { waiting.append(upper) }
            }
        }
        return names
    }

    private static func getsFrames(_ upper: Link, from lower: Link) -> Bool {
        if upper.index == lower.index { return false }
        // A VRF's tap sees what its ports get as outgoing, which no ring takes.
        if lower.master == upper.index { return upper.kind != "vrf" }
        guard upper.lower == lower.index else { return false }
        switch upper.kind {
        case "macvlan", "macvtap", "ipvlan", "ipvtap": return true
        // Frames with another ID are not the parent's own; those with ID 0 are.
        case "vlan": return upper.vlanID == 0
        default: return false
        }
    }
}
