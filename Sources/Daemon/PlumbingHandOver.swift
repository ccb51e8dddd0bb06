// Part of Plumbing (Plumbing.swift): what it holds as pieces of a hand-over, and the same made of them.

import HostPlan
import IP
import LinuxIO
import Settings

extension Plumbing {
    /// What is held, what stands on other things last.
    var pieces: (held: [HandOver.Piece], surplus: [HandOver.Piece], descriptors: [Descriptor]) {
        var descriptors: [Descriptor] = []
        func pieces(_ all: [Held]) -> [HandOver.Piece] {
            all.compactMap { one in
                guard let (piece, own) = Self.piece(one) else { return nil }
                descriptors += own
                return piece
            }
        }
        return (pieces(ordered), pieces(surplus), descriptors)
    }

    /// What is held, what stands on other things last.
    var ordered: [Held] {
        held.values.sorted {
            ($0.resource.requirement == nil ? 0 : 1) < ($1.resource.requirement == nil ? 0 : 1)
        }
    }

    /// nil: the other process makes its own, or needs none.
    static func piece(_ one: Held) -> (piece: HandOver.Piece, descriptors: [Descriptor])? {
        var piece = HandOver.Piece(resource: one.resource)
        var descriptors: [Descriptor] = []
        switch (one.resource, one.handle) {
        case (.hold, let hold as InterfaceGuard): descriptors = [hold.lock]
        case (.rings, let interface as OpenInterface): descriptors = interface.descriptors
        case (.device, let tun as TunDevice):
            descriptors = tun.queues
            (piece.index, piece.offloads, piece.refused) = (tun.index, tun.offloads, tun.refusals.offloads)
        case (.errors, let errors as ICMPErrors):
            descriptors = [errors.sockets.socket4, errors.sockets.socket6].compactMap { $0 }
            piece.hasIPv4 = errors.sockets.socket4 != nil
        case (.returnSocket, let socket as RawIPv6Socket): descriptors = [socket.descriptor]
        case (.claim, let claim as Claim), (.socketClaim, let claim as Claim):
            descriptors = claim.descriptors
            (piece.means, piece.filterHandle) = (claim.means, claim.filterHandle)
        // The table is owned by a socket of libnftables, which adopts none: the next one has its own, before
        // this one goes.
        case (.replyTable, _): return nil
        default: break
        }
        piece.descriptors = descriptors.count
        return (piece, descriptors)
    }

    /// What another process held.
    /// - Parameter descriptors: of all pieces, in their order.
    /// - Throws: also when they do not fit each other.
    init(_ pieces: [HandOver.Piece], surplus: [HandOver.Piece], _ descriptors: [Descriptor]) throws {
        self.init()
        var left = descriptors[...]
        func take(_ piece: HandOver.Piece) throws -> [Descriptor] {
            guard piece.descriptors >= 0, left.count >= piece.descriptors else { throw Self.misfit(piece) }
            defer { left = left.dropFirst(piece.descriptors) }
            return Array(left.prefix(piece.descriptors))
        }
        for piece in pieces {
            let handle = try adopt(piece, try take(piece))
            held[piece.resource.key] = Held(resource: piece.resource, handle: handle)
        }
        for piece in surplus {
            let handle = try adopt(piece, try take(piece))
            self.surplus.append(Held(resource: piece.resource, handle: handle))
        }
    }

    /// An engine's, of what its supervisor provides.
    /// - Parameters:
    ///   - known: what it has already.
    ///   - new: what it is given, what stands on other things last.
    ///   - limits: of before.
    /// - Returns: without what could not be had, and why not.
    static func provided(
        held known: [Held], new: [(piece: HandOver.Piece, descriptors: [Descriptor])],
        absences: [Part: Absence], socketInterfaces: [Int], _ configuration: Configuration,
        limits: InjectionLimits?
    ) -> (plumbing: Plumbing, failures: [Resource.Key: any Error]) {
        var plumbing = Plumbing(absences, socketInterfaces, configuration, limits)
        var failures: [Resource.Key: any Error] = [:]
        for one in known { plumbing.held[one.resource.key] = one }
        for (piece, own) in new {
            do {
                guard own.count == piece.descriptors else { throw misfit(piece) }
                let handle = try plumbing.adopt(piece, own)
                plumbing.held[piece.resource.key] = Held(resource: piece.resource, handle: handle)
            } catch {
                failures[piece.resource.key] = error
            }
        }
        plumbing.findProbeReturn(configuration)
        return (plumbing, failures)
    }

    private static func misfit(_ piece: HandOver.Piece) -> HostProblem {
        HostProblem(description: "the hand-over of \(piece.resource.text) is not whole")
    }

    private func adopt(_ piece: HandOver.Piece, _ own: [Descriptor]) throws -> AnyObject {
        switch piece.resource {
        case .hold where own.count == 1: return InterfaceGuard(adopting: own[0])
        case .rings(let rings) where own.count == rings.cpus.count + 1:
            return try OpenInterface(adopting: own, rings)
        case .device(let device) where own.count == device.queues && own.count > 0:
            return TunDevice(
                adopting: own, name: device.name, index: piece.index ?? 0,
                namespace: device.namespace?.identity, offloads: piece.offloads ?? [],
                refused: piece.refused ?? [])
        case .errors(let settings):
            let (first, last) = (own.first, own.last)
            let hasIPv4 = piece.hasIPv4 ?? false
            let sockets = ICMPErrorSockets(
                adopting: hasIPv4 ? first : nil, own.count > (hasIPv4 ? 1 : 0) ? last : nil)
            return ICMPErrors(settings, adopting: sockets)
        case .returnSocket(_, let index) where own.count == 1:
            return RawIPv6Socket(adopting: own[0], index: index)
        case .returnRoute(let address, let device):
            return HostRoute(adopting: address.bytes, device: try tun(device, of: piece).index)
        case .settings(let device, _, _), .reading(let device): return try tun(device, of: piece)
        case .filter(let interface, _, _):
            guard let rings = self.interface(interface) else { throw Self.misfit(piece) }
            return rings
        case .claim(let claim):
            return Claim(
                adopting: own, means: piece.means ?? .tcx, interface: claim.interface, index: claim.index,
                filterHandle: piece.filterHandle)
        case .socketClaim:
            return Claim(adopting: own, means: .socket, interface: "", index: 0, filterHandle: nil)
        default: throw Self.misfit(piece)
        }
    }

    private func tun(_ device: Resource.Device, of piece: HandOver.Piece) throws -> TunDevice {
        guard let tun = self.device(device.name) else { throw Self.misfit(piece) }
        return tun
    }

    /// Whether the other one holds the very same things.
    func isSame(as other: Plumbing) -> Bool {
        held.count == other.held.count && surplus.count == other.surplus.count
            && held.allSatisfy { key, one in
                other.held[key].map { $0.handle === one.handle && $0.resource == one.resource } ?? false
            }
    }

    /// Others meet this process where they look for who takes an interface's frames.
    func takeOverGuards() {
        for one in held.values {
            guard case .hold(_, let index) = one.resource, let hold = one.handle as? InterfaceGuard else {
                continue
            }
            hold.takeOver(index: index, holder: Host.identity())
        }
    }
}
