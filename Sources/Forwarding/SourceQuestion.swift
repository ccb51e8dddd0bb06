// What the judge says of an inner source alone, for those who ask without a packet.

import IP
import Routing

extension ForwardingTables {
    /// Whether the kernel takes packets to an address for its own, when they come in by the
    /// interface; true where no routes are known.
    /// - Parameter interface: its place in the policy's list.
    public func isOwn(_ address: Address, interface: Int) -> Bool {
        guard let routes else { return true }
        let question = ReversePathQuestion(
            source: address, destination: Address(high: 0, low: 0),
            vrf: interfaces[interface].vrf)
        return routes.view.find(question, isIPv4: address.isIPv4).kind == .local
    }

    /// The refusal that a source meets, `.none` where it meets none: martian, own or reverse path, by
    /// the judge's own code.
    /// - Parameter interface: its place in the policy's list.
    public func refusal(of question: ReversePathQuestion, interface: Int) -> DropReason {
        var asked = question
        asked.vrf = interfaces[interface].vrf
        return SourceCheck.check(
            asked, isIPv4: question.source.isIPv4, UInt16(interface), view)
    }
}
